"""Objects as Parquet: a batch becomes an Arrow table of fixed columns; an object, the tables of its batches.

All objects have the schema that the settings say, whatever is in the events: an event whose values do not fit it
fails alone, when it is delivered. Parts are Arrow IPC streams, so what is staged has its schema with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.contracts import Attribute, Outgoing
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.rendering import context_of
from connectors.s3.content import Evaluate, Prepared
from connectors.s3.objects import OpenObject
from connectors.s3.settings import ParquetColumn, S3Sink, decimal_digits

_INSTANT = pa.timestamp("us", tz="UTC")
_PLAIN = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "timestamp": _INSTANT,
    "json": pa.string(),
}
_NUMBERS = {"int32", "int64", "float32", "float64"}
_TEXTS = ("id", "source", "type", "subject", "datacontenttype", "dataschema")
_ALWAYS = {"id", "source", "type"}
_OWN = {*_TEXTS, "time", "specversion"}
_ENVELOPE = pa.schema(
    [
        *[pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "type")],
        pa.field("subject", pa.string()),
        pa.field("time", _INSTANT),
        pa.field("datacontenttype", pa.string()),
        pa.field("dataschema", pa.string()),
        pa.field("extensions", pa.map_(pa.string(), pa.string())),
        pa.field("data", pa.string()),
    ]
)
_DIGITS = r"(\.\d{6})\d+"
"""Fractions of a second beyond what the column has; they are left out."""

_SMALL, _MANY = 64_000, 64
"""A stream of one event is some 3 kB: so many in a row below so many bytes are merged into one."""

_UNFIT = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""What a value raises that is not of a type; UnicodeError is among them."""


class Rows:
    """Batches as tables. See `connectors.s3.content.Content`."""

    ending = ""

    def __init__(self, settings: S3Sink, compile_jq: Callable[[str], Evaluate] | None) -> None:
        """Raise FatalError where columns are jq programs and there is nothing to run them with."""
        self._columns: dict[str, ParquetColumn] = {
            name: ParquetColumn(type=each) if isinstance(each, str) else each
            for name, each in (settings.columns or {}).items()
        }
        self._programs: dict[str, Evaluate] = {}
        for name, column in self._columns.items():
            if column.value is None:
                continue
            if compile_jq is None:
                raise FatalError(
                    "values of `columns` are jq programs, and there is nothing to run them with.",
                    code="jq_compiler",
                    hint="Open the sink with SinkOpening.compile_jq.",
                )
            self._programs[name] = compile_jq(column.value)
        self._schema = _schema_of(self._columns) if self._columns else _ENVELOPE

    def prepared(self, events: Outgoing) -> Prepared:
        """Make a table of the batch; an event that does not fit is null there, and fails."""
        failures: dict[int, PenstockError] = {}
        if self._columns:
            values = self._values(events, failures)
            arrays = [
                self._array(name, column, values[name], failures)
                for name, column in self._columns.items()
            ]
        else:
            arrays = _envelopes(events, failures)
        table = pa.RecordBatch.from_arrays(arrays, schema=self._schema)

        def part(places: Sequence[int]) -> bytes:
            whole = len(places) == table.num_rows
            return _stream(table if whole else table.take(pa.array(places, pa.int64())))

        return Prepared(part, failures)

    def _values(self, events: Outgoing, failures: dict[int, PenstockError]) -> dict[str, list[Any]]:
        """Return each column's values, as JSON has them."""
        found: dict[str, list[Any]] = {name: [] for name in self._columns}
        by_name = [name for name in found if name not in self._programs]
        if by_name:
            nothing: dict[str, Any] = {}
            rows = []
            for place, value in enumerate(events.values):
                row = None if value is None else orjson.loads(value)
                if type(row) is not dict:
                    failures[place] = _no_object(row, by_name[0])
                    row = nothing
                rows.append(row)
            for name in by_name:
                found[name] = [row.get(name) for row in rows]
        if self._programs:
            attributes = events.attributes()
            for place, value in enumerate(events.values):
                context = context_of(attributes, value, place)
                for name, program in self._programs.items():
                    try:
                        found[name].append(program(context))
                    except PermanentError as error:
                        failures.setdefault(place, error)
                        found[name].append(None)
        return found

    def _array(
        self,
        name: str,
        column: ParquetColumn,
        values: Sequence[Any],
        failures: dict[int, PenstockError],
    ) -> Any:
        array = _converted(name, column.type, values, failures)
        if column.required and array.null_count:
            for place, valid in enumerate(array.is_valid().to_pylist()):
                if not valid:
                    failures.setdefault(place, _missing(name))
        return array

    def fits(self, one: OpenObject) -> bool:
        """Return whether the object's tables have this schema."""
        try:
            return all(pa.ipc.open_stream(part).schema == self._schema for part in one.parts)
        except pa.ArrowInvalid:  # lines
            return False

    def compact(self, one: OpenObject) -> None:
        """Merge the last tables where they are small and many."""
        small = 0
        for part in reversed(one.parts):
            if len(part) >= _SMALL:
                break
            small += 1
        if small >= _MANY:
            last = one.parts[-small:]
            merged = pa.concat_tables(map(_table, last)).combine_chunks().to_batches()
            one.parts[-small:] = [_stream(*merged)]
            one.size += len(one.parts[-1]) - sum(map(len, last))


