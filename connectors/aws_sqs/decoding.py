"""SQS messages as a batch's columns.

A message without an envelope becomes an event with these attributes:

    id          the message id
    source      /sqs/<queue>
    type        the source's `type`
    time        when it was sent
    extensions  partitionkey (a FIFO queue's message group), receivecount

A CloudEvent is one JSON document in the body, or in binary mode message attributes `ce_…` and
`content-type` beside the data in the body. What SNS has put around a message is taken off: then the
event's id and time are those of the notification, its source the topic, its subject the subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from connectors.aws_sqs.in_flight import Message
from connectors.batch import Batch, Column, Maker, Position, derived
from connectors.cloudevents import (
    KAFKA_PREFIX,
    Scalar,
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

PREFIX = KAFKA_PREFIX
"""Of message attributes that hold a CloudEvent's: there is no binding of SQS's."""

_BINARY = PREFIX + "specversion"


@dataclass(frozen=True, slots=True)
class Format:
    """How messages are read."""

    kind: Literal["auto", "cloudevents", "json", "sns"]
    type: str
    queue: str
    is_fifo: bool


@dataclass(slots=True)
class _Arrived:
    """A batch's state: the messages, and what is known of their envelopes."""

    format: Format
    partition: str
    messages: Sequence[Message]
    numbers: Sequence[int]
    envelopes: Envelopes | None = None

    def picked(self, indexes: Sequence[int]) -> _Arrived:
        """Return what is known of these messages alone; see `connectors.batch.Batch.pick`."""
        envelopes = self.envelopes
        return _Arrived(
            self.format,
            self.partition,
            [self.messages[k] for k in indexes],
            [self.numbers[k] for k in indexes],
            None if envelopes is None else [envelopes[k] for k in indexes],
        )


def batch_of(
    messages: Sequence[Message], first: int, partition: str, after: Position, how: Format
) -> Batch:
    """Return the messages as a batch; `first` is the number before the first one's."""
    raws: Column = [message["Body"].encode("utf-8", "surrogatepass") for message in messages]
    size = len(messages)
    arrived = _Arrived(how, partition, messages, range(first + 1, first + 1 + size))
    batch = Batch(
        size,
        {"raw": raws},
        after={partition: after},
        makers=_PLAIN,
        state=arrived,
        weight=sum(map(len, raws)) * 2,
    )
    if how.kind != "json":
        _open_envelopes(batch, raws)
    return batch


def _open_envelopes(batch: Batch, raws: Column) -> None:
    """Take off what is around the data; what can't be taken off fails by itself."""
    arrived: _Arrived = batch.state
    kind = arrived.format.kind
    envelopes: Envelopes = [None] * batch.size
    wires: Column = [None] * batch.size
    for index, message in enumerate(arrived.messages):
        body = raws[index]
        try:
            given = message.get("MessageAttributes") or {}
            around: dict[str, Scalar] | None = None
            if kind == "sns" or (kind == "auto" and b'"TopicArn"' in body):
                around, unwrapped, inner = _notification(body, must=kind == "sns")
                if around is not None:
                    raws[index], wires[index], given = unwrapped, body, inner
            envelope, raws[index] = _envelope(raws[index], given, must=kind == "cloudevents")
            if envelope is not None:
                wires[index] = body
            envelopes[index] = envelope or around
        except PermanentError as error:
            batch.errors[index] = error
            raws[index], wires[index] = None, body
    if any(envelopes):
        arrived.envelopes = envelopes
        batch.makers = _MAKERS
    if any(wires):
        batch.columns["wire"] = wires


def _envelope(
    body: bytes, given: Mapping[str, Any], *, must: bool
) -> tuple[dict[str, Scalar] | None, bytes | None]:
    """Return a CloudEvent's attributes and its data; None and the body where it is none."""
    if _BINARY in given:
        headers = [(name, _text(value)) for name, value in given.items()]
        found = decode_binary(headers, PREFIX)
        content_type = found.get("datacontenttype")
        if is_json_type(content_type):
            return found, None if body == b"null" else body
        return found, data_of_body(body, content_type)
    if must or holds_event(body):
        decoded = decode_structured(body)
        return decoded.attributes, decoded.raw
    return None, body


