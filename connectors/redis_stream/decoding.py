"""Entries of Redis streams as a batch's columns.

What every flow reads (the data) is taken at once; the rest is made when something asks. The
exception are entries that carry a CloudEvent: they are decoded at once, since only then is it
known which of them are broken.

An entry without an envelope becomes an event with these attributes:

    id          <stream>/<entry id>
    source      /redis/<stream>
    type        the source's `type`
    time        the entry id's time
    extensions  partitionkey (the key), where `key_field` names one

A CloudEvent is one JSON document in the data field, or in binary mode fields `ce_…`,
`content-type` and the data field. An entry whose fields are the data is a JSON object of strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

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
    text_of_key,
)
from connectors.errors import PermanentError
from connectors.progress import number_text
from connectors.redis_stream.buffer import Entries
from connectors.redis_stream.entries import EntryId

PREFIX = KAFKA_PREFIX
"""Of the fields that hold a CloudEvent's attributes in binary mode: there is no binding of Redis's."""

_BINARY = PREFIX.encode() + b"specversion"


@dataclass(frozen=True, slots=True)
class Format:
    """How entries are read."""

    kind: Literal["auto", "cloudevents", "json", "fields"]
    data_field: bytes
    key_field: bytes | None
    type: str


class Run(NamedTuple):
    """Entries of one partition in a batch."""

    partition: str
    entries: Entries
    ids: list[EntryId]
    first: int
    """The number before the first entry's."""


@dataclass(slots=True)
class _Arrived:
    """A batch's state: the entries, and what is known of their envelopes."""

    format: Format
    partitions: Column
    entries: Entries
    numbers: Sequence[int]
    envelopes: Envelopes | None = None
    errors: dict[int, PermanentError] = field(default_factory=dict)

    def picked(self, indexes: Sequence[int]) -> _Arrived:
        """Return what is known of these entries alone; see `connectors.batch.Batch.pick`."""
        envelopes = self.envelopes
        return _Arrived(
            self.format,
            [self.partitions[k] for k in indexes],
            [self.entries[k] for k in indexes],
            [self.numbers[k] for k in indexes],
            None if envelopes is None else [envelopes[k] for k in indexes],
        )


def batch_of(runs: Sequence[Run], after: Mapping[str, Position], how: Format, weight: int) -> Batch:
    """Return the entries as a batch."""
    if len(runs) == 1:
        run = runs[0]
        entries, partitions = run.entries, [run.partition] * len(run.entries)
        numbers: Sequence[int] = range(run.first + 1, run.first + 1 + len(entries))
    else:
        entries = [entry for run in runs for entry in run.entries]
        partitions = [run.partition for run in runs for _ in run.entries]
        numbers = [run.first + 1 + k for run in runs for k in range(len(run.entries))]
    arrived = _Arrived(how, partitions, entries, numbers)
    batch = Batch(len(entries), {}, after=after, makers=_PLAIN, state=arrived, weight=weight)
    name = how.data_field
    if how.kind == "fields":
        raws = _all_fields(batch, range(batch.size), [None] * batch.size)
    else:
        raws = [f[1] if f[0] == name else _field(f, name) for _, f in entries]
        if None in raws:
            _without_data(batch, raws)
    batch.columns["raw"] = raws
    if how.kind in {"auto", "cloudevents"}:
        _open_envelopes(batch, raws)
    return batch


def _field(fields: Sequence[bytes], name: bytes) -> bytes | None:
    """Return a field's value, the last of that name."""
    for at in range(len(fields) - 2, -1, -2):
        if fields[at] == name:
            return fields[at + 1]
    return None


def _all_fields(batch: Batch, indexes: Sequence[int], raws: Column) -> Column:
    """Make the data of those entries' fields; one that holds bytes that are no text fails alone."""
    entries = batch.state.entries
    for index in indexes:
        fields = entries[index][1]
        try:
            texts = [part.decode() for part in fields]
            raws[index] = orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=True)))
        except UnicodeDecodeError:
            batch.errors[index] = PermanentError(
                "a field of the entry is not UTF-8.",
                code="redis_not_utf8",
                hint="Its bytes are kept with the dead letter, as RESP. Read such entries by"
                " `data_field`.",
            )
            _keep_wire(batch, index, _resp(fields))
    return raws


def _without_data(batch: Batch, raws: Column) -> None:
    """Do for entries without the data field as the format says."""
    missing = [index for index, raw in enumerate(raws) if raw is None]
    kind, entries = batch.state.format.kind, batch.state.entries
    if kind == "auto":
        plain = [k for k in missing if _BINARY not in entries[k][1]]
        _all_fields(batch, plain, raws)
        return
    name = batch.state.format.data_field.decode("utf-8", "replace")
    for index in missing:
        if kind == "cloudevents" and _BINARY in entries[index][1]:
            continue  # an event without data
        batch.errors[index] = PermanentError(
            f"the entry has no field {name!r}.",
            code="redis_no_data_field",
            hint="Its fields are kept with the dead letter, as RESP. `data_field` names another one,"
            " and `format: fields` reads them all.",
        )
        _keep_wire(batch, index, _resp(entries[index][1]))


