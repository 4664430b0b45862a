"""Reading and changing values by key and by path, with jq's rules and words.

A key is a string, a number (fractions are cut, negative ones count from the end), an array (where it
occurs), or a slice `{"start": …, "end": …}`. A path is an array of keys. Nothing is changed in place: what
lies along the path is copied, the rest is shared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cmp_to_key
from typing import Any

from transforms.jq.errors import LARGEST_ARRAY, JqError, TooLarge
from transforms.jq.json_text import DEEPEST
from transforms.jq.values import compare, equal, kind_of, shortened

_NUMBERS = (int, float)
_LARGEST_INDEX = 2**29 - 1
"""Beyond this jq itself reports an error; between our bound and this we do."""


def index(value: Any, key: Any) -> Any:
    """Return `value[key]`: null of null and of what isn't there. Raises JqError."""
    kind, other = type(value), type(key)
    if kind is dict and other is str:
        return value.get(key)
    if kind is list:
        if other is int:
            return value[key] if -len(value) <= key < len(value) else None
        if other is float:
            if math.isnan(key):
                return None
            at = cut(key)
            return value[at] if -len(value) <= at < len(value) else None
        if other is dict:
            start, end = slice_bounds(len(value), *_ends(key))
            return value[start:end]
        if other is list:
            return occurrences(value, key)
    elif kind is str and other is dict:
        start, end = slice_bounds(len(value), *_ends(key))
        return value[start:end]
    elif value is None and other in {str, int, float, dict}:
        return None
    raise JqError(f"Cannot index {kind_of(value)} with {kind_of(key)} ({shortened(key)})")


def slice_of(value: Any, start: Any, end: Any) -> Any:
    """Return `value[start:end]` of an array, a string or null. Raises JqError."""
    kind = type(value)
    if kind is list or kind is str:
        first, last = slice_bounds(len(value), start, end)
        return value[first:last]
    return index(value, {"start": start, "end": end})


def slice_bounds(length: int, start: Any, end: Any) -> tuple[int, int]:
    """Return where a slice begins and ends: the start is rounded down, the end up."""
    if start is None:
        start = 0
    if end is None:
        end = length
    if type(start) not in _NUMBERS or type(end) not in _NUMBERS:
        raise JqError("Array/string slice indices must be integers")
    first = 0 if start != start else start + length if start < 0 else start  # noqa: PLR0124
    first = int(min(max(first, 0), length))
    last = length if end != end else end + length if end < 0 else end  # noqa: PLR0124
    last = first if last < 0 else math.ceil(min(last, length))
    return first, max(first, last)


def _ends(key: dict[str, Any]) -> tuple[Any, Any]:
    """Return start and end of a slice; one that is missing, unlike a null, is no number to jq."""
    return key.get("start", ""), key.get("end", "")


def occurrences(value: list[Any], part: list[Any]) -> list[int]:
    """Return the indices at which `part` occurs in an array; none for an empty one."""
    if not part:
        return []
    first, size = part[0], len(part)
    return [
        at
        for at, item in enumerate(value)
        if equal(item, first)
        and (size == 1 or (at + size <= len(value) and _matches(value, at, part)))
    ]


def _matches(value: list[Any], at: int, part: list[Any]) -> bool:
    return all(equal(value[at + offset], part[offset]) for offset in range(1, len(part)))


def has(value: Any, key: Any) -> bool:
    """Return whether `value` has the key. Raises JqError."""
    kind, other = type(value), type(key)
    if kind is dict and other is str:
        return key in value
    if kind is list and other in _NUMBERS:
        return key == key and 0 <= cut(key) < len(value)  # noqa: PLR0124 - not nan
    if value is None:
        return False
    raise JqError(f"Cannot check whether {kind_of(value)} has a {kind_of(key)} key")


def cut(number: int | float) -> int:  # noqa: PYI041 - it is about the difference
    """Return a number without its fraction; infinities become an index that nothing has."""
    if type(number) is float and math.isinf(number):
        return 2**31 - 1 if number > 0 else -(2**31)
    return int(number)


def iterate(value: Any) -> Iterable[Any]:
    """Return the values of an array or object. Raises JqError for anything else."""
    kind = type(value)
    if kind is list:
        return value  # type: ignore[no-any-return] # it is a list
    if kind is dict:
        return value.values()  # type: ignore[no-any-return] # of a dict
    raise JqError(f"Cannot iterate over {kind_of(value)} ({shortened(value)})")


