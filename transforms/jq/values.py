"""jq's semantics of values: kinds, truth, equality, order, and how errors show them.

Values are None, bool, int, float, str, list and dict, of exactly these types, and are shared: nothing
changes one in place. Integers compare exactly, also with doubles (jq compares doubles).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from transforms.jq.errors import JqError
from transforms.jq.json_text import DEEPEST, from_json, number_from_text, shortened, to_json

__all__ = [
    "compare",
    "equal",
    "from_json",
    "kind_of",
    "number_from_text",
    "shortened",
    "sort_key",
    "to_json",
    "truthy",
    "type_error",
    "type_error2",
]

_KINDS = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_RANKS = {type(None): 0, bool: 1, int: 3, float: 3, str: 4, list: 5, dict: 6}
_COMPOSITE = (list, dict)
_NUMBERS = (int, float)


def kind_of(value: Any) -> str:
    """Return jq's name for the type of a value."""
    return _KINDS[type(value)]


def truthy(value: Any) -> bool:
    """Return jq's truth: all but null and false."""
    return value is not None and value is not False


def type_error(value: Any, message: str) -> JqError:
    """Return the error of an operation that `value` is no operand of."""
    return JqError(f"{kind_of(value)} ({shortened(value)}) {message}")


def type_error2(left: Any, right: Any, message: str) -> JqError:
    """Return the error of an operation that does not fit two values."""
    return JqError(
        f"{kind_of(left)} ({shortened(left)}) and {kind_of(right)} ({shortened(right)}) {message}"
    )


def equal(left: Any, right: Any) -> bool:
    """Return jq's `==`: true is not 1, nan equals nothing. Raises JqError 10,000 levels deep."""
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and left == right
    if kind is not list and kind is not dict:
        return bool(left == right)
    if left is right:
        return True
    try:
        # Python's equality takes true for 1 and a nan for itself: only its no is final.
        return left == right and _same(left, right)
    except RecursionError:
        return _same_deep(left, right)


def _same(left: Any, right: Any, room: int = 100) -> bool:
    """Return `equal` of two values that Python finds equal; RecursionError below so many levels."""
    if left is right:
        return type(left) is not float or not math.isnan(left)
    kind = type(left)
    if kind is list:
        if not room:
            raise RecursionError
        for one, two in zip(left, right, strict=True):
            # Text is equal to nothing else. A loop, as all() would nest on C's stack.
            if type(one) is not str and not _same(one, two, room - 1):
                return False
        return True
    if kind is dict:
        if not room:
            raise RecursionError
        for key, member in left.items():
            if type(member) is not str and not _same(member, right[key], room - 1):
                return False
        return True
    return (kind is bool) is (type(right) is bool)


def _same_deep(left: Any, right: Any) -> bool:
    stack = [(left, right, 0)]
    while stack:
        one, two, depth = stack.pop()
        if depth > DEEPEST:
            raise JqError("Equality check too deep")
        kind = type(one)
        if kind is not type(two) or kind not in _COMPOSITE:
            if not equal(one, two):
                return False
        elif one is not two:
            if len(one) != len(two):
                return False
            if kind is list:
                stack.extend((x, y, depth + 1) for x, y in zip(one, two, strict=True))
            elif one.keys() != two.keys():
                return False
            else:
                stack.extend((member, two[key], depth + 1) for key, member in one.items())
    return True


def compare(left: Any, right: Any) -> int:
    """Return -1, 0 or 1 by jq's order: null, false, true, numbers, strings, arrays, objects.

    nan is less than any number, itself included. Raises JqError 10,000 levels deep.
    """
    kind, other = type(left), type(right)
    if kind is str and other is str:
        # jq compares UTF-8 bytes; code points sort the same.
        return int(left > right) - int(left < right)
    rank = _RANKS[kind]
    if rank != _RANKS[other]:
        return -1 if rank < _RANKS[other] else 1
    if kind in _COMPOSITE:
        return _compare_members(left, right)
    if rank == 0:
        return 0
    if left != left:  # noqa: PLR0124 - nan
        return -1
    if right != right:  # noqa: PLR0124
        return 1
    return int(left > right) - int(left < right)


def _compare_members(left: Any, right: Any) -> int:
    """Compare arrays, or objects, without recursion: the first difference decides."""
    pairs, after = _pairs(left, right)
    stack: list[tuple[Iterator[tuple[Any, Any]], int]] = []
    while True:
        for one, two in pairs:
            if type(one) in _COMPOSITE and type(one) is type(two):
                stack.append((pairs, after))
                if len(stack) > DEEPEST:
                    raise JqError("Comparison too deep")
                pairs, after = _pairs(one, two)
                break
            order = compare(one, two)
            if order:
                return order
        else:
            if after or not stack:
                return after
            pairs, after = stack.pop()


def _pairs(left: Any, right: Any) -> tuple[Iterator[tuple[Any, Any]], int]:
    """Return what to compare in turn, and the order when all of that is equal."""
    if type(left) is list:
        return (
            zip(left, right, strict=False),
            (len(left) > len(right)) - (len(left) < len(right)),
        )
    keys, others = sorted(left), sorted(right)
    order = (keys > others) - (keys < others)
    if order:
        return iter(()), order
    return ((left[key], right[key]) for key in keys), 0


_nans = itertools.count()


def sort_key(value: Any) -> Any:
    """Return a key that sorts, and groups, as jq's order does. Raises RecursionError for deep values."""
    kind = type(value)
    if kind is str:
        return (4, value)
    if kind is int:
        return (3, value)
    if kind is float:
        # No two nans are equal, and they keep their order.
        return (3, value) if value == value else (2, next(_nans))  # noqa: PLR0124
    if value is None:
        return (-1,)
    if kind is bool:
        return (1,) if value else (0,)
    if kind is list:
        return (5, [sort_key(member) for member in value])
    keys = sorted(value)
    return (6, keys, [sort_key(value[key]) for key in keys])
