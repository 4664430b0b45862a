"""Walks over a value and its stream of events, `[path, leaf]` and `[path]` at a close."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transforms.jq.builtins.contracts import Builtin

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


FUNCTIONS = {
    ("paths", 0): Builtin(paths, many=True),
    ("tostream", 0): Builtin(tostream, many=True),
}
