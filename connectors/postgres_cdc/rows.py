"""`RowCodec`: a table's rows from the server's text to JSON, by code generated for its columns.

A relation's shape changes only with a Relation message, so the loop over a batch's rows is written
once per shape, as Python source with every column, offset and template in place. Measured on nine
columns of 200 B together: 1.9 us a row, where a loop over columns takes 5. What the generated code
does not expect (an old row, an unchanged TOAST value, escapes in COPY) goes to `slow`, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.postgres_cdc.pgoutput import ABSENT, HEADER, Value
from connectors.postgres_cdc.types import (
    BOOLEANS,
    SAFE,
    SAFE_ASCII,
    ColumnType,
    bytea_text,
    encoder,
    escape,
    json_text,
)

Slow = Callable[[bytes], bytes]
SlowKey = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column as rows of the table have it, in their order."""

    name: str
    type: ColumnType
    key: bool = False
    """Part of what identifies the row in events."""
    shown: bool = True
    """Part of the event's data."""


def key_part(text: str) -> str:
    """Return a value as it stands in a key: `/` separates values, so it is escaped, as is `%`."""
    if "/" in text or "%" in text:
        return text.replace("%", "%25").replace("/", "%2F")
    return text


@dataclass(slots=True)
class RowCodec:
    """How rows of one shape become JSON and keys. `utf8`: the database says its text is UTF-8."""

    schema: str
    table: str
    columns: Sequence[RowColumn]
    utf8: bool = True
    key: tuple[int, ...] = ()
    subject: str = ""
    """The key of what is about the table as a whole."""
    encode_messages: Callable[[Sequence[bytes], Slow], list[bytes]] = field(init=False)
    """(messages, slow) → JSON per inserted row, or updated row that came without its old one."""
    encode_lines: Callable[[Sequence[bytes], Slow], list[bytes]] = field(init=False)
    """(COPY lines, slow) → JSON per row."""
    message_keys: Callable[[Sequence[bytes], SlowKey], list[str]] = field(init=False)
    """(messages, slow) → key per inserted or updated row."""
    _pieces: list[tuple[int, bytes, Callable[[bytes], bytes]]] = field(init=False)

    def __post_init__(self) -> None:
        self.key = tuple(index for index, column in enumerate(self.columns) if column.key)
        self.subject = f"{key_part(self.schema)}.{key_part(self.table)}"
        self._pieces = [
            (index, orjson.dumps(column.name) + b":", encoder(column.type))
            for index, column in enumerate(self.columns)
            if column.shown
        ]
        names = _generate(self)
        self.encode_messages = names["encode_messages"]
        self.encode_lines = names["encode_lines"]
        self.message_keys = names["message_keys"]

    def encode(self, values: Sequence[Value]) -> bytes:
        """Return one row as a JSON object, without the columns that are ABSENT.

        Raises UnicodeDecodeError for text that is not UTF-8.
        """
        parts = []
        for index, name, encode in self._pieces:
            value = values[index]
            if value is None:
                parts.append(name + b"null")
            elif isinstance(value, bytes):
                parts.append(name + encode(value))
        return b"{%b}" % b",".join(parts)

    def key_of(self, values: Sequence[Value]) -> str:
        """Return the key of a row: the table, then the key's values; the table alone without one."""
        parts = []
        for index in self.key:
            value = values[index]
            # Only INSERT-only tables may have a key that isn't NOT NULL; NULL is not the text "".
            text = "%00" if not isinstance(value, bytes) else key_part(value.decode())
            parts.append(text)
        return "/".join([self.subject, *parts])

    def names(self, indexes: Iterable[int]) -> list[str]:
        """Return the names of the columns that are shown, of those numbered."""
        return [self.columns[index].name for index in indexes if self.columns[index].shown]

    def split_line(self, line: bytes) -> list[Value]:
        """Return the values of one line of `COPY … TO STDOUT` in text format."""
        return [
            None if part == b"\\N" else _unescape_copy(part)
            for part in line.rstrip(b"\n").split(b"\t")
        ]

    def absent(self, values: Sequence[Value]) -> list[int]:
        """Return the numbers of the shown columns whose values the server did not send."""
        return [index for index, _, _ in self._pieces if values[index] is ABSENT]


_COPY_ESCAPES = {
    0x62: b"\b",
    0x66: b"\f",
    0x6E: b"\n",
    0x72: b"\r",
    0x74: b"\t",
    0x76: b"\v",
}


