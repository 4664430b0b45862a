"""The ids of schemas that a sink writes before its values, asked of a registry.

A topic's is that of the last version of its subject, `<topic>-value`. This stands beside
`confluent`, since only who asks a registry needs an HTTP client: 4 MB of every worker's memory.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from urllib.parse import quote

import httpx

from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.kafka.confluent import prefix_of
from connectors.kafka.settings import RegistrySettings

_PATIENCE = 10.0
_KNOWN_SECONDS = 60.0
"""As long is an id taken for that of the last version."""


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
            prefix = prefix_of(self.latest(topic))
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
