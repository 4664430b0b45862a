"""A Confluent Schema Registry elsewhere, where a flow names one: its schemas are kept there instead."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx

from connectors.contracts import Check
from connectors.errors import FatalError
from flows.schemas.registry import Candidate
from flows.spec.registries import ExternalRegistry
from schema_registry import errors
from schema_registry.compatibility import Known, incompatibilities
from schema_registry.documents import Document, Reference, parse_schema
from schema_registry.errors import RegistryError
from schema_registry.rules import DEFAULT_LEVEL, LEVELS, Level
from schema_registry.validation import SchemaError

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"

_PATIENCE = 10.0
"""Seconds that one request may take."""

_MOST_REFERRED = 200


class RemoteRegistry:
    """What a flow's schemas ask of a registry, over HTTP. Blocks; close it.

    Versions are compared here, so that a refusal names rule and pointer whatever the other side says.
    What flow files call a version is not kept there. Raises RegistryError for what is refused,
    FatalError (`unreachable`) for a registry that does not answer.
    """

    def __init__(self, settings: ExternalRegistry) -> None:
        headers = {"accept": f"{MEDIA_TYPE}, application/json"}
        if settings.auth is not None:
            headers["authorization"] = _authorization(settings.auth)
        self._client = httpx.Client(
            base_url=settings.url.rstrip("/"), headers=headers, timeout=_PATIENCE
        )
        self._documents: dict[tuple[str, int], Document] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def verify(
        self,
        name: str,
        candidate: Candidate,
        *,
        label: str | None,  # noqa: ARG002 - is not kept there
        level: Level | None,
        planned: Sequence[Known],
    ) -> bool:
        """Tell whether a schema would be a new version. Raises IncompatibleError."""
        if self._lookup(name, candidate) is not None:
            return False
        level = level or self._level_in_force(name)
        if level != "NONE":
            numbers = self._versions(name)
            if not level.endswith("_TRANSITIVE"):
                numbers = [] if planned else numbers[-1:]
            try:
                known = [Known(number, self._document(name, number)) for number in numbers]
                found = incompatibilities(level, candidate.document, [*known, *planned])
            except SchemaError as error:
                raise errors.invalid_schema(error.message, error.hint) from None
            if found:
                raise errors.IncompatibleError(name, level, found)
        return True

    def held(self, name: str, candidate: Candidate) -> int:
        """Return the version that holds a schema. Raises RegistryError."""
        found = self._lookup(name, candidate)
        if found is None:
            raise errors.no_schema()
        return found

    def last(self, name: str) -> int:
        """Return the number of a subject's last version, 0 where there is none."""
        return max(self._versions(name), default=0)

    def put(self, name: str, candidate: Candidate, label: str | None) -> int:  # noqa: ARG002
        """Register a schema; return its version."""
        self._ask("POST", f"/subjects/{_quoted(name)}/versions", _body(candidate))
        return self.held(name, candidate)

    def level(self, name: str) -> Level | None:
        """Return the compatibility that a subject has of its own."""
        try:
            return _level(self._ask("GET", f"/config/{_quoted(name)}"))
        except RegistryError as error:
            if error.number in {40401, 40408}:  # older registries know no 40408
                return None
            raise

    def set_level(self, level: str, name: str) -> None:
        """Set the compatibility of a subject."""
        self._ask("PUT", f"/config/{_quoted(name)}", {"compatibility": level})

    def preflight(self) -> list[Check]:
        """Check that it answers, and takes JSON Schemas."""
        kinds = self._ask("GET", "/schemas/types")
        takes = isinstance(kinds, list) and "JSON" in kinds
        return [
            Check(
                "JSON Schema",
                ok=takes,
                found="kept there" if takes else "not kept there",
                hint="" if takes else "Use a registry that keeps JSON Schemas.",
            )
        ]

    def _level_in_force(self, name: str) -> Level:
        return self.level(name) or _level(self._ask("GET", "/config"))

    def _versions(self, name: str) -> list[int]:
        try:
            found = self._ask("GET", f"/subjects/{_quoted(name)}/versions")
        except RegistryError as error:
            if error.number == 40401:
                return []
            raise
        return sorted(int(each) for each in found)

    def _lookup(self, name: str, candidate: Candidate) -> int | None:
        try:
            found = self._ask("POST", f"/subjects/{_quoted(name)}", _body(candidate))
        except RegistryError as error:
            # 42201: it refers to what is not registered yet, so it is not registered either.
            if error.number in {40401, 40403, 42201}:
                return None
            raise
        return int(found["version"])

    def _document(self, name: str, version: int) -> Document:
        known = self._documents.get((name, version))
        if known is not None:
            return known
        if len(self._documents) > _MOST_REFERRED:
            raise SchemaError(f"it refers to more than {_MOST_REFERRED} other schemas.", ())
        found = self._ask("GET", f"/subjects/{_quoted(name)}/versions/{version}?deleted=true")
        if found.get("schemaType") != "JSON":
            raise SchemaError(f"version {version} of {name} there is no JSON Schema.", ())
        document = Document(
            parse_schema(found["schema"]),
            {
                each["name"]: self._document(each["subject"], each["version"])
                for each in found.get("references") or ()
            },
        )
        self._documents[name, version] = document
        return document

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._client.request(
                method, path, json=body, headers={"content-type": MEDIA_TYPE} if body else None
            )
        except httpx.HTTPError as error:
            raise FatalError(
                f"the schema registry {self._place} does not answer: {type(error).__name__}.",
                code="schema_registry_away",
                hint="Check schema_registry.url, and that the registry runs.",
                unreachable=True,
            ) from error
        content = None
        with suppress(ValueError):
            content = answer.json()
        if answer.is_success:
            return content
        if isinstance(content, dict) and answer.status_code in {404, 409, 422}:
            raise RegistryError(
                f"the schema registry {self._place} refuses it: {content.get('message')}",
                number=int(content.get("error_code") or answer.status_code),
                code="schema_registry_refused",
                hint="The message is its own.",
            )
        raise FatalError(
            f"the schema registry {self._place} answers {answer.status_code}.",
            code="schema_registry_answer",
            hint="Check schema_registry.auth."
            if answer.status_code in {401, 403}
            else "Check schema_registry.url, and the registry's log.",
        )

    @property
    def _place(self) -> str:
        return f"at {self._client.base_url.host}:{self._client.base_url.port or ''}".rstrip(":")


def _authorization(auth: str) -> str:
    if ":" in auth:
        return f"Basic {base64.b64encode(auth.encode()).decode()}"
    return f"Bearer {auth}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _body(candidate: Candidate) -> dict[str, Any]:
    return {
        "schema": candidate.text,
        "schemaType": "JSON",
        "references": [_reference(each) for each in candidate.references],
    }


def _reference(each: Reference) -> dict[str, Any]:
    return {"name": each.name, "subject": each.subject, "version": each.version}


def _level(answer: Any) -> Level:
    said = answer.get("compatibilityLevel") if isinstance(answer, dict) else None
    return next((level for level in LEVELS if level == said), DEFAULT_LEVEL)
