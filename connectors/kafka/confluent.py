"""Confluent's wire format for JSON Schema: a zero, the schema's id in four bytes, the JSON text.

Reading takes the id off and asks no registry: the schema says what the data is like, not how to read it.
Publishing asks one for the id of the last version of the topic's subject, `<topic>-value`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from urllib.parse import quote

import httpx

from connectors.batch import Batch, Column
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.kafka.settings import RegistrySettings

_MAGIC = 0
_PREFIX = 5
ID_HEADER = "__value_schema_id"
"""Where newer serializers put it instead: the value is then JSON alone."""

_PATIENCE = 10.0
_KNOWN_SECONDS = 60.0
"""As long is an id taken for that of the last version."""


def open_values(batch: Batch, raws: Column, headers: Column) -> list[int | None]:
    """Take the ids off the values, in place; return them. What has none fails by itself."""
    ids: list[int | None] = [None] * batch.size
    wires: list[bytes | None] = [None] * batch.size
    for index, value in enumerate(raws):
        if value is None:
            continue  # a tombstone
        if len(value) > _PREFIX and value[0] == _MAGIC:
            ids[index] = int.from_bytes(value[1:_PREFIX], "big")
            wires[index], raws[index] = value, value[_PREFIX:]
        elif not any(name == ID_HEADER for name, _ in headers[index] or ()):
            batch.errors[index] = PermanentError(
                "the value does not begin with the id of a schema.",
                code="confluent_prefix",
                hint="Confluent's format is a zero byte, four bytes of the id, then the JSON; what is"
                " written without it is read with `format: auto` or `json`.",
            )
            wires[index], raws[index] = value, None
    batch.columns["wire"] = wires
    return ids


class SchemaIds:
    """The ids that a sink writes before its values, asked of a registry. Blocks."""

    def __init__(self, settings: RegistrySettings) -> None:
        headers = {"accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if settings.auth is not None:
            kind, value = "Bearer", settings.auth
            if ":" in settings.auth:
                kind, value = "Basic", base64.b64encode(settings.auth.encode()).decode()
            headers["authorization"] = f"{kind} {value}"
        self._url = settings.url.rstrip("/")
        self._client = httpx.Client(base_url=self._url, headers=headers, timeout=_PATIENCE)
        self._known: dict[str, tuple[bytes, float]] = {}

    def prefixed(
        self, topic: str, values: Sequence[bytes | None]
    ) -> Sequence[bytes | None] | PenstockError:
        """Return the values with the topic's prefix, or why there is none."""
        try:
            prefix = self._prefix(topic)
        except PenstockError as error:
            return error
        return [None if value is None else prefix + value for value in values]

    def _prefix(self, topic: str) -> bytes:
        known = self._known.get(topic)
        now = time.monotonic()
        if known is not None and now - known[1] < _KNOWN_SECONDS:
            return known[0]
        try:
            prefix = bytes([_MAGIC]) + self.latest(topic).to_bytes(4, "big")
        except RetryableError:
            if known is None:
                raise
            prefix = known[0]  # a registry that is away stops no topic whose id is known
        self._known[topic] = (prefix, now)
        return prefix

    def latest(self, topic: str) -> int:
        """Return the id of the last version of the topic's schema. Raises FatalError, RetryableError."""
        subject = f"{topic}-value"
        try:
            answer = self._client.get(f"/subjects/{quote(subject, safe='')}/versions/latest")
        except httpx.HTTPError as error:
            raise RetryableError(
                f"the schema registry {self._url} does not answer: {error}.",
                code="schema_registry_unreachable",
                hint="Is it up, and `schema_registry.url` right?",
            ) from error
        if answer.status_code == 404:
            raise FatalError(
                f"the schema registry {self._url} has no subject {subject}.",
                code="kafka_schema_missing",
                hint="Register the topic's JSON Schema under that name.",
            )
        if answer.status_code in {401, 403}:
            raise FatalError(
                f"the schema registry {self._url} refuses us ({answer.status_code}).",
                code="schema_registry_refused",
                hint="Check `schema_registry.auth`.",
            )
        try:
            found = answer.raise_for_status().json()
            number = int(found["id"])
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise RetryableError(
                f"the schema registry {self._url} gave no id of {subject}: status {answer.status_code}.",
                code="schema_registry_unreachable",
                hint="Is `schema_registry.url` the address of a schema registry?",
            ) from error
        if found.get("schemaType") != "JSON":
            raise FatalError(
                f"the subject {subject} holds {found.get('schemaType', 'AVRO')}, not a JSON Schema.",
                code="kafka_schema_kind",
                hint="Only JSON Schema is written.",
            )
        return number

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
