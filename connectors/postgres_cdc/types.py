"""Column values: from the server's text to JSON text, without losing anything.

    smallint, integer, bigint, oid     JSON integer, exact to 64 bits
    real, double precision             JSON number; NaN, Infinity, -Infinity as strings
    numeric                            string, exactly as the server writes it
    boolean                            true, false
    json, jsonb                        embedded as it is (digits and all)
    timestamp                          string, 2026-01-31T12:00:00.5
    timestamptz                        string, 2026-01-31T12:00:00.5Z (the session is in UTC)
    bytea                              string, base64
    arrays                             JSON arrays, nested as they are, NULL elements as null;
                                       one with shifted bounds is the server's text, `[0:1]={1,2}`
    everything else                    string, the server's text: text, enums, uuid, date, time,
                                       interval (ISO 8601), ranges, hstore, composite types …

Domains are read as what they are based on. A timestamp outside ISO 8601 (infinity, BC, a year
past 9999) and 24:00:00 stay the server's text. Text that needs no more than quotes is the rule, so
a codec (connectors.postgres_cdc.rows) looks for the exceptions first.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, unhexlify
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

SESSION = {
    "datestyle": "ISO,YMD",
    "intervalstyle": "iso_8601",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    # A row-level policy then refuses the snapshot; it would leave rows out without a word.
    "row_security": "off",
}
"""Settings of every connection whose values are decoded here."""

Kind = Literal[
    "integer",
    "float",
    "plain",
    "bool",
    "json",
    "timestamp",
    "timestamptz",
    "bytea",
    "array",
    "text",
]
"""How a value becomes JSON. `plain`: quotes suffice; `text`: may need escapes."""

_KINDS: dict[int, Kind] = {
    16: "bool",
    17: "bytea",
    20: "integer",
    21: "integer",
    23: "integer",
    26: "integer",  # oid
    114: "json",
    3802: "json",  # jsonb
    700: "float",
    701: "float",
    1700: "plain",  # numeric
    1082: "plain",  # date
    1083: "plain",  # time
    1266: "plain",  # timetz
    1186: "plain",  # interval
    1114: "timestamp",
    1184: "timestamptz",
    2950: "plain",  # uuid
    869: "plain",  # inet
    650: "plain",  # cidr
    829: "plain",  # macaddr
    1560: "plain",  # bit
    1562: "plain",  # varbit
    3220: "plain",  # pg_lsn
}

Encoder = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class PgType:
    """A row of pg_type, as far as decoding needs it."""

    oid: int
    name: str
    base: int = 0
    """What a domain is based on."""
    element: int = 0
    """What an array holds; 0 for every other type."""
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type resolved: its kind, and for arrays what the elements are."""

    oid: int
    name: str
    kind: Kind
    element: ColumnType | None = None
    delimiter: str = ","


TYPES_SQL = (
    "SELECT oid::int8, typname::text, typbasetype::int8, "
    "CASE WHEN typoutput = 'pg_catalog.array_out'::regproc THEN typelem::int8 ELSE 0 END, typdelim::text "
    "FROM pg_catalog.pg_type"
)


