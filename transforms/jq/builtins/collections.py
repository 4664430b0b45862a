"""Arrays and objects: their keys, members, parts and entries; and the getters and setters of paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import Any

from transforms.jq.arithmetic import add, bounded, subtract
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.types import length
from transforms.jq.errors import LARGEST_ARRAY, LARGEST_TEXT, JqError, TooLarge
from transforms.jq.json_text import DEEPEST
from transforms.jq.paths import (
    delete_paths,
    get_path,
    has,
    index,
    iterate,
    set_path,
)
from transforms.jq.values import (
    compare,
    equal,
    kind_of,
    shortened,
    truthy,
    type_error,
    type_error2,
)


def keys(value: Any) -> list[Any]:
    """Return the sorted keys of an object, the indices of an array."""
    if type(value) is dict:
        return sorted(value)
    return keys_unsorted(value)


def keys_unsorted(value: Any) -> list[Any]:
    """Return the keys of an object as they come, the indices of an array."""
    if type(value) is dict:
        return list(value)
    if type(value) is list:
        return list(range(len(value)))
    raise type_error(value, "has no keys")


def contains(value: Any, part: Any) -> bool:
    """Return whether `part` is in `value`: as text, or member by member. Raises JqError."""
    if kind_of(value) != kind_of(part) or (type(value) is bool and value is not part):
        raise type_error2(value, part, "cannot have their containment checked")
    try:
        return _contains(value, part)
    except RecursionError:
        return _contains_deep(value, part)


def _contains(value: Any, part: Any, room: int = 100) -> bool:
    kind = type(value)
    if kind is type(part):
        if kind is str:
            return part in value
        if kind is list or kind is dict:
            if not room:
                raise RecursionError
            if kind is list:
                return all(
                    any(_contains(item, wanted, room - 1) for item in value) for wanted in part
                )
            return all(key in value and _contains(value[key], part[key], room - 1) for key in part)
    return equal(value, part)


def _contains_deep(value: Any, part: Any) -> bool:
    """Return `contains` of deeply nested values, on a stack of our own."""
    stack, answer = [_questions(value, part)], None
    while stack:
        if len(stack) > DEEPEST + 1:
            raise JqError("Containment check too deep")
        try:
            pair = stack[-1].send(answer)
        except StopIteration as done:
            stack.pop()
            answer = done.value
        else:
            stack.append(_questions(*pair))
            answer = None
    return bool(answer)


def _questions(value: Any, part: Any) -> Any:
    """Ask, as a generator, for the answers about members; return the one about `value`."""
    kind = type(value)
    if kind is type(part) and kind is list:
        for wanted in part:
            found = False
            for item in value:
                found = yield item, wanted
                if found:
                    break
            if not found:
                return False
        return True
    if kind is type(part) and kind is dict:
        for key in part:
            if key not in value or not (yield value[key], part[key]):
                return False
        return True
    return _contains(value, part)


def total(items: Iterable[Any]) -> Any:
    """Return the sum of values as `add` has it: null of none."""
    values = list(items)
    kinds = set(map(type, values))
    if len(kinds) != 1 or len(values) < 2:
        return _added(values)
    (kind,) = kinds
    if kind is int:
        return bounded(sum(values))
    if kind is str:
        if sum(map(len, values)) > LARGEST_TEXT:
            raise TooLarge("a string of more than 64 M characters")
        return "".join(values)
    if kind is list:
        if sum(map(len, values)) > LARGEST_ARRAY:
            raise TooLarge("an array of more than 10 M elements")
        return list(chain.from_iterable(values))
    if kind is dict:
        merged: dict[str, Any] = {}
        for value in values:
            merged.update(value)
        return merged
    return _added(values)


def _added(values: list[Any]) -> Any:
    result = None
    for value in values:
        result = add(result, value)
    return result


def flatten(value: Any, depth: Any = None) -> list[Any]:
    """Return the elements with nested arrays opened, `depth` levels deep or all."""
    if depth is not None and compare(depth, 0) < 0:
        raise JqError("flatten depth must not be negative")
    result: list[Any] = []
    levels: list[tuple[Iterator[Any], Any]] = [
        (iter(iterate(value)), -1 if depth is None else depth)
    ]
    while levels:
        items, left = levels[-1]
        for item in items:
            if type(item) is list and not equal(left, 0):
                levels.append((iter(item), subtract(left, 1)))
                break
            result.append(item)
        else:
            levels.pop()
        if len(result) > LARGEST_ARRAY:
            raise TooLarge("an array of more than 10 M elements")
    return result


def _flatten_null(value: Any, depth: Any) -> list[Any]:
    if depth is None:
        raise JqError("flatten depth must not be negative")  # null sorts below 0
    return flatten(value, depth)


def reverse(value: Any) -> Any:
    """Return an array with its elements in reverse order; nothing has none."""
    if type(value) is list:
        return value[::-1]
    size = length(value)
    if not size > 0:
        return []
    index(value, size - 1)  # raises, as it does in jq, for all but numbers below 1
    return []


def to_entries(value: Any) -> list[dict[str, Any]]:
    """Return an object's members as `{"key": …, "value": …}`."""
    if type(value) is dict:
        return [{"key": key, "value": member} for key, member in value.items()]
    return [{"key": key, "value": value[key]} for key in keys_unsorted(value)]