def parquet_of(parts: Sequence[bytes], codec: str) -> bytes:
    """Return a Parquet file with the tables of the parts, in their order. Raises FatalError."""
    try:
        table = pa.concat_tables(map(_table, parts))
    except pa.ArrowException as error:
        raise FatalError(
            f"what is staged of an object can't be read: {error}.",
            code="s3_staging",
            hint="Something else writes under the staging prefix: give the sink one of its own.",
        ) from error
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression=codec)
    return bytes(out.getvalue().to_pybytes())


def _stream(*tables: Any) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, tables[0].schema) as writer:
        for table in tables:
            writer.write_batch(table)
    return bytes(out.getvalue().to_pybytes())


def _table(part: bytes) -> Any:
    with pa.ipc.open_stream(part) as reader:
        return reader.read_all()


# --- columns that are declared ----------------------------------------------------------------


def _schema_of(columns: Mapping[str, ParquetColumn]) -> Any:
    fields = []
    for name, column in columns.items():
        fields.append(pa.field(name, _arrow_type(column.type), nullable=not column.required))
    return pa.schema(fields)


def _arrow_type(kind: str) -> Any:
    digits = decimal_digits(kind)
    return _PLAIN[kind] if digits is None else pa.decimal128(*digits)


def _converted(
    name: str, kind: str, values: Sequence[Any], failures: dict[int, PenstockError]
) -> Any:
    """Return the values as an array of that type; one that does not fit is null, and fails."""
    try:
        return _array_of(kind, values)
    except _UNFIT:
        pass
    # One of them does not fit, or they are written in several ways: one by one.
    single = []
    for place, value in enumerate(values):
        try:
            single.append(_array_of(kind, [value]))
        except _UNFIT:
            failures.setdefault(place, _unfit(name, kind, value))
            single.append(pa.nulls(1, _arrow_type(kind)))
    return pa.concat_arrays(single)


def _array_of(kind: str, values: Sequence[Any]) -> Any:
    """Return the values as an array. Raises one of _UNFIT."""
    if kind == "json":
        return pa.array([None if value is None else _json(value) for value in values], pa.string())
    if kind == "date":
        return pa.array(values, pa.string()).cast(pa.date32())
    if kind == "timestamp":
        return _instants(values)
    if kind in _NUMBERS:
        return _numbers(kind, values)
    if kind in _PLAIN:
        return pa.array(values, _PLAIN[kind])
    return pa.array([_decimal(value) for value in values], _arrow_type(kind))


def _numbers(kind: str, values: Sequence[Any]) -> Any:
    """Return numbers that lose nothing by their type but a float's precision. Raises one of _UNFIT."""
    found = set(map(type, values))
    if bool in found:
        raise TypeError("a boolean is no number")
    if str in found:  # a change's numeric, which is text that it may stay exact
        texts = pa.array(values, pa.string())
        if kind != "float32":
            return texts.cast(_PLAIN[kind])
        doubles = texts.cast(pa.float64())
    elif kind.startswith("int"):
        if float in found:  # Arrow would cut them
            values = [_whole(value) for value in values]
        return pa.array(values, _PLAIN[kind])
    else:
        doubles = pa.array(values, pa.float64())
    if kind == "float64":
        return doubles
    floats = doubles.cast(pa.float32())
    if pc.sum(pc.is_inf(floats)) != pc.sum(pc.is_inf(doubles)):
        raise ValueError("too large")
    return floats


