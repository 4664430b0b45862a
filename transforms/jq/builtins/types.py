"""What a value is, and conversions between kinds."""

from __future__ import annotations

import math
from typing import Any

from transforms.jq.arithmetic import negate, to_double
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.errors import JqError
from transforms.jq.json_text import from_json, number_from_text, to_json
from transforms.jq.values import compare, kind_of, truthy, type_error

_NUMBERS = (int, float)
_DIGITS = 100
"""Digits that are a number without a closer look."""
_SMALLEST_NORMAL = 2.2250738585072014e-308


def length(value: Any) -> Any:
    """Return the code points of a string, the members of an array or object, a number's size."""
    kind = type(value)
    if kind is str or kind is list or kind is dict:
        return len(value)
    if value is None:
        return 0
    if kind in _NUMBERS:
        return abs(value)
    raise type_error(value, "has no length")


def utf8bytelength(value: Any) -> int:
    """Return the bytes of a string in UTF-8."""
    if type(value) is not str:
        raise type_error(value, "only strings have UTF-8 byte length")
    return len(value.encode("utf-8", "surrogatepass"))


def tostring(value: Any) -> str:
    """Return a string as it is, anything else as JSON."""
    return value if type(value) is str else to_json(value)


def tonumber(value: Any) -> Any:
    """Return a number as it is, and the one that a string spells."""
    if type(value) in _NUMBERS:
        return value
    if type(value) is str and len(value) < _DIGITS and value.isascii() and value.isdigit():
        return int(value)
    number = number_from_text(value) if type(value) is str else None
    if number is None:
        raise type_error(value, "cannot be parsed as a number")
    return number


def toboolean(value: Any) -> bool:
    """Return a boolean as it is, and the one that a string spells."""
    if type(value) is bool:
        return value
    if type(value) is str and value in {"true", "false"}:
        return value == "true"
    raise type_error(value, "cannot be parsed as a boolean")


def toarray(value: Any) -> list[Any]:
    """Return an array as it is, anything else as the only element of one."""
    return value if type(value) is list else [value]


def fromjson(value: Any) -> Any:
    """Return the value that a string holds as JSON."""
    if type(value) is not str:
        raise type_error(value, "only strings can be parsed")
    return from_json(value)


def absolute(value: Any) -> Any:
    """Return `abs`: `-value` of what sorts below 0, which null and booleans do too; else the value."""
    if type(value) in _NUMBERS:
        # -0.0 is not below 0, and stays.
        return -value if value < 0 else value
    return negate(value) if compare(value, 0) < 0 else value


def isnormal(value: Any) -> bool:
    """Return whether a value is a number, and neither zero, subnormal, infinite nor nan."""
    if type(value) is int:
        return value != 0
    return type(value) is float and _SMALLEST_NORMAL <= abs(value) < math.inf


def isinfinite(value: Any) -> bool:
    """Return whether a value is an infinite number."""
    return type(value) is float and math.isinf(value)


def isnan(value: Any) -> bool:
    """Return whether a value is the number that equals none."""
    return type(value) is float and math.isnan(value)


def isfinite(value: Any) -> bool:
    """Return whether a value is a number and not infinite; nan is not."""
    return type(value) in _NUMBERS and not isinfinite(value)


def range_of(_: Any, start: Any, end: Any) -> Any:
    """Return an iterable of the numbers from `start` up to `end`."""
    if type(start) is int and type(end) is int:
        return range(start, end)
    if type(start) not in _NUMBERS or type(end) not in _NUMBERS:
        raise JqError("Range bounds must be numeric")
    if type(start) is int and math.isfinite(end):
        return range(start, math.ceil(end))
    return _floats(start, end, 1)


def range_by(_: Any, start: Any, end: Any, step: Any) -> Any:
    """Return an iterable of `start`, `start + step` … while below (above for a negative step) `end`."""
    if type(start) is int and type(end) is int and type(step) is int:
        return range(start, end, step) if step else ()
    direction = compare(step, 0)
    if direction == 0:
        return ()
    if all(type(value) in _NUMBERS for value in (start, end, step)):
        return _floats(start, end, step)
    return _steps(start, end, step, direction)


def _floats(start: Any, end: Any, step: Any) -> Any:
    at = to_double(start)
    while at < end if step > 0 else at > end:
        yield int(at) if at.is_integer() and abs(at) < 1e17 else at
        at += step


def _steps(start: Any, end: Any, step: Any, direction: int) -> Any:
    from transforms.jq.arithmetic import add  # noqa: PLC0415

    while compare(start, end) == -direction:
        yield start
        start = add(start, step)


FUNCTIONS = {
    ("not", 0): Builtin(lambda value: not truthy(value)),
    ("type", 0): Builtin(kind_of),
    ("length", 0): Builtin(length),
    ("utf8bytelength", 0): Builtin(utf8bytelength),
    ("tostring", 0): Builtin(tostring),
    ("tonumber", 0): Builtin(tonumber),
    ("toboolean", 0): Builtin(toboolean),
    ("toarray", 0): Builtin(toarray),
    ("tojson", 0): Builtin(to_json),
    ("fromjson", 0): Builtin(fromjson),
    ("abs", 0): Builtin(absolute),
    ("infinite", 0): Builtin(lambda _: math.inf),
    ("nan", 0): Builtin(lambda _: math.nan),
    ("isinfinite", 0): Builtin(isinfinite),
    ("isnan", 0): Builtin(isnan),
    ("isnormal", 0): Builtin(isnormal),
    ("isfinite", 0): Builtin(isfinite),
    ("have_literal_numbers", 0): Builtin(lambda _: True),
    ("have_decnum", 0): Builtin(lambda _: True),
    ("range", 1): Builtin(lambda value, end: range_of(value, 0, end), many=True),
    ("range", 2): Builtin(range_of, many=True),
    ("range", 3): Builtin(range_by, many=True),
    ("normals", 0): Builtin(lambda value: (value,) if isnormal(value) else (), many=True),
    ("finites", 0): Builtin(lambda value: (value,) if isfinite(value) else (), many=True),
}