def _text(value: Mapping[str, Any]) -> str:
    """Return a message attribute's text, as SQS or SNS writes it; binary ones are base64."""
    return str(value.get("StringValue") or value.get("Value") or value.get("BinaryValue") or "")


def _notification(
    body: bytes, *, must: bool
) -> tuple[dict[str, Scalar] | None, bytes, Mapping[str, Any]]:
    """Return what an SNS notification says of its message, the message, and its attributes."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    is_one = isinstance(found, dict) and {"Type", "TopicArn", "Message"} <= found.keys()
    if not is_one or not isinstance(found["Message"], str) or found["Type"] != "Notification":
        if must:
            raise PermanentError(
                "the message is no SNS notification.",
                code="sns_not_a_notification",
                hint="Its bytes are kept with the dead letter. `format: auto` reads what is none, too;"
                " so it does what a subscription with raw delivery sends.",
            )
        return None, body, {}
    attributes: dict[str, Scalar] = {"source": str(found["TopicArn"])}
    for name, member in (("id", "MessageId"), ("subject", "Subject"), ("time", "Timestamp")):
        if isinstance(found.get(member), str) and found[member]:
            attributes[name] = found[member]
    inner = found.get("MessageAttributes")
    message: str = found["Message"]
    return (
        attributes,
        message.encode("utf-8", "surrogatepass"),
        inner if isinstance(inner, dict) else {},
    )


# --- what every message has -------------------------------------------------------------------------


def _ids(batch: Batch) -> Column:
    return [message["MessageId"] for message in batch.state.messages]


@derived("partition")
def _sources(batch: Batch) -> Column:
    return ["/sqs/" + name.rpartition("/")[0] for name in batch.column("partition")]


def _sent(batch: Batch) -> Column:
    found = [message.get("Attributes", {}).get("SentTimestamp") for message in batch.state.messages]
    return [None if at is None else int(at) / 1000 for at in found]


def _timestamps(batch: Batch) -> Column:
    return event_times(batch.state.envelopes, _sent(batch))


@derived("timestamp")
def _times(batch: Batch) -> Column:
    return list(map(rfc3339, batch.column("timestamp")))


def _keys(batch: Batch) -> Column:
    keys: Column = [None] * batch.size
    if batch.state.format.is_fifo:
        keys = [m.get("Attributes", {}).get("MessageGroupId") for m in batch.state.messages]
    fill_keys(keys, batch.state.envelopes)
    return keys


def _extensions(batch: Batch) -> Column:
    messages: Sequence[Message] = batch.state.messages
    envelopes = batch.state.envelopes or [None] * batch.size
    found = []
    for message, envelope, key in zip(messages, envelopes, batch.column("key"), strict=True):
        own = own_extensions(envelope) if envelope else {}
        if key is not None:
            own.setdefault("partitionkey", key)
        count = message.get("Attributes", {}).get("ApproximateReceiveCount")
        if count is not None:
            own["receivecount"] = int(count)
        found.append(own)
    return found


def _types(batch: Batch) -> Column:
    return [batch.state.format.type] * batch.size


def _with_default(name: str, plain: Maker) -> Maker:
    """Return a maker as `attribute` does; for a notification that does not have it, `plain`."""
    make = attribute(name, plain)

    def made(batch: Batch) -> Column:
        found = make(batch)
        if None in found:
            plains = plain(batch)
            found = [plains[k] if entry is None else entry for k, entry in enumerate(found)]
        return found

    return made


_PLAIN: dict[str, Maker] = {
    "key": _keys,
    "partition": lambda batch: [batch.state.partition] * batch.size,
    "position": lambda batch: [number_text(number) for number in batch.state.numbers],
    "timestamp": _timestamps,
    "time": _times,
    "extensions": _extensions,
    "id": _ids,
    "source": _sources,
    "type": _types,
}

_MAKERS: dict[str, Maker] = {
    **_PLAIN,
    "id": _with_default("id", _ids),
    "source": _with_default("source", _sources),
    "type": _with_default("type", _types),
    "time": _with_default("time", _times),
    "subject": attribute("subject", absent),
    "datacontenttype": _with_default("datacontenttype", json_types),
    "dataschema": attribute("dataschema", absent),
}