def iterate_paths(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the keys and values of an array or object. Raises JqError for anything else."""
    kind = type(value)
    if kind is list:
        return enumerate(value)
    if kind is dict:
        return value.items()  # type: ignore[no-any-return] # of a dict
    raise JqError(f"Cannot iterate over {kind_of(value)} ({shortened(value)})")


def _checked(path: Any) -> list[Any]:
    if type(path) is not list:
        raise JqError("Path must be specified as an array")
    if len(path) > DEEPEST:
        raise JqError("Path too deep")
    return path


def get_path(value: Any, path: Any) -> Any:
    """Return what is at a path, null where nothing is. Raises JqError."""
    for key in _checked(path):
        value = index(value, key)
    return value


def set_item(value: Any, key: Any, new: Any) -> Any:
    """Return an array or object with `new` at `key`; null becomes one. Raises JqError."""
    kind, other = type(value), type(key)
    if other is str and (kind is dict or value is None):
        return {**value, key: new} if value is not None else {key: new}
    if other in _NUMBERS and (kind is list or value is None):
        return _with_element(value or [], key, new)
    if other is dict and (kind is list or value is None):
        items = value or []
        start, end = slice_bounds(len(items), *_ends(key))
        if type(new) is not list:
            raise JqError("A slice of an array can only be assigned another array")
        return items[:start] + new + items[end:]
    if other is dict and kind is str:
        raise JqError("Cannot update string slices")
    raise JqError(f"Cannot update field at {kind_of(key)} index of {kind_of(value)}")


def _with_element(items: list[Any], key: int | float, new: Any) -> list[Any]:  # noqa: PYI041
    if key != key:  # noqa: PLR0124 - nan
        raise JqError("Cannot set array element at NaN index")
    at = cut(key)
    if at < 0:
        at += len(items)
        if at < 0:
            raise JqError("Out of bounds negative array index")
    if at < len(items):
        result = items.copy()
        result[at] = new
        return result
    if at > _LARGEST_INDEX:
        raise JqError("Array index too large")
    if at >= LARGEST_ARRAY:
        raise TooLarge("an array of more than 10 M elements")
    return [*items, *([None] * (at - len(items))), new]


def set_path(value: Any, path: Any, new: Any) -> Any:
    """Return a value with `new` at a path, made along the way where null was. Raises JqError."""
    containers = []
    for key in _checked(path):
        containers.append(value)
        kind = type(key)
        if kind is str and type(value) is dict:
            value = value.get(key)
        elif kind is int and type(value) is list and 0 <= key < len(value):
            value = value[key]
        elif kind is not str or value is not None:
            inner = index(value, key)
            if kind is not dict:
                # Raises what it has to before anything further in is looked at.
                set_item(value, key, None)
            value = inner
    for container, key in zip(reversed(containers), reversed(path), strict=True):
        if type(key) is str:
            new = {**container, key: new} if container is not None else {key: new}
        else:
            new = set_item(container, key, new)
    return new


def delete_paths(value: Any, paths: Any) -> Any:
    """Return a value without what is at the paths, all of them found before any goes. Raises JqError."""
    if type(paths) is not list:
        raise JqError("Paths must be specified as an array")
    ordered = sorted(paths, key=cmp_to_key(compare)) if len(paths) > 1 else paths
    for path in ordered:
        if type(path) is not list:
            raise JqError(f"Path must be specified as array, not {kind_of(path)}")
        if len(path) > DEEPEST:
            raise JqError("Path too deep")
    if not ordered:
        return value
    return _without(value, ordered, 0) if ordered[0] else None


def _without(value: Any, paths: list[list[Any]], at: int) -> Any:
    """Delete sorted paths that share their first `at` keys; `value` is what is there."""
    above: list[tuple[Any, Any]] = []
    while len(paths) == 1 and len(paths[0]) > at + 1:
        # A single path goes down without recursion: it may be thousands of keys long.
        key = paths[0][at]
        inner = index(value, key)
        if inner is None:
            break
        above.append((value, key))
        value, at = inner, at + 1
    else:
        value = _without_keys(value, paths, at)
    for container, key in reversed(above):
        value = set_item(container, key, value)
    return value


def _without_keys(value: Any, paths: list[list[Any]], at: int) -> Any:
    keys = []
    position = 0
    while position < len(paths):
        path = paths[position]
        key, begin = path[at], position
        position += 1
        while position < len(paths) and equal(paths[position][at], key):
            position += 1
        if len(path) == at + 1:
            keys.append(key)
            continue
        inner = index(value, key)
        if inner is not None:
            value = set_item(value, key, _without(inner, paths[begin:position], at + 1))
    return delete_keys(value, keys)


def delete_keys(value: Any, keys: list[Any]) -> Any:
    """Return an array or object without some of its keys. Raises JqError."""
    if value is None or not keys:
        return value
    if type(value) is dict:
        for key in keys:
            if type(key) is not str:
                raise JqError(f"Cannot delete {kind_of(key)} field of object")
        gone = set(keys)
        return {key: member for key, member in value.items() if key not in gone}
    if type(value) is list:
        places = _deleted(value, keys)
        return [item for place, item in enumerate(value) if place not in places]
    raise JqError(f"Cannot delete fields from {kind_of(value)}")


def _deleted(items: list[Any], keys: list[Any]) -> set[int]:
    places: set[int] = set()
    for key in keys:
        if type(key) in _NUMBERS:
            if key == key:  # noqa: PLR0124 - not nan
                places.add(cut(key) + (len(items) if key < 0 else 0))
        elif type(key) is dict:
            places.update(range(*slice_bounds(len(items), *_ends(key))))
        else:
            raise JqError(f"Cannot delete {kind_of(key)} element of array")
    return places