class TypeCatalog:
    """What the server's types are. Filled from `TYPES_SQL`; types made later are added."""

    def __init__(self, rows: Iterable[tuple[Any, ...]] = ()) -> None:
        self._types: dict[int, PgType] = {}
        self.add(rows)

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows of `TYPES_SQL`."""
        for oid, name, base, element, delimiter in rows:
            self._types[oid] = PgType(oid, name, base, element, delimiter)

    def missing(self, oids: Iterable[int]) -> list[int]:
        """Return those that are not known, so that the server must be asked."""
        return [oid for oid in oids if oid not in self._types]

    def resolve(self, oid: int) -> ColumnType:
        """Return how values of the type are decoded; a type that is gone by now is text."""
        found = self._types.get(oid)
        if found is None:
            return ColumnType(oid, f"oid {oid}", _KINDS.get(oid, "text"))
        if found.base:
            return self.resolve(found.base)
        if found.element:
            element = self.resolve(found.element)
            return ColumnType(oid, found.name, "array", element, found.delimiter)
        return ColumnType(oid, found.name, _KINDS.get(oid, "text"))


def escape(text: bytes) -> bytes:
    """Return text as it stands between the quotes of a JSON string.

    Raises UnicodeDecodeError for bytes that are not UTF-8.
    """
    return orjson.dumps(text.decode())[1:-1]


def quote(text: bytes) -> bytes:
    """Return text as a JSON string."""
    return orjson.dumps(text.decode())


def json_text(text: bytes) -> bytes:
    r"""Return a json value to embed: on one line, and its text as a string if JSON can't hold it.

    `json` keeps its text as it was written. Line ends can only stand between its tokens. Escapes of
    half a surrogate pair, and nesting that no parser takes, make it a string.
    """
    if b"\n" in text or b"\r" in text:
        text = text.replace(b"\n", b" ").replace(b"\r", b" ")
    if b"\\u" in text or text.count(b"[") + text.count(b"{") > 1000:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return quote(text)
    return text


def bytea_text(text: bytes) -> bytes:
    r"""Return `\x…` as a JSON string in base64."""
    return b'"%b"' % b2a_base64(unhexlify(text[2:]), newline=False)


BOOLEANS: Mapping[bytes, bytes] = {b"t": b"true", b"f": b"false"}


def float_text(text: bytes) -> bytes:
    """Return a JSON number; NaN and the infinities as strings, which JSON has no numbers for."""
    if text == b"-0":  # which a parser would read as the integer 0
        return b"-0.0"
    return text if text[-1:].isdigit() else b'"%b"' % text


def timestamp_text(text: bytes) -> bytes:
    """Return `date time` as an ISO 8601 string; what isn't a common timestamp as it is."""
    if text[10:11] == b" " and text[-1:].isdigit():
        return b'"%bT%b"' % (text[:10], text[11:])
    return b'"%b"' % text


def timestamptz_text(text: bytes) -> bytes:
    """Return `date time+00` as an ISO 8601 string in UTC; anything else as it is."""
    if text[10:11] == b" " and text[-3:] == b"+00":
        return b'"%bT%bZ"' % (text[:10], text[11:-3])
    return b'"%b"' % text


_TOKEN = {
    delimiter: re.compile(
        rb'(\{)|(\})|(%b)|"((?:[^"\\]|\\.)*)"|([^{}"%b]+)'
        % (delimiter.encode(), delimiter.encode()),
        re.DOTALL,
    )
    for delimiter in ",;"
}
_BACKSLASHED = re.compile(rb"\\(.)", re.DOTALL)


def array_text(text: bytes, element: Encoder, delimiter: str = ",") -> bytes:
    """Return an array's text as a JSON array; one with bounds of its own as a string."""
    if text[:1] == b"[":
        return quote(text)
    out: list[bytes] = []
    pattern = _TOKEN.get(delimiter)
    if pattern is None:
        return quote(text)
    for token in pattern.finditer(text):
        match token.lastindex:
            case 1:
                out.append(b"[")
            case 2:
                out.append(b"]")
            case 3:
                out.append(b",")
            case 4:
                out.append(element(_BACKSLASHED.sub(rb"\1", token[4])))
            case _:
                out.append(b"null" if token[5] == b"NULL" else element(token[5]))
    return b"".join(out)


def encoder(column: ColumnType) -> Encoder:
    """Return the function from a value's text to its JSON text."""
    match column.kind:
        case "integer":
            return bytes
        case "float":
            return float_text
        case "plain":
            return b'"%b"'.__mod__
        case "bool":
            return BOOLEANS.__getitem__
        case "json":
            return json_text
        case "timestamp":
            return timestamp_text
        case "timestamptz":
            return timestamptz_text
        case "bytea":
            return bytea_text
        case "array":
            assert column.element is not None  # noqa: S101 - resolve() gives arrays one
            inner = encoder(column.element)
            delimiter = column.delimiter
            return lambda text: array_text(text, inner, delimiter)
        case "text":
            return quote