def from_entries(value: Any) -> dict[str, Any]:
    """Return the object of entries, whose keys go by key, Key, name or Name."""
    result: dict[str, Any] = {}
    for entry in iterate(value):
        key = index(entry, "key")
        if not truthy(key):
            key = next(
                (found for name in ("Key", "name") if truthy(found := index(entry, name))),
                None,
            )
            if key is None:
                key = index(entry, "Name")
        member = index(entry, "value" if has(entry, "value") else "Value")
        if type(key) is not str:
            raise object_key_error(key)
        result[key] = member
    return result


def object_key_error(key: Any) -> JqError:
    """Return the error of a key in an object's construction that is no string."""
    return JqError(f"Cannot use {kind_of(key)} ({shortened(key)}) as object key")


def transpose(value: Any) -> list[list[Any]]:
    """Return rows as columns, padded with null."""
    if type(value) is list and all(type(row) is list for row in value):
        width = max(map(len, value), default=0)
        if width * len(value) > LARGEST_ARRAY:
            raise TooLarge("an array of more than 10 M elements")
        return [[row[at] if at < len(row) else None for row in value] for at in range(width)]
    sizes = [length(row) for row in iterate(value)]
    widest = max(sizes, key=_by_compare, default=0)
    columns = int(widest) + (widest != int(widest))
    return [[index(row, at) for row in iterate(value)] for at in range(columns)]


class _by_compare:  # noqa: N801 - a key function
    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _by_compare) -> bool:
        return compare(self.value, other.value) < 0

    def __gt__(self, other: _by_compare) -> bool:
        return compare(self.value, other.value) > 0


def combinations(value: Any) -> Iterator[list[Any]]:
    """Return an iterator of all picks of one element per array, the last varying fastest."""
    if type(value) is list and all(type(items) is list for items in value):
        return map(list, product(*value))
    return _combinations(value)


def _combinations(value: Any) -> Iterator[list[Any]]:
    if equal(length(value), 0):
        yield []
        return
    for first in iterate(index(value, 0)):
        for rest in _combinations(index(value, {"start": 1, "end": None})):
            yield [first, *rest]


FUNCTIONS = {
    ("keys", 0): Builtin(keys),
    ("keys_unsorted", 0): Builtin(keys_unsorted),
    ("has", 1): Builtin(has),
    ("in", 1): Builtin(lambda key, value: has(value, key)),
    ("contains", 1): Builtin(contains),
    ("inside", 1): Builtin(lambda part, value: contains(value, part)),
    ("add", 0): Builtin(lambda value: total(iterate(value))),
    ("any", 0): Builtin(lambda value: any(map(truthy, iterate(value)))),
    ("all", 0): Builtin(lambda value: all(map(truthy, iterate(value)))),
    ("flatten", 0): Builtin(flatten),
    ("flatten", 1): Builtin(_flatten_null),
    ("reverse", 0): Builtin(reverse),
    ("first", 0): Builtin(lambda value: index(value, 0)),
    ("last", 0): Builtin(lambda value: index(value, -1)),
    ("nth", 1): Builtin(index),
    ("to_entries", 0): Builtin(to_entries),
    ("from_entries", 0): Builtin(from_entries),
    ("transpose", 0): Builtin(transpose),
    ("combinations", 0): Builtin(combinations, many=True),
    ("getpath", 1): Builtin(get_path),
    ("setpath", 2): Builtin(set_path),
    ("delpaths", 1): Builtin(delete_paths),
}
