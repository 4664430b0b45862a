"""Messages of a Kafka topic as a batch's columns.

What every flow reads (the values) is taken at once; the rest is made when something asks. The
exception are messages that carry a CloudEvent: they are decoded at once, since only then is it
known which of them are broken.

A message without an envelope becomes an event with these attributes:

    id          <topic>/<partition>/<offset>
    source      /kafka/<topic>
    type        <topic>.message
    time        the message's timestamp
    extensions  partitionkey (the key), traceparent and tracestate (headers of that name), schemaid (what
                Confluent's format puts before the value)

Keys are text. One that is not (or holds a NUL, which databases can't store) becomes `base64:`
and its base64, and the sink turns such a key back into its bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from connectors.batch import Arrival, Batch, Column, Maker, Position, derived
from connectors.cloudevents import (
    KAFKA_PREFIX,
    Scalar,
    content_mode,
    data_of_body,
    decode_binary,
    decode_structured,
    is_json_type,
)
from connectors.enveloping import (
    BASE64_KEY,
    absent,
    attribute,
    event_times,
    fill_keys,
    json_types,
    own_extensions,
    rfc3339,
    text_of_key,
)
from connectors.errors import PermanentError
from connectors.kafka.confluent import open_values
from connectors.kafka.positions import encode_position

Messages = list[Any]
"""Of confluent_kafka.Message, without error reports."""

MESSAGE: Any = Message
"""Its stubs say that each part may be None: so it may in a report, but not in a message."""

_TRACE = ("traceparent", "tracestate")


@dataclass(slots=True)
class _Arrived:
    """A batch's state: the messages, and what is known of their headers."""

    messages: Messages
    headers: Column | None = None
    """Per message its headers or None; None where no message has any (or they don't matter)."""
    ids: list[int | None] | None = None
    """Per message the id of its schema, where the format has one."""
    envelopes: list[dict[str, Scalar] | None] | None = None
    """Per message the attributes of its CloudEvent or None; None where there is no CloudEvent."""
    partition: str | None = None
    """The source partition that all of them are of; None where that is not known."""

    def picked(self, indexes: Sequence[int]) -> _Arrived:
        """Return what is known of these messages alone; see `connectors.batch.Batch.pick`."""
        headers, envelopes = self.headers, self.envelopes
        return _Arrived(
            [self.messages[k] for k in indexes],
            None if headers is None else [headers[k] for k in indexes],
            None if self.ids is None else [self.ids[k] for k in indexes],
            None if envelopes is None else [envelopes[k] for k in indexes],
            self.partition,
        )


def batch_of(messages: Messages, after: Mapping[str, Position], read_format: str) -> Batch:
    """Return the messages as a batch; `read_format` is the source's `format`."""
    arrived = _Arrived(messages, partition=next(iter(after)) if len(after) == 1 else None)
    raws = list(map(MESSAGE.value, messages))
    weight = sum(map(len, messages))
    batch = Batch(
        len(messages), {"raw": raws}, after=after, makers=_PLAIN, state=arrived, weight=weight
    )
    if read_format == "confluent_json":
        arrived.headers = list(map(MESSAGE.headers, messages))
        arrived.ids = open_values(batch, raws, arrived.headers)
        batch.makers = _MAKERS
    elif read_format != "json":
        headers = list(map(MESSAGE.headers, messages))
        if any(headers):
            arrived.headers = headers
        if arrived.headers is not None or read_format == "cloudevents":
            _open_envelopes(batch, raws, headers, bare_is_structured=read_format == "cloudevents")
            batch.makers = _MAKERS
    return batch


def _open_envelopes(
    batch: Batch, raws: Column, headers: Column, *, bare_is_structured: bool
) -> None:
    """Decode the events that carry a CloudEvent; what can't be decoded fails by itself."""
    size = batch.size
    envelopes: list[dict[str, Scalar] | None] = [None] * size
    wires: list[bytes | None] = [None] * size
    data: Column = []
    for index, found in enumerate(headers):
        value = raws[index]
        try:
            mode = content_mode(found, KAFKA_PREFIX) if found else None
            if mode == "binary":
                envelope = envelopes[index] = decode_binary(found, KAFKA_PREFIX)
                content_type = envelope.get("datacontenttype")
                if value is not None and not is_json_type(content_type):
                    raws[index] = data_of_body(value, content_type)
                    wires[index] = value
            elif value is None:
                pass  # a tombstone
            elif mode == "structured" or (mode is None and bare_is_structured):
                decoded = decode_structured(value)
                envelopes[index], raws[index], wires[index] = decoded.attributes, decoded.raw, value
                data.append(decoded.data)
            elif mode == "batched":
                raise PermanentError(
                    "the message holds a batch of CloudEvents.",
                    code="cloudevents_batch",
                    hint="The Kafka binding has no batched mode: send one event per message.",
                )
        except PermanentError as error:
            batch.errors[index] = error
            envelopes[index], raws[index], wires[index] = None, None, value
    if any(envelopes):
        batch.state.envelopes = envelopes
    if any(wires):
        batch.columns["wire"] = wires
    if len(data) == size:
        batch.columns["data"] = data


# --- what every message has -------------------------------------------------------------------


def _message_keys(messages: Messages) -> Column:
    keys: list[bytes | None] = list(map(MESSAGE.key, messages))
    try:
        texts = list(map(bytes.decode, keys))  # type: ignore[arg-type] # a None raises TypeError
    except (TypeError, UnicodeDecodeError):
        if keys.count(None) == len(keys):
            return keys
    else:
        if "\0" not in "".join(texts):
            return texts
    return [None if key is None else text_of_key(key) for key in keys]


