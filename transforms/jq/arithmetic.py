"""jq's operators + - * / % and unary minus over values.

Where this differs from jq: integers are exact up to 4,300 digits (jq computes in doubles), also in `%`,
which jq clamps to 64 bits; an integer beyond that becomes a double, an infinite one as a rule. A whole
result of doubles below 1e17 is an integer, so that it prints without a point. Results beyond 64 M
characters or 10 M elements raise TooLarge, which a program can't catch.
"""

from __future__ import annotations

import math
from typing import Any

from transforms.jq.errors import LARGEST_ARRAY, LARGEST_TEXT, JqError, TooLarge
from transforms.jq.json_text import DEEPEST
from transforms.jq.values import equal, type_error, type_error2

MOST_BITS = 14_284
"""Size of an integer that stays exact: 4,300 digits, which Python still writes as text."""

_INT64 = 2**63 - 1
_NUMBERS = (int, float)
_REPEAT_LIMIT = 2**31 - 1 - 16
"""Bytes of a repeated string beyond which jq itself reports an error."""


def to_double(value: int | float) -> float:  # noqa: PYI041 - it is about the difference
    """Return a number as the nearest double; an integer that is too large is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(value: float) -> int | float:
    """Return a double as an integer where it is one below 1e17; -0.0 stays."""
    if -1e17 < value < 1e17 and value.is_integer() and (value or math.copysign(1, value) > 0):
        return int(value)
    return value


def bounded(value: int) -> int | float:
    """Return an integer, or a double for one that is too large to stay exact."""
    return value if value.bit_length() <= MOST_BITS else to_double(value)


def add(left: Any, right: Any) -> Any:
    """Return `left + right`."""
    kind, other = type(left), type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        if kind is int and other is int:
            return bounded(left + right)
        return whole(to_double(left) + to_double(right))
    if left is None:
        return right
    if right is None:
        return left
    if kind is other:
        if kind is str:
            if len(left) + len(right) > LARGEST_TEXT:
                raise TooLarge("a string of more than 64 M characters")
            return left + right
        if kind is list:
            if len(left) + len(right) > LARGEST_ARRAY:
                raise TooLarge("an array of more than 10 M elements")
            return left + right
        if kind is dict:
            return {**left, **right}
    raise type_error2(left, right, "cannot be added")


def subtract(left: Any, right: Any) -> Any:
    """Return `left - right`: numbers, or an array without the elements of another."""
    kind, other = type(left), type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        if kind is int and other is int:
            return bounded(left - right)
        return whole(to_double(left) - to_double(right))
    if kind is list and other is list:
        return _without(left, right)
    raise type_error2(left, right, "cannot be subtracted")


def _without(left: list[Any], right: list[Any]) -> list[Any]:
    texts = {item for item in right if type(item) is str}
    others = [item for item in right if type(item) is not str]
    return [
        item
        for item in left
        if not (item in texts if type(item) is str else any(equal(item, one) for one in others))
    ]


def multiply(left: Any, right: Any) -> Any:
    """Return `left * right`: numbers, a string repeated, or objects merged in depth."""
    kind, other = type(left), type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        if kind is int and other is int:
            if left.bit_length() + right.bit_length() > MOST_BITS + 1:
                return to_double(left) * to_double(right)
            return bounded(left * right)
        return whole(to_double(left) * to_double(right))
    if kind is str and other in _NUMBERS:
        return _repeated(left, right)
    if kind in _NUMBERS and other is str:
        return _repeated(right, left)
    if kind is dict and other is dict:
        return _merged(left, right)
    raise type_error2(left, right, "cannot be multiplied")


def _repeated(text: str, times: int | float) -> str | None:  # noqa: PYI041
    if times < 0 or times != times:  # noqa: PLR0124 - nan
        return None
    count = int(min(times, 2**31 - 1))
    if len(text) * count > LARGEST_TEXT:
        if len(text.encode("utf-8", "surrogatepass")) * count >= _REPEAT_LIMIT:
            raise JqError("Repeat string result too long")
        raise TooLarge("a string of more than 64 M characters")
    return text * count


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Merge objects level by level, without recursion."""
    result = dict(left)
    work = [(result, right, 0)]
    while work:
        target, source, depth = work.pop()
        if depth > DEEPEST:
            raise JqError("Object merge too deep")
        for key, value in source.items():
            if type(value) is dict and type(old := target.get(key)) is dict:
                target[key] = inner = dict(old)
                work.append((inner, value, depth + 1))
            else:
                target[key] = value
    return result


def divide(left: Any, right: Any) -> Any:
    """Return `left / right`: numbers, or a string split at another."""
    kind, other = type(left), type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        if right == 0:
            raise type_error2(left, right, "cannot be divided because the divisor is zero")
        if kind is int and other is int:
            quotient, remainder = divmod(left, right)
            if not remainder:
                return quotient
            try:
                return left / right
            except OverflowError:
                return math.inf if (left > 0) is (right > 0) else -math.inf
        return whole(to_double(left) / to_double(right))
    if kind is str and other is str:
        return split_text(left, right)
    raise type_error2(left, right, "cannot be divided")


def split_text(text: str, separator: str) -> list[str]:
    """Return the parts of `text`: its characters for an empty separator, none of an empty text."""
    if not separator:
        return list(text)
    return text.split(separator) if text else []


def modulo(left: Any, right: Any) -> Any:
    """Return `left % right` of the whole parts, with the sign of `left`."""
    if type(left) not in _NUMBERS or type(right) not in _NUMBERS:
        raise type_error2(left, right, "cannot be divided (remainder)")
    if left != left or right != right:  # noqa: PLR0124 - nan
        return math.nan
    divisor = _truncated(right)
    if divisor == 0:
        raise type_error2(left, right, "cannot be divided (remainder) because the divisor is zero")
    dividend = _truncated(left)
    remainder = abs(dividend) % abs(divisor)
    return -remainder if dividend < 0 else remainder


def _truncated(value: int | float) -> int:  # noqa: PYI041
    if type(value) is float and math.isinf(value):
        return _INT64 if value > 0 else -_INT64 - 1
    return int(value)


def negate(value: Any) -> Any:
    """Return `-value`."""
    kind = type(value)
    if kind is int:
        return -value
    if kind is float:
        return -value
    raise type_error(value, "cannot be negated")