def _unescape_copy(text: bytes) -> bytes:
    """Undo the escapes of COPY's text format (those that the server writes)."""
    if b"\\" not in text:
        return text
    out = []
    at = 0
    while (found := text.find(b"\\", at)) >= 0:
        out.append(text[at:found])
        following = text[found + 1]
        out.append(_COPY_ESCAPES.get(following) or bytes((following,)))
        at = found + 2
    out.append(text[at:])
    return b"".join(out)


_ODD = 1 << 1600
"""Mask bits: `1 << i` says that column i is NULL, `_ODD << i` that its text is not the common one."""


def _template(codec: RowCodec, mask: int) -> bytes:
    """Return the `%` template of a row whose NULL and odd columns are those in `mask`.

    A column has one `%b`, a timestamp two; a NULL one is given empty text for each.
    """
    parts = []
    for index, column in enumerate(codec.columns):
        if not column.shown:
            continue
        name = orjson.dumps(column.name).replace(b"%", b"%%") + b":"
        kind = column.type.kind
        null, odd = mask >> index & 1, mask & _ODD << index
        if kind in ("timestamp", "timestamptz"):
            zone = b"Z" if kind == "timestamptz" else b""
            value = b"null%b%b" if null else b'"%b%b"' if odd else b'"%bT%b' + zone + b'"'
        elif null:
            value = b"null%b"
        elif kind in ("plain", "text") or odd:
            value = b'"%b"'
        else:
            value = b"%b"
        parts.append(name + value)
    return b"{%b}" % b",".join(parts)


def _conversion(index: int, column: RowColumn) -> list[str]:
    """Return the lines that turn the text in `c<index>` into what the template takes."""
    c = f"c{index}"
    match column.type.kind:
        case "bool":
            return [f"{c} = BOOLEANS[{c}]"]
        case "json":
            return [f"{c} = json_text({c})"]
        case "bytea":
            return [f"{c} = bytea_text({c})"]
        case "array":
            return [f"{c} = array{index}({c})"]
        case "float":
            return [
                f"if {c}[-1] > 57: mask |= ODD << {index}",
                # A parser would read -0 as the integer 0.
                f"elif {c} == b'-0': {c} = b'-0.0'",
            ]
        case "timestamp":
            return [
                f"if {c}[10:11] == b' ' and {c}[-1] < 58: d{index} = {c}[11:]; {c} = {c}[:10]",
                f"else: d{index} = b''; mask |= ODD << {index}",
            ]
        case "timestamptz":
            return [
                f"if {c}[10:11] == b' ' and {c}[-3:] == b'+00':",
                f"    d{index} = {c}[11:-3]; {c} = {c}[:10]",
                f"else: d{index} = b''; mask |= ODD << {index}",
            ]
        case _:
            return []


def _finish(codec: RowCodec) -> list[str]:
    """Return the lines that escape text where it must be, and put the row together."""
    shown = [(index, column) for index, column in enumerate(codec.columns) if column.shown]
    texts = [f"c{index}" for index, column in shown if column.type.kind == "text"]
    lines = []
    if texts:
        whole = texts[0] if len(texts) == 1 else f"join(({', '.join(texts)}))"
        # One pass over all texts of the row: what is left of them without the safe bytes.
        lines.append(f"if {whole}.translate(None, SAFE):")
        lines.extend(f"    {text} = escape({text})" for text in texts)
    given = []
    for index, column in shown:
        given.append(f"c{index}")
        if column.type.kind in ("timestamp", "timestamptz"):
            given.append(f"d{index}")
    arguments = "".join(f"{one}, " for one in given)
    lines.append(f"add((PLAIN if not mask else templates.get(mask) or odd(mask)) % ({arguments}))")
    return lines


def _read_column(index: int, wanted: list[str] | None, otherwise: str) -> list[str]:
    """Return the lines that read one column of a tuple at `p` and move `p` past it.

    `wanted`: the lines that follow a value that is there; None when nobody asks for it.
    """
    null = [f"mask |= {1 << index}", f"c{index} = d{index} = b''"]
    take = [] if wanted is None else [f"c{index} = m[q:p]", *wanted]
    return [
        "h = m[p : p + 4]",
        # Kind t and a length below 256, in one comparison: nearly every value there is.
        "if h == SHORT:",
        "    q = p + 5; p = q + m[p + 4]",
        *(f"    {line}" for line in take),
        "elif h[:1] == b't':",
        "    q = p + 5; p = q + from_bytes(m[p + 1 : q], 'big')",
        *(f"    {line}" for line in take),
        "elif h[:1] == b'n':",
        "    p += 1",
        *(f"    {line}" for line in (null if wanted is not None else [])),
        "else:",
        f"    {otherwise}",
        "    continue",
    ]


