"""Messages of a subscription as a batch's columns.

A message without an envelope becomes an event with these attributes:

    id          the message's id
    source      //pubsub.googleapis.com/projects/<project>/subscriptions/<subscription>
    type        the source's `type`
    time        when it was published
    extensions  partitionkey (the ordering key), deliveryattempt (where the subscription counts it),
                traceparent and tracestate (attributes of that name)

CloudEvents in binary mode have their attributes as `ce-<name>` among the message's, as Google's own
services write them; values are plain text, not percent-encoded as in HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.batch import Batch, Column, Maker, Position
from connectors.cloudevents import (
    KAFKA_PREFIX,
    content_mode,
    data_of_body,
    decode_binary,
    decode_structured,
    is_json_type,
)
from connectors.enveloping import (
    Envelopes,
    absent,
    attribute,
    event_times,
    fill_keys,
    holds_event,
    json_types,
    own_extensions,
    rfc3339,
)
from connectors.errors import PermanentError
from connectors.progress import number_text

PREFIX = "ce-"
_TRACE = ("traceparent", "tracestate", "googclient_traceparent")


@dataclass(slots=True)
class Arrived:
    """A batch's state: the messages as they were received, and what is known of them."""

    received: Sequence[Any]
    first: int
    partition: str
    source: str
    type: str
    envelopes: Envelopes | None = None


def batch_of(arrived: Arrived, after: Mapping[str, Position], read_format: str) -> Batch:
    """Return the messages as a batch; `read_format` is the source's `format`."""
    raws: Column = [each.message.data for each in arrived.received]
    size = len(raws)
    weight = sum(map(len, raws))
    batch = Batch(size, {"raw": raws}, after=after, makers=_MAKERS, state=arrived, weight=weight)
    if b"" in raws:
        batch.columns["raw"] = raws = [raw or None for raw in raws]
    if read_format != "json":
        _open_envelopes(batch, raws, bare=read_format)
    return batch


def _open_envelopes(batch: Batch, raws: Column, *, bare: str) -> None:
    """Decode the events that carry a CloudEvent; what can't be decoded fails by itself."""
    size = batch.size
    envelopes: Envelopes = [None] * size
    wires: list[bytes | None] = [None] * size
    for index, received in enumerate(batch.state.received):
        value = raws[index]
        headers = _headers(received.message.attributes)
        try:
            mode = content_mode(headers, KAFKA_PREFIX) if headers else None
            if mode is None and value is not None and (bare == "cloudevents" or holds_event(value)):
                mode = "structured"
            if mode == "binary":
                envelope = envelopes[index] = decode_binary(headers, KAFKA_PREFIX)
                content_type = envelope.get("datacontenttype")
                if value is not None and not is_json_type(content_type):
                    raws[index] = data_of_body(value, content_type)
                    wires[index] = value
            elif mode == "structured" and value is not None:
                decoded = decode_structured(value)
                envelopes[index], raws[index], wires[index] = decoded.attributes, decoded.raw, value
            elif value is None and bare == "cloudevents":
                raise PermanentError(
                    "the message has no data, and none of a CloudEvent's attributes.",
                    code="cloudevents_missing",
                    hint="`format: auto` reads messages that are attributes alone as events without data.",
                )
            elif mode == "batched":
                raise PermanentError(
                    "the message holds a batch of CloudEvents.",
                    code="cloudevents_batch",
                    hint="Send one event per message.",
                )
        except PermanentError as error:
            batch.errors[index] = error
            envelopes[index], raws[index], wires[index] = None, None, value
    if any(envelopes):
        batch.state.envelopes = envelopes
    if any(wires):
        batch.columns["wire"] = wires


def _headers(attributes: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Return a message's attributes as the headers of a Kafka message, whose values are plain too."""
    if not attributes:
        return []
    return [
        (KAFKA_PREFIX + name[3:] if name[:3].lower() == PREFIX else name, value.encode())
        for name, value in attributes.items()
        if not name.startswith(KAFKA_PREFIX)
    ]


def published_at(message: Any) -> float:
    """Return when the message was published, in seconds since the epoch."""
    at = message.publish_time
    return float(at.seconds) + float(at.nanos) / 1e9


def _keys(batch: Batch) -> Column:
    keys: Column = [each.message.ordering_key or None for each in batch.state.received]
    fill_keys(keys, batch.state.envelopes)
    return keys


def _positions(batch: Batch) -> Column:
    first = batch.state.first
    return [number_text(first + place) for place in range(1, batch.size + 1)]


def _timestamps(batch: Batch) -> Column:
    arrived = [published_at(each.message) for each in batch.state.received]
    return event_times(batch.state.envelopes, list(arrived))


def _times(batch: Batch) -> Column:
    return [rfc3339(published_at(each.message)) for each in batch.state.received]


def _ids(batch: Batch) -> Column:
    return [each.message.message_id for each in batch.state.received]


def _extensions(batch: Batch) -> Column:
    found: Column = []
    envelopes = batch.state.envelopes or [None] * batch.size
    rows = zip(batch.state.received, envelopes, batch.column("key"), strict=True)
    for received, envelope, key in rows:
        extensions = {} if envelope is None else own_extensions(envelope)
        if key is not None:
            extensions.setdefault("partitionkey", key)
        if received.delivery_attempt:
            extensions["deliveryattempt"] = received.delivery_attempt
        attributes = received.message.attributes
        if attributes:
            for name in _TRACE:
                if name in attributes:
                    extensions.setdefault(name.removeprefix("googclient_"), attributes[name])
        found.append(extensions)
    return found


_MAKERS: dict[str, Maker] = {
    "key": _keys,
    "partition": lambda batch: [batch.state.partition] * batch.size,
    "position": _positions,
    "timestamp": _timestamps,
    "extensions": _extensions,
    "id": attribute("id", _ids),
    "source": attribute("source", lambda batch: [batch.state.source] * batch.size),
    "type": attribute("type", lambda batch: [batch.state.type] * batch.size),
    "time": attribute("time", _times),
    "subject": attribute("subject", absent),
    "datacontenttype": attribute("datacontenttype", json_types),
    "dataschema": attribute("dataschema", absent),
}