def _whole(value: Any) -> Any:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return value


def _instants(values: Sequence[Any]) -> Any:
    """Return RFC 3339 texts as instants; one without an offset is in UTC."""
    texts = pa.array(values, pa.string())
    try:
        return texts.cast(_INSTANT)
    except pa.ArrowException:
        texts = pc.replace_substring_regex(texts, pattern=_DIGITS, replacement=r"\1")
    try:
        return texts.cast(_INSTANT)
    except pa.ArrowException:
        return texts.cast(pa.timestamp("us")).cast(_INSTANT)


def _decimal(value: Any) -> Decimal | None:
    match value:
        case None:
            return None
        case bool():
            raise TypeError("a boolean is no number")
        case int() | str():
            found = Decimal(value)
        case float():
            found = Decimal(repr(value))
        case _:
            raise TypeError("no number")
    if not found.is_finite():  # Arrow would take it for a null
        raise ValueError("not a finite number")
    return found


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer past 64 bits
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- CloudEvents ------------------------------------------------------------------------------


def _envelopes(events: Outgoing, failures: dict[int, PenstockError]) -> list[Any]:
    """Return the columns of _ENVELOPE."""
    attributes, count = events.attributes(), len(events)
    found = {name: _column(attributes.get(name), count) for name in (*_TEXTS, "time")}
    arrays = {
        name: _converted(name, "timestamp" if name == "time" else "string", values, failures)
        for name, values in found.items()
    }
    for name in _ALWAYS:
        if arrays[name].null_count:
            for place, value in enumerate(found[name]):
                if value is None:
                    failures.setdefault(place, _missing(name))
    arrays["extensions"] = _extensions(attributes, count)
    arrays["data"] = _converted("data", "string", events.values, failures)
    return [arrays[name] for name in _ENVELOPE.names]


def _column(value: Attribute | None, count: int) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] * count


def _extensions(attributes: Mapping[str, Attribute], count: int) -> Any:
    """Return the other attributes as a map per event, their values as the strings that they stand for."""
    columns = {
        name: [None if v is None else _text(v) for v in _column(value, count)]
        for name, value in attributes.items()
        if name not in _OWN
    }
    names = list(columns)
    rows = list(zip(*columns.values(), strict=True)) or [()] * count
    if not any(None in values for values in columns.values()):
        keys = names * count
        offsets = range(0, len(keys) + 1, len(names)) if names else [0] * (count + 1)
        items = list(chain.from_iterable(rows))
    else:
        pairs = [
            [(name, value) for name, value in zip(names, row, strict=True) if value is not None]
            for row in rows
        ]
        keys = [name for row in pairs for name, _ in row]
        items = [value for row in pairs for _, value in row]
        offsets = [0]
        for row in pairs:
            offsets.append(offsets[-1] + len(row))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(items, pa.string())
    )


def _text(value: str | int | bool) -> str:
    """Return the canonical string of an attribute; U+FFFD for a lone surrogate."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- what fails -------------------------------------------------------------------------------


def _unfit(name: str, kind: str, value: Any) -> PermanentError:
    shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else _shown(value)
    return PermanentError(
        f"the value of {name} can't be written as {kind}: {shown[:100]}.",
        code="parquet_value",
        hint="Give the column another type, or shape the value in a step before.",
    )


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _missing(name: str) -> PermanentError:
    return PermanentError(
        f"the event has no value for {name}, which is required.",
        code="parquet_value",
        hint="Take `required` from the column, or give the value in a step before.",
    )


def _no_object(row: Any, name: str) -> PermanentError:
    what = "no data" if row is None else f"{type(row).__name__} as its data"
    return PermanentError(
        f"the event has {what}, and {name} is a field of an object.",
        code="parquet_value",
        hint="Say where the columns' values are (`value`), or shape the data in a step before.",
    )