def _generate(codec: RowCodec) -> dict[str, Any]:
    """Write, compile and return the functions of one shape of rows."""
    columns = codec.columns
    last_shown = max((i for i, column in enumerate(columns) if column.shown), default=-1)
    start = HEADER + 8
    head = b"N" + len(columns).to_bytes(2, "big")
    body: list[str] = []
    for index, column in enumerate(columns[: last_shown + 1]):
        conversion = _conversion(index, column) if column.shown else None
        body += _read_column(index, conversion, "add(slow(m))")
    source = [
        "def encode_messages(messages, slow):",
        "    out = []",
        "    add = out.append",
        "    for m in messages:",
        f"        if m[{HEADER + 5}:{start}] != {head!r}:",
        "            add(slow(m))",
        "            continue",
        "        mask = 0",
        f"        p = {start}",
        *(f"        {line}" for line in [*body, *_finish(codec)]),
        "    return out",
        "def encode_lines(lines, slow):",
        "    out = []",
        "    add = out.append",
        "    for line in lines:",
        "        if b'\\\\' in line:",
        "            add(slow(line))",
        "            continue",
        "        mask = 0",
    ]
    if columns:
        names = "".join(f"c{index}, " for index in range(len(columns)))
        source.append(f"        {names} = line[:-1].split(b'\\t')")
    for index, column in enumerate(columns):
        if column.shown:
            source += [f"        {line}" for line in _conversion(index, column)]
    source += [f"        {line}" for line in _finish(codec)]
    source.append("    return out")
    source += _key_source(codec, start, head)
    safe = SAFE if codec.utf8 else SAFE_ASCII
    templates: dict[int, bytes] = {}

    def odd(mask: int) -> bytes:
        if len(templates) > 512:  # rows of a wide table may be NULL in any combination
            templates.clear()
        made = templates[mask] = _template(codec, mask)
        return made

    names_of: dict[str, Any] = {
        "BOOLEANS": BOOLEANS,
        "ODD": _ODD,
        "PLAIN": _template(codec, 0),
        "PREFIX": codec.subject + "/",
        "SAFE": safe,
        "SHORT": b"t\0\0\0",
        "bytea_text": bytea_text,
        "escape": escape,
        "from_bytes": int.from_bytes,
        "join": b"".join,
        "json_text": json_text,
        "key_part": key_part,
        "odd": odd,
        "templates": templates,
    }
    for index, column in enumerate(columns):
        if column.type.kind == "array":
            names_of[f"array{index}"] = encoder(column.type)
    code = compile("\n".join(source), f"<rows of {codec.subject}>", "exec")
    exec(code, names_of)  # noqa: S102 - our own source: column names enter it as constants only
    return names_of


def _key_source(codec: RowCodec, start: int, head: bytes) -> list[str]:
    """Return the source of `message_keys`, which reads no further than the key's last column."""
    if not codec.key:
        return [
            "def message_keys(messages, slow):",
            f"    return [{codec.subject!r}] * len(messages)",
        ]
    source = [
        "def message_keys(messages, slow):",
        "    out = []",
        "    add = out.append",
        "    for m in messages:",
        f"        if m[{HEADER + 5}:{start}] != {head!r}:",
        "            add(slow(m))",
        "            continue",
        "        mask = 0",
        f"        p = {start}",
    ]
    for index in range(codec.key[-1] + 1):
        wanted: list[str] | None = [] if index in codec.key else None
        lines = _read_column(index, wanted, "add(slow(m))")
        source += [f"        {line}" for line in lines]
    parts = []
    for index in codec.key:
        plain = codec.columns[index].type.kind in ("integer", "bool")
        parts.append(f"c{index}.decode()" if plain else f"key_part(c{index}.decode())")
    source += [
        "        if mask:",
        "            add(slow(m))",
        "            continue",
        "        add(PREFIX + " + " + '/' + ".join(parts) + ")",
        "    return out",
    ]
    return source
