"""The Python source of a `RowCodec`'s functions, written for the columns of one shape of rows.

    encode_messages   what was inserted or updated: by a pattern, else column by column, else `slow`
    encode_lines      lines of COPY
    keys_of           keys, of what `encode_messages` found on its way
    message_keys      keys, where the rows are not read; no further than the key's last column

In the source `m` is a message, `p` a place in it, `c2` the text of column 2 and then its JSON, `d2` the
second half of a timestamp's, and `mask` says which columns are NULL and which are not the common ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.postgres_cdc.patterns import Patterns, fits
from connectors.postgres_cdc.pgoutput import HEADER
from connectors.postgres_cdc.types import (
    BOOLEANS,
    ColumnType,
    bytea_text,
    encoder,
    escape,
    json_text,
)

_ROW = HEADER + 5
"""Where the new row of an INSERT begins, and of an UPDATE without an old one: `N`, how many columns."""
_START = _ROW + 3
_ODD = 1 << 1600
"""Mask bits: `1 << i` says that column i is NULL, `_ODD << i` that its text is not the common one."""


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column as rows of the table have it, in their order."""

    name: str
    type: ColumnType
    key: bool = False
    """Part of what identifies the row in events."""
    shown: bool = True
    """Part of the event's data."""

    @property
    def halved(self) -> bool:
        """Whether its value is taken in two: `date time`."""
        return self.type.kind in ("timestamp", "timestamptz")


Columns = Sequence[RowColumn]


def key_part(text: str) -> str:
    """Return a value as it stands in a key: `/` separates values, so it is escaped, as is `%`."""
    if "/" in text or "%" in text:
        return text.replace("%", "%25").replace("/", "%2F")
    return text


def generate(columns: Columns, key: Sequence[int], subject: str) -> dict[str, Any]:
    """Write, compile and return the functions of rows with these columns; `key`: numbers of some."""
    templates: dict[int, bytes] = {}

    def template(mask: int) -> bytes:
        if len(templates) > 512:  # rows of a wide table may be NULL in any combination
            templates.clear()
        made = templates[mask] = _template(columns, mask)
        return made

    patterns = Patterns([column.type.kind for column in columns], _bits(key), template)

    names: dict[str, Any] = {
        "BOOLEANS": BOOLEANS,
        "ODD": _ODD,
        "PLAIN": _template(columns, 0),
        "PREFIX": subject + "/",
        "SHORT": b"t\0\0\0",
        "bytea_text": bytea_text,
        "dumps": orjson.dumps,
        "escape": escape,
        "fits": fits,
        "from_bytes": int.from_bytes,
        "join": b"".join,
        "json_text": json_text,
        "key_part": key_part,
        "patterns": patterns,
        "template": template,
        "templates": templates,
    }
    for index, column in enumerate(columns):
        if column.type.kind == "array":
            names[f"array{index}"] = encoder(column.type)
    source = [
        *_messages_source(columns, key),
        *_lines_source(columns),
        *_keys_source(columns, key, subject),
    ]
    code = compile("\n".join(source), f"<rows of {subject}>", "exec")
    exec(code, names)  # noqa: S102 - our own source: column names enter it as constants only
    return names


def _bits(indexes: Sequence[int]) -> int:
    """Return the mask that says these columns are NULL."""
    return sum(1 << index for index in indexes)


def _template(columns: Columns, mask: int) -> bytes:
    """Return the `%` template of a row whose NULL and odd columns are those in `mask`.

    A column has one `%b`, a timestamp two; a NULL one is given empty text for each.
    """
    parts = []
    for index, column in enumerate(columns):
        if not column.shown:
            continue
        name = orjson.dumps(column.name).replace(b"%", b"%%") + b":"
        kind = column.type.kind
        null, odd = mask >> index & 1, mask & _ODD << index
        if column.halved:
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


# ---- messages -------------------------------------------------------------------------------


def _messages_source(columns: Columns, key: Sequence[int]) -> list[str]:
    last_shown = max((i for i, column in enumerate(columns) if column.shown), default=-1)
    head = b"N" + len(columns).to_bytes(2, "big")
    body: list[str] = []
    for index, column in enumerate(columns[: last_shown + 1]):
        wanted = _conversion(index, column) if column.shown else [] if index in key else None
        body += _read_column(index, wanted, "add(slow(m))", "keys.append(None)")
    found = _key_found(columns, key, last_shown)
    # A pattern reads a row to its end: of no use where that is not read.
    by_pattern = last_shown >= 0 and last_shown == len(columns) - 1
    quick = _by_pattern(columns, found) if by_pattern else []
    begin = [
        "usual = patterns.begin(len(messages))",
        "if usual is not None:",
        "    match, compared, common = usual.match, usual.compared, usual.template",
    ]
    note = [
        "if usual is not None and (now := patterns.met(mask)) is not usual:",
        "    usual = now; match, compared, common = now.match, now.compared, now.template",
    ]
    return [
        "def encode_messages(messages, slow, keys):",
        "    out = []",
        "    add = out.append",
        *(f"    {line}" for line in (begin if by_pattern else [])),
        "    for m in messages:",
        *(f"        {line}" for line in quick),
        f"        if m[{_ROW}:{_START}] != {head!r}:",
        "            add(slow(m))",
        "            keys.append(None)",
        "            continue",
        "        mask = 0",
        f"        p = {_START}",
        *(f"        {line}" for line in body),
        # NULL in a key, where a table that is only inserted into has such: `slow` knows what to do.
        *([f"        keys.append(None if mask & {_bits(key)} else {found})"] if found else []),
        *(f"        {line}" for line in _finish(columns, _ANY_TEMPLATE)),
        *(f"        {line}" for line in (note if by_pattern else [])),
        "    return out",
    ]


