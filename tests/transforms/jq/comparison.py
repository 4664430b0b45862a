"""Reads JSON as jq reads it, and tells whether two values are the same to jq.

Two departures of ours from libjq are known here, and nothing else is: integers beyond 2^53 keep
their digits, where libjq makes doubles of them as soon as it calculates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:nan|NaN|Infinity)\b', re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_LONE = re.compile(r"[\ud800-\udfff]")
EXACT = 2**53
"""From here on doubles leave integers out."""


def read(text: str) -> Any:
    """Return the value of a line of JSON, as jq reads it: a byte order mark, nan, lone surrogates.

    What no double holds is its largest. Raises ValueError for anything else.
    """
    text = text.strip().removeprefix("\ufeff")
    value = json.loads(
        _TOKEN.sub(lambda found: _spelt(found[0]), text),
        parse_float=lambda one: as_double(float(one)),
    )
    return _mended(value) if "\\u" in text else value


def _spelt(token: str) -> str:
    if token.startswith('"') or "Inf" in token:
        return token
    return "NaN"


def _mended(value: Any) -> Any:
    """Put U+FFFD for surrogates without their other half."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def same(one: Any, two: Any, *, tolerance: float = 0.0) -> bool:
    """Whether jq holds two values to be equal; `tolerance` is relative, for doubles.

    Two integers are compared digit by digit, a double with anything as a double. What a double
    can't hold is its largest.
    """
    kind = _kind(one)
    if kind != _kind(two):
        return False
    if kind == "array":
        return len(one) == len(two) and all(
            same(left, right, tolerance=tolerance) for left, right in zip(one, two, strict=True)
        )
    if kind == "object":
        return one.keys() == two.keys() and all(
            same(one[key], two[key], tolerance=tolerance) for key in one
        )
    if kind != "number":
        return bool(one == two)
    if isinstance(one, int) and isinstance(two, int):
        return one == two
    left, right = as_double(one), as_double(two)
    return left == right or math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def same_but_digits(one: Any, two: Any) -> bool:
    """Whether two values differ only in digits that a double can't hold, also within texts."""
    kind = _kind(one)
    if kind != _kind(two):
        return False
    if kind == "array":
        return len(one) == len(two) and all(map(same_but_digits, one, two))
    if kind == "object":
        return one.keys() == two.keys() and all(same_but_digits(one[key], two[key]) for key in one)
    if kind == "text":
        numbers = zip(_NUMBER.findall(one), _NUMBER.findall(two), strict=False)
        return _NUMBER.sub("#", one) == _NUMBER.sub("#", two) and all(
            left == right or same_but_digits(json.loads(left), json.loads(right))
            for left, right in numbers
            if not re.match(r"-?0\d", left + " " + right)
        )
    if same(one, two):
        return True
    if kind != "number":
        return False
    left, right = as_double(one), as_double(two)
    # Two roundings of libjq's, each to the nearest double.
    return min(abs(left), abs(right)) >= EXACT and math.isclose(left, right, rel_tol=2**-51)


def as_double(number: float) -> float:
    """Return the double nearest to a number, its largest where it is beyond."""
    try:
        value = float(number)
    except OverflowError:
        value = math.inf if number > 0 else -math.inf
    if math.isinf(value):
        return math.copysign(1.7976931348623157e308, value)
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "array" if isinstance(value, list) else "object"
