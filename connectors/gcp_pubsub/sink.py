"""The Pub/Sub sink: each batch is published and confirmed before `deliver` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc

from connectors.cloudevents import KAFKA_PREFIX, STRUCTURED_TYPE, binary_headers, bodies, structured
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.gcp_pubsub import preflight
from connectors.gcp_pubsub.client import ANSWER_SECONDS, Client, GetTopicRequest, PubsubMessage
from connectors.gcp_pubsub.decoding import PREFIX
from connectors.gcp_pubsub.failures import opening_failed
from connectors.gcp_pubsub.publishing import REQUEST_BYTES, publish
from connectors.gcp_pubsub.settings import PubsubSink

_ATTRIBUTE_BYTES = 1024
_ATTRIBUTES = 100
_KEY_BYTES = 1024


class PubsubSinkModule:
    """See `connectors.contracts.Sink`."""

    def __init__(self, settings: PubsubSink) -> None:
        self._settings = settings
        self.traits = SinkTraits(
            ordered=settings.ordering,
            delivery="at_least_once",
            topics=True,
            embeds=settings.format == "cloudevents_structured",
        )
        self._client: Client | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Check that each topic is there."""
        named = [*topics, *([self._settings.topic] if self._settings.topic else [])]
        return preflight.publishing(self._settings, [self._path(t) for t in dict.fromkeys(named)])

    def open(self, opening: SinkOpening) -> None:  # noqa: ARG002 - the sink keeps nothing
        """Connect; the module's topic must be there."""
        client = Client(self._settings)
        try:
            if self._settings.topic is not None:
                self._look(client, self._path(self._settings.topic))
        except BaseException:
            client.close()
            raise
        self._client = client

    def _look(self, client: Client, path: str) -> None:
        try:
            client.get_topic(GetTopicRequest(topic=path), timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            # Who may publish need not have the right to look.
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise opening_failed(error, client.address, f"the topic {path}") from error

    def _path(self, topic: str) -> str:
        return topic if "/" in topic else f"projects/{self._settings.project}/topics/{topic}"

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Publish the events and wait for each; a call takes up to `timeout`."""
        client = self._client
        assert client is not None, "deliver before open"  # noqa: S101
        topic = events.topic or self._settings.topic
        if topic is None:
            return dict.fromkeys(range(len(events)), _no_topic())
        if not len(events):
            return {}
        messages, failures = self._messages(events)
        places = [place for place in range(len(messages)) if place not in failures]
        failures |= publish(
            client.publish,
            self._path(topic),
            messages,
            places,
            most=self._settings.batch_size,
            timeout=self._settings.timeout,
            address=client.address,
        )
        return failures

    def _messages(self, events: Outgoing) -> tuple[list[Any], dict[int, PenstockError]]:
        values, attributes = self._written(events)
        keys = events.keys if self._settings.ordering else [None] * len(events)
        found: list[Any] = []
        failures: dict[int, PenstockError] = {}
        for value, named, key in zip(values, attributes, keys, strict=True):
            try:
                message = PubsubMessage(data=value or b"", attributes=named, ordering_key=key or "")
                error = _refusal(message)
            except (UnicodeEncodeError, ValueError):  # a lone surrogate
                message, error = None, _not_text()
            if error is not None:
                failures[len(found)] = error
            found.append(message)
        return found, failures

    def _written(
        self, events: Outgoing
    ) -> tuple[Sequence[bytes | None], Sequence[Mapping[str, str]]]:
        match self._settings.format:
            case "json":
                return events.values, [{}] * len(events)
            case "cloudevents_structured":
                return structured(events), [{"content-type": STRUCTURED_TYPE}] * len(events)
            case "cloudevents_binary":
                return bodies(events), [
                    {_name(name): value.decode() for name, value in headers}
                    for headers in binary_headers(events, KAFKA_PREFIX)
                ]

    def settled_state(self) -> None:
        """Keep nothing: Pub/Sub has it."""

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _name(header: str) -> str:
    if header.startswith(KAFKA_PREFIX):
        return PREFIX + header[len(KAFKA_PREFIX) :]
    return header


def _refusal(message: Any) -> PermanentError | None:
    """Return why Pub/Sub would refuse the message, as far as that is known beforehand."""
    size = message.ByteSize()
    if size > REQUEST_BYTES:
        return _too_large(f"the message has {size} bytes")
    if len(message.ordering_key.encode()) > _KEY_BYTES:
        return _too_large("the ordering key is too long")
    if not message.data and not message.attributes:
        return PermanentError(
            "the event has no data, and a message of Pub/Sub must have some, or attributes.",
            code="pubsub_empty",
            hint="Publish it as a CloudEvent: its attributes will do.",
        )
    if len(message.attributes) > _ATTRIBUTES:
        return _too_large(f"the message has {len(message.attributes)} attributes")
    for name, value in message.attributes.items():
        # A character has four bytes at the most.
        if len(value) > _ATTRIBUTE_BYTES // 4 and len(value.encode()) > _ATTRIBUTE_BYTES:
            return _too_large(f"the attribute {name} has {len(value.encode())} bytes")
    return None


def _too_large(what: str) -> PermanentError:
    return PermanentError(
        f"Pub/Sub would not take the event: {what}.",
        code="pubsub_too_large",
        hint="A message holds 10 MB, 100 attributes of 1024 bytes each, and a key of 1024 bytes;"
        " `format: cloudevents_structured` has no attributes to speak of.",
    )


def _not_text() -> PermanentError:
    return PermanentError(
        "the event's key or an attribute can't be written as UTF-8.",
        code="key_not_utf8",
        hint="It holds half of a surrogate pair; mend it where it comes from.",
    )


def _no_topic() -> FatalError:
    return FatalError(
        "the publish step names no topic, and the Pub/Sub module has none.",
        code="pubsub_no_topic",
        hint="Add `topic:` to the step's or the module's config.",
    )