def _open_envelopes(batch: Batch, raws: Column) -> None:
    """Decode the events that carry a CloudEvent; what can't be decoded fails by itself."""
    arrived: _Arrived = batch.state
    every = arrived.format.kind == "cloudevents"
    if not every:
        word = b'"specversion"'
        suspects = [
            k
            for k, (raw, (_, fields)) in enumerate(zip(raws, arrived.entries, strict=True))
            if (raw is not None and word in raw) or (len(fields) > 2 and _BINARY in fields)
        ]
        if not suspects:
            return
    else:
        suspects = list(range(batch.size))
    envelopes: Envelopes = [None] * batch.size
    data: dict[int, Any] = {}
    for index in suspects:
        if index in batch.errors:
            continue
        fields, raw = arrived.entries[index][1], raws[index]
        try:
            if len(fields) > 2 and _BINARY in fields:
                envelope = envelopes[index] = _binary(fields)
                content_type = envelope.get("datacontenttype")
                if raw is not None and not is_json_type(content_type):
                    raws[index] = data_of_body(raw, content_type)
                    _keep_wire(batch, index, raw)
            elif every or holds_event(raw):
                decoded = decode_structured(raw)
                envelopes[index], raws[index] = decoded.attributes, decoded.raw
                data[index] = decoded.data
                _keep_wire(batch, index, raw)
        except PermanentError as error:
            batch.errors[index] = error
            envelopes[index], raws[index] = None, None
            _keep_wire(batch, index, raw)
    if any(envelopes):
        arrived.envelopes = envelopes
        batch.makers = _MAKERS
    if len(data) == batch.size:
        batch.columns["data"] = [data[index] for index in range(batch.size)]


def _binary(fields: Sequence[bytes]) -> dict[str, Scalar]:
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return decode_binary(
        [(name.decode("utf-8", "replace"), value) for name, value in pairs], PREFIX
    )


def _keep_wire(batch: Batch, index: int, wire: bytes | None) -> None:
    column = batch.columns.get("wire")
    if column is None:
        column = batch.columns["wire"] = [None] * batch.size
    column[index] = wire


def _resp(fields: Sequence[bytes]) -> bytes:
    """Return fields as the server sends them: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(fields)]
    parts += [b"$%d\r\n%b\r\n" % (len(part), part) for part in fields]
    return b"".join(parts)


# --- what every entry has ---------------------------------------------------------------------------


def _partitions(batch: Batch) -> Column:
    partitions: Column = batch.state.partitions
    return partitions


def _positions(batch: Batch) -> Column:
    return [number_text(number) for number in batch.state.numbers]


def _entry_ids(batch: Batch) -> Column:
    return [entry.decode() for entry, _ in batch.state.entries]


@derived("partition")
def _streams(batch: Batch) -> Column:
    names = batch.column("partition")
    streams = {name: name.rpartition("/")[0] for name in set(names)}
    return [streams[name] for name in names]


@derived("partition", "entry")
def _ids(batch: Batch) -> Column:
    places = zip(_streams(batch), batch.column("entry"), strict=True)
    return [f"{stream}/{entry}" for stream, entry in places]


@derived("partition")
def _sources(batch: Batch) -> Column:
    return ["/redis/" + stream for stream in _streams(batch)]


def _types(batch: Batch) -> Column:
    return [batch.state.format.type] * batch.size


@derived("entry")
def _entry_times(batch: Batch) -> Column:
    return [int(entry.partition("-")[0]) / 1000 for entry in batch.column("entry")]


@derived("timestamp")
def _times(batch: Batch) -> Column:
    return list(map(rfc3339, batch.column("timestamp")))


def _plain_keys(batch: Batch) -> Column:
    name = batch.state.format.key_field
    if name is None:
        return [None] * batch.size
    values = [_field(fields, name) for _, fields in batch.state.entries]
    return [None if value is None else text_of_key(value) for value in values]


@derived("key")
def _plain_extensions(batch: Batch) -> Column:
    return [{} if key is None else {"partitionkey": key} for key in batch.column("key")]


# --- where entries may have an envelope -------------------------------------------------------------


def _keys(batch: Batch) -> Column:
    """Return the key field's values; where an entry has none, its event's partitionkey."""
    keys = _plain_keys(batch)
    fill_keys(keys, batch.state.envelopes)
    return keys


def _timestamps(batch: Batch) -> Column:
    return event_times(batch.state.envelopes, _entry_times(batch))


def _extensions(batch: Batch) -> Column:
    found = []
    for envelope, key in zip(batch.state.envelopes, batch.column("key"), strict=True):
        own = own_extensions(envelope) if envelope else {}
        if key is not None:
            own.setdefault("partitionkey", key)
        found.append(own)
    return found


_PLAIN: dict[str, Maker] = {
    "key": _plain_keys,
    "partition": _partitions,
    "entry": _entry_ids,
    "position": _positions,
    "timestamp": _entry_times,
    "time": _times,
    "extensions": _plain_extensions,
    "extensions.partitionkey": lambda batch: batch.column("key"),
    "id": _ids,
    "source": _sources,
    "type": _types,
}

_MAKERS: dict[str, Maker] = {
    "key": _keys,
    "partition": _partitions,
    "entry": _entry_ids,
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
}
