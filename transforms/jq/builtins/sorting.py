"""Sorting, grouping and extremes in jq's order, and the kernels of their `_by` forms.

A kernel takes the values and one key per value: the array of `f`'s outputs. All sorts are stable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cmp_to_key
from itertools import groupby
from typing import Any

from transforms.jq.builtins.contracts import Builtin
from transforms.jq.values import compare, equal, sort_key, type_error, type_error2

_by_order = cmp_to_key(compare)


def _keys(values: list[Any]) -> list[Any]:
    """Return what Python sorts as jq sorts the values: themselves, when all are text or all numbers."""
    kinds = set(map(type, values))
    if _are_plain(kinds, values):
        return values
    if kinds == {list} and len(set(map(len, values))) == 1:
        # Several keys each, of one kind per place: Python compares such arrays as jq does.
        places = list(zip(*values, strict=True))
        if all(_are_plain(set(map(type, place)), place) for place in places):
            return values
    return [sort_key(value) for value in values]


def _are_plain(kinds: set[type], values: Iterable[Any]) -> bool:
    """Return whether values are all text or all numbers, which Python orders as jq does but for nan."""
    if kinds in ({str}, {int}):
        return True
    return kinds <= {int, float} and not any(map(math.isnan, values))


def _plain(keys: list[Any]) -> list[Any]:
    """Return keys that are arrays of one value as these values, which compare alike and faster."""
    if keys and set(map(type, keys)) == {list} and set(map(len, keys)) == {1}:
        return [key[0] for key in keys]
    return keys


def _order(keys: list[Any]) -> list[int]:
    """Return the indices of `keys` in their order."""
    if len(keys) < 2:
        return list(range(len(keys)))
    try:
        return sorted(range(len(keys)), key=_keys(keys).__getitem__)
    except (RecursionError, OverflowError):
        # Deeply nested keys; or an integer that isnan takes for too large.
        return sorted(range(len(keys)), key=lambda at: _by_order(keys[at]))


def sort(value: Any) -> list[Any]:
    """Return an array sorted."""
    if type(value) is not list:
        raise type_error(value, "cannot be sorted, as it is not an array")
    return [value[at] for at in _order(value)]


def sort_by_keys(values: Any, keys: list[Any]) -> list[Any]:
    """Return an array sorted by one key per element."""
    _check(values, keys)
    return [values[at] for at in _order(_plain(keys))]


def group_by_keys(values: Any, keys: list[Any]) -> list[list[Any]]:
    """Return the arrays of elements with equal keys, sorted by their keys."""
    _check(values, keys)
    return _grouped(values, _plain(keys))


def _grouped(values: list[Any], keys: list[Any]) -> list[list[Any]]:
    if set(map(type, keys)) in ({str}, {int}):
        found: dict[Any, list[Any]] = {}
        for key, value in zip(keys, values, strict=True):
            found.setdefault(key, []).append(value)
        return [found[key] for key in sorted(found)]
    groups: list[list[Any]] = []
    last: Any = None
    for at in _order(keys):
        if groups and equal(last, keys[at]):
            groups[-1].append(values[at])
        else:
            groups.append([values[at]])
            last = keys[at]
    return groups


def unique_by_keys(values: Any, keys: list[Any]) -> list[Any]:
    """Return the first element of each group of equal keys, sorted by their keys."""
    return [group[0] for group in group_by_keys(values, keys)]


def unique(value: Any) -> list[Any]:
    """Return an array sorted, without repetitions."""
    if type(value) is not list:
        raise type_error(value, "cannot be sorted, as it is not an array")
    if set(map(type, value)) == {str}:
        return [text for text, _ in groupby(sorted(value))]
    return [group[0] for group in _grouped(value, value)]


def _check(values: Any, keys: list[Any]) -> None:
    if type(values) is not list:
        # jq evaluates the keys first, and shows them.
        raise type_error2(values, keys, "cannot be sorted, as they are not both arrays")


def min_by_keys(values: Any, keys: list[Any]) -> Any:
    """Return the first element whose key is least, null of an empty array."""
    return _extreme(values, keys, 1)


def max_by_keys(values: Any, keys: list[Any]) -> Any:
    """Return the last element whose key is greatest, null of an empty array."""
    return _extreme(values, keys, -1)


def _extreme(values: Any, keys: list[Any], sign: int) -> Any:
    if type(values) is not list or type(keys) is not list:
        raise type_error2(values, keys, "cannot be iterated over")
    if not values:
        return None
    best = 0
    keys = _plain(keys)
    if set(map(type, keys)) in ({str}, {int}):
        at_of = keys.__getitem__
        size = len(keys)
        return values[
            min(range(size), key=at_of) if sign > 0 else max(range(size - 1, -1, -1), key=at_of)
        ]
    for at in range(1, len(values)):
        order = compare(keys[at], keys[best])
        if order < 0 if sign > 0 else order >= 0:
            best = at
    return values[best]


def bsearch(value: Any, target: Any) -> int:
    """Return the index of `target` in a sorted array, or -1 less where it would go."""
    if type(value) is not list:
        raise type_error(value, "cannot be searched from")
    start, end = 0, len(value)
    while start < end:
        middle = start + (end - start) // 2
        order = compare(target, value[middle])
        if order == 0:
            return middle
        if order < 0:
            end = middle
        else:
            start = middle + 1
    return -1 - start


FUNCTIONS = {
    ("sort", 0): Builtin(sort),
    ("unique", 0): Builtin(unique),
    ("min", 0): Builtin(lambda value: min_by_keys(value, value)),
    ("max", 0): Builtin(lambda value: max_by_keys(value, value)),
    ("bsearch", 1): Builtin(bsearch),
}