def bytes_of_key(key: str) -> bytes:
    """Return what `text_of_key` was made from; a text that only looks like it stays itself.

    Raises UnicodeEncodeError for a lone surrogate.
    """
    if key.startswith(BASE64_KEY):
        try:
            decoded = base64.b64decode(key[len(BASE64_KEY) :], validate=True)
        except (binascii.Error, ValueError):
            pass
        else:
            if text_of_key(decoded) == key:
                return decoded
    return key.encode()


def _partitions(batch: Batch) -> Column:
    if batch.state.partition is not None:
        return [batch.state.partition] * batch.size
    messages = batch.state.messages
    topics, numbers = list(map(MESSAGE.topic, messages)), list(map(MESSAGE.partition, messages))
    if messages and topics.count(topics[0]) == numbers.count(numbers[0]) == len(messages):
        return [f"{topics[0]}/{numbers[0]}"] * len(messages)
    names: dict[tuple[str, int], str] = {}
    found = []
    for part in zip(topics, numbers, strict=True):
        name = names.get(part)
        if name is None:
            name = names[part] = f"{part[0]}/{part[1]}"
        found.append(name)
    return found


def _offsets(batch: Batch) -> Column:
    return list(map(MESSAGE.offset, batch.state.messages))


@derived("offset")
def _positions(batch: Batch) -> Column:
    return [encode_position(offset + 1) for offset in batch.column("offset")]


@derived("partition", "offset")
def _ids(batch: Batch) -> Column:
    places = zip(batch.column("partition"), batch.column("offset"), strict=True)
    return [f"{partition}/{offset}" for partition, offset in places]


@derived("partition")
def _sources(batch: Batch) -> Column:
    return ["/kafka/" + topic for topic in _topics(batch)]


@derived("partition")
def _types(batch: Batch) -> Column:
    return [topic + ".message" for topic in _topics(batch)]


def _topics(batch: Batch) -> Column:
    """Return the topic per event; few partitions share a batch."""
    names = batch.column("partition")
    topics = {name: name.rpartition("/")[0] for name in set(names)}
    return [topics[name] for name in names]


@derived("key")
def _plain_extensions(batch: Batch) -> Column:
    return [{} if key is None else {"partitionkey": key} for key in batch.column("key")]


def seconds_of(messages: Messages) -> Column:
    """Return the messages' timestamps in seconds since the epoch, None where one has none."""
    return [
        None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000
        for kind, milliseconds in map(MESSAGE.timestamp, messages)
    ]


@derived("timestamp")
def _times(batch: Batch) -> Column:
    return list(map(rfc3339, batch.column("timestamp")))


def _arrivals(batch: Batch) -> Column:
    return [
        Arrival(
            message.topic(),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            tuple(message.headers() or ()),
        )
        for message in batch.state.messages
    ]


def _message_times(batch: Batch) -> Column:
    return seconds_of(batch.state.messages)


# --- where events may have an envelope or headers -----------------------------------------------


def _keys(batch: Batch) -> Column:
    """Return the messages' keys; where one has none, its event's partitionkey."""
    arrived = batch.state
    keys = _message_keys(arrived.messages)
    fill_keys(keys, arrived.envelopes)
    return keys


def _timestamps(batch: Batch) -> Column:
    arrived = batch.state
    return event_times(arrived.envelopes, seconds_of(arrived.messages))


def _extensions(batch: Batch) -> Column:
    arrived, keys = batch.state, batch.column("key")
    if arrived.headers is None and arrived.envelopes is None:
        return [{} if key is None else {"partitionkey": key} for key in keys]
    nothing = [None] * batch.size
    rows = zip(arrived.envelopes or nothing, arrived.headers or nothing, keys, strict=True)
    found = [_extensions_of(envelope, headers, key) for envelope, headers, key in rows]
    if arrived.ids is not None:
        for extensions, number in zip(found, arrived.ids, strict=True):
            if number is not None:
                extensions["schemaid"] = number
    return found


def _extensions_of(
    envelope: dict[str, Scalar] | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
    key: str | None,
) -> dict[str, Scalar]:
    extensions: dict[str, Scalar] = {}
    if envelope is not None:
        extensions = own_extensions(envelope)
    if key is not None:
        extensions.setdefault("partitionkey", key)
    for name, value in headers or ():
        if name in _TRACE and value is not None and name not in extensions:
            extensions[name] = value.decode("ascii", "replace")
    return extensions


_PLAIN: dict[str, Maker] = {
    "key": lambda batch: _message_keys(batch.state.messages),
    "partition": _partitions,
    "offset": _offsets,
    "position": _positions,
    "timestamp": _message_times,
    "time": _times,
    "extensions": _plain_extensions,
    "extensions.partitionkey": lambda batch: batch.column("key"),
    "id": _ids,
    "source": _sources,
    "type": _types,
    "arrival": _arrivals,
}
"""For a batch in which no message has an envelope or headers: history keeps four columns of it."""

_MAKERS: dict[str, Maker] = {
    "key": _keys,
    "partition": _partitions,
    "offset": _offsets,
    "position": _positions,
    "timestamp": _timestamps,
    "extensions": _extensions,
    "id": attribute("id", _ids),
    "source": attribute("source", _sources),
    "type": attribute("type", _types),
    "time": attribute("time", _times),
    "subject": attribute("subject", absent),
    "datacontenttype": attribute("datacontenttype", json_types),
    "dataschema": attribute("dataschema", absent),
    "arrival": _arrivals,
}
