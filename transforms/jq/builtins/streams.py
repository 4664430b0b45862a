"""Walks over a value and its stream of events, `[path, leaf]` and `[path]` at a close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.types import length
from transforms.jq.paths import index, set_path, slice_of
from transforms.jq.values import compare, equal

_COMPOSITE = (list, dict)


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if type(value) is list:
        return enumerate(value)
    return iter(value.items())


def descend(value: Any) -> Iterator[Any]:
    """Yield a value and everything in it, outermost first: `..`."""
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        for item in stack[-1]:
            yield item
            if type(item) in _COMPOSITE and item:
                stack.append(iter(item if type(item) is list else item.values()))
                break
        else:
            stack.pop()


def paths(value: Any) -> Iterator[list[Any]]:
    """Yield the path of everything in a value, outermost first, without the empty one."""
    if type(value) not in _COMPOSITE:
        return
    stack, path = [_members(value)], [None]
    while stack:
        for key, item in stack[-1]:
            path[-1] = key
            yield path.copy()
            if type(item) in _COMPOSITE and item:
                stack.append(_members(item))
                path.append(None)
                break
        else:
            stack.pop()
            path.pop()


def tostream(value: Any) -> Iterator[list[Any]]:
    """Yield a value's events."""
    if type(value) not in _COMPOSITE or not value:
        yield [[], value]
        return
    stack: list[Iterator[tuple[Any, Any]]] = [_members(value)]
    path: list[Any] = [None]
    while stack:
        for key, item in stack[-1]:
            path[-1] = key
            if type(item) in _COMPOSITE and item:
                stack.append(_members(item))
                path.append(None)
                break
            yield [path.copy(), item]
        else:
            yield [path.copy()]
            stack.pop()
            path.pop()


class FromStream:
    """`fromstream`, event by event: builds values in place, as nobody sees them before they are whole."""

    __slots__ = ("_done", "_shared", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._done = False
        self._shared = False

    def feed(self, event: Any) -> tuple[Any, ...]:
        """Take an event; return the value it completes as `(value,)`, or `()`. Raises JqError."""
        if self._done:
            self._value, self._done, self._shared = None, False, False
        path = index(event, 0)
        if equal(length(event), 2):
            self._done = equal(length(path), 0)
            self._put(path, index(event, 1))
        else:
            self._done = equal(length(path), 1)
        return (self._value,) if self._done else ()

    def _put(self, path: Any, leaf: Any) -> None:
        if self._shared or type(path) is not list or not _grown(self._value, path):
            # Not what a stream looks like: with all of jq's rules, and its errors.
            boxed = {"x": self._value}
            self._value = set_path(boxed, ["x", *path] if type(path) is list else path, leaf)["x"]
            self._shared = True
            return
        if type(leaf) in _COMPOSITE:
            self._shared = bool(leaf)
            leaf = leaf.copy()
        if not path:
            self._value = leaf
            return
        if self._value is None:
            self._value = {} if type(path[0]) is str else []
        target = self._value
        for key, following in pairwise(path):
            inner = _member(target, key)
            if inner is None:
                inner = {} if type(following) is str else []
                _store(target, key, inner)
            target = inner
        _store(target, path[-1], leaf)


def _member(target: Any, key: Any) -> Any:
    if type(target) is dict:
        return target.get(key)
    return target[key] if key < len(target) else None


def _store(target: Any, key: Any, value: Any) -> None:
    if type(target) is list and key == len(target):
        target.append(value)
    else:
        target[key] = value


def _grown(value: Any, path: list[Any]) -> bool:
    """Return whether `path` leads through `value` to where something may be put, or appended."""
    for key in path:
        if value is not None:
            if type(key) is str:
                if type(value) is not dict:
                    return False
            elif not (type(key) is int and type(value) is list and 0 <= key <= len(value)):
                return False
            value = _member(value, key)
        elif type(key) is not str and not (type(key) is int and key == 0):
            return False
    return True


def truncated(depth: Any, event: Any) -> tuple[Any, ...]:
    """Return an event without the first `depth` keys of its path as `(event,)`; `()` if it has no more."""
    path = index(event, 0)
    if compare(length(path), depth) <= 0:
        return ()
    return (set_path(event, [0], slice_of(path, depth, None)),)


def from_stream(events: Iterable[Any]) -> Iterator[Any]:
    """Yield the values that events build."""
    building = FromStream()
    for event in events:
        yield from building.feed(event)


FUNCTIONS = {
    ("paths", 0): Builtin(paths, many=True),
    ("tostream", 0): Builtin(tostream, many=True),
}