_ANY_TEMPLATE = "(PLAIN if not mask else templates.get(mask) or template(mask))"


def _by_pattern(columns: Columns, key_found: str | None) -> list[str]:
    """Return the lines that do a whole row by the pattern that most are of."""
    groups, lines = "", []
    for index, column in enumerate(columns):
        c = f"c{index}"
        groups += f"{c}, d{index}, " if column.halved else f"{c}, "
        if column.shown and column.type.kind == "float":
            lines.append(f"if {c} == b'-0': {c} = b'-0.0'")
        elif column.shown and not column.halved:
            # Empty is NULL: none of these has a value without a letter.
            lines += [f"if {c}: {line}" for line in _conversion(index, column)]
    body = [
        f"{groups}= found.groups()",
        *([f"keys.append({key_found})"] if key_found else []),
        *lines,
        *_finish(columns, "common"),
        "continue",
    ]
    return [
        "if usual is not None:",
        f"    found = match(m, {_ROW})",
        "    if found is not None and (not compared or fits(m, found, compared)):",
        *(f"        {line}" for line in body),
    ]


def _read_column(index: int, wanted: list[str] | None, *otherwise: str) -> list[str]:
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
        *(f"    {line}" for line in null),
        "else:",
        *(f"    {line}" for line in otherwise),
        "    continue",
    ]


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


def _finish(columns: Columns, template: str) -> list[str]:
    """Return the lines that escape text where it must be, and put the row together."""
    shown = [(index, column) for index, column in enumerate(columns) if column.shown]
    texts = [f"c{index}" for index, column in shown if column.type.kind == "text"]
    lines = []
    if texts:
        whole = texts[0] if len(texts) == 1 else f"join(({', '.join(texts)}))"
        # One look at all texts of the row: as JSON they are longer where something was escaped.
        lines.append(f"whole = {whole}")
        lines.append("if len(dumps(whole.decode())) != len(whole) + 2:")
        lines.extend(f"    {text} = escape({text})" for text in texts)
    given = []
    for index, column in shown:
        given.append(f"c{index}")
        if column.halved:
            given.append(f"d{index}")
    lines.append(f"add({template} % ({''.join(f'{one}, ' for one in given)}))")
    return lines


# ---- lines of COPY --------------------------------------------------------------------------


def _lines_source(columns: Columns) -> list[str]:
    source = [
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
    source += [f"        {line}" for line in _finish(columns, _ANY_TEMPLATE)]
    source.append("    return out")
    return source


# ---- keys -----------------------------------------------------------------------------------

_KEY_AS_IT_IS = frozenset({"integer", "plain", "text"})
"""Kinds whose text nothing changes before the row is put together."""


def _key_found(columns: Columns, key: Sequence[int], last_read: int) -> str | None:
    """Return the expression of what `keys_of` takes; None where the row's reading does not tell."""
    if not key or key[-1] > last_read:
        return None
    if not all(columns[index].type.kind in _KEY_AS_IT_IS for index in key):
        return None
    return _key_texts(key)


def _key_texts(key: Sequence[int]) -> str:
    """Return the key's texts as an expression, and as what a loop over such assigns to."""
    return f"c{key[0]}" if len(key) == 1 else f"({', '.join(f'c{index}' for index in key)})"


def _key_parts(columns: Columns, key: Sequence[int]) -> str:
    """Return the expression of a row's key."""
    parts = []
    for index in key:
        plain = columns[index].type.kind in ("integer", "bool")
        parts.append(f"c{index}.decode()" if plain else f"key_part(c{index}.decode())")
    return "PREFIX + " + " + '/' + ".join(parts)


def _keys_source(columns: Columns, key: Sequence[int], subject: str) -> list[str]:
    if not key:
        return [
            "def keys_of(found):",
            f"    return [{subject!r}] * len(found)",
            "def message_keys(messages, slow):",
            f"    return [{subject!r}] * len(messages)",
        ]
    head = b"N" + len(columns).to_bytes(2, "big")
    source = [
        "def keys_of(found):",
        f"    return [{_key_parts(columns, key)} for {_key_texts(key)} in found]",
        "def message_keys(messages, slow):",
        "    out = []",
        "    add = out.append",
        "    for m in messages:",
        f"        if m[{_ROW}:{_START}] != {head!r}:",
        "            add(slow(m))",
        "            continue",
        "        mask = 0",
        f"        p = {_START}",
    ]
    for index in range(key[-1] + 1):
        wanted: list[str] | None = [] if index in key else None
        lines = _read_column(index, wanted, "add(slow(m))")
        source += [f"        {line}" for line in lines]
    source += [
        f"        if mask & {_bits(key)}:",
        "            add(slow(m))",
        "            continue",
        f"        add({_key_parts(columns, key)})",
        "    return out",
    ]
    return source
