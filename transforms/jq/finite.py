"""Numbers that JSON has not: what a program may make of them is written as jq writes it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from transforms.jq.syntax import Call, Foreach, Function, Literal, Reduce

DEEPEST_OUTPUT = 250
"""Levels of nesting; orjson writes 254."""

_NESTING = frozenset(
    {
        "until",
        "while",
        "repeat",
        "recurse",
        "setpath",
        "fromjson",
        "fromstream",
        "getpath",
        "pick",
        "limit",
    }
)

_LARGEST = 1.7976931348623157e308
_TAME = frozenset(
    {
        "not", "map", "select", "empty", "error", "add", "length", "keys", "values", "has", "in", "any",
        "all", "range", "floor", "ceil", "round", "sqrt", "tostring", "type", "sort", "sort_by",
        "group_by", "unique", "unique_by", "min", "max", "min_by", "max_by", "reverse", "contains",
        "inside", "startswith", "endswith", "split", "join", "ascii_downcase", "ascii_upcase", "ltrimstr",
        "rtrimstr", "trimstr", "trim", "ltrim", "rtrim", "to_entries", "from_entries", "with_entries",
        "recurse", "path", "paths", "del", "getpath", "setpath", "delpaths", "pick", "walk", "flatten",
        "first", "last", "nth", "limit", "skip", "until", "while", "isempty", "index", "rindex",
        "indices", "test", "match", "capture", "scan", "splits", "sub", "gsub", "tojson", "abs",
        "map_values", "transpose", "toarray", "INDEX", "IN", "todate", "now", "env", "ascii", "implode",
        "explode", "strings", "numbers", "objects", "arrays", "booleans", "nulls", "scalars", "iterables",
        "combinations", "tostream", "keys_unsorted", "utf8bytelength", "isnan", "isinfinite",
    }
)  # fmt: skip
"""Functions that make no number which is not in their input already."""


def makes_wild_numbers(nodes: Iterable[object]) -> bool:
    """Whether a program may make a NaN or an infinite number, other than by arithmetic that overflows."""
    for node in nodes:
        match node:
            case Literal(_, float() as value) if not math.isfinite(value):
                return True
            case Call(_, name) if name not in _TAME:
                return True
    return False


def makes_deep_values(nodes: Iterable[object]) -> bool:
    """Whether a program may nest values without end: it has a loop, or makes values of texts or paths."""
    for node in nodes:
        match node:
            case Reduce() | Foreach() | Function():
                return True
            case Call(_, name) if name in _NESTING:
                return True
    return False


def is_too_deep(value: Any) -> bool:
    """Whether a value is nested more deeply than the JSON encoder allows."""
    level: list[Any] = [value]
    for _ in range(DEEPEST_OUTPUT):
        level = (
            [
                inner
                for one in level
                for inner in (one if type(one) is list else one.values())
                if type(inner) is list or type(inner) is dict
            ]
            if type(level[0]) in {list, dict}
            else []
        )
        if not level:
            return False
    return True


def finite(value: Any) -> Any:
    """Return a value in which NaN is null and an infinite number the largest double."""
    kind = type(value)
    if kind is float:
        if math.isfinite(value):
            return value
        return None if math.isnan(value) else math.copysign(_LARGEST, value)
    if kind is list:
        if any(_is_suspect(one) for one in value):
            return [finite(one) for one in value]
    elif kind is dict and any(_is_suspect(one) for one in value.values()):
        return {key: finite(one) for key, one in value.items()}
    return value


def _is_suspect(value: Any) -> bool:
    kind = type(value)
    return kind is list or kind is dict or (kind is float and not math.isfinite(value))
