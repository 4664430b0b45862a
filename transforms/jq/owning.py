"""What a `reduce` does to its state when nobody else can see it: changed in place rather than copied.

`reduce .[] as $x ({}; .[$x.id] = $x)` would else take time that grows with the square of its input.
The generated code calls these only where the state is not read again before it is replaced; whether
something else holds it (a constant, a variable, another value) is told by its count of references.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from transforms.jq.errors import LARGEST_ARRAY
from transforms.jq.paths import set_item


def _references(value: Any) -> int:
    return sys.getrefcount(value)


def _alone() -> int:
    state: dict[str, Any] = {}
    return _references(state)


_ALONE = _alone()
"""References that a called function counts of what a variable of its caller holds, and nothing else."""


def let_go(state: Any, key: Any, held: Any) -> None:
    """Take what is at `key` out of `state`, for it to be changed and `put` back.

    Only where nobody sees it missing, and it is `held` by the caller.
    """
    if held is None or sys.getrefcount(state) != _ALONE:
        return
    if type(state) is dict:
        if type(key) is str:
            state[key] = None
    elif type(state) is list and type(key) is int and 0 <= key < len(state):
        state[key] = None


def put(state: Any, key: Any, new: Any) -> Any:
    """Return `state` with `new` at `key`. Raises JqError."""
    if type(state) is dict and type(key) is str:
        if sys.getrefcount(state) != _ALONE:
            return {**state, key: new}
        state[key] = new
        return state
    if (
        type(state) is list
        and type(key) is int
        and 0 <= key <= len(state) < LARGEST_ARRAY
        and sys.getrefcount(state) == _ALONE
    ):
        state[key : key + 1] = (new,)
        return state
    return set_item(state, key, new)


def growing(add: Callable[[Any, Any], Any]) -> dict[str, Callable[..., Any]]:
    """Return by name what adds to a state or within it, where `add` adds what is seen by others."""

    def grow(state: Any, more: Any) -> Any:
        """Return `state + more`."""
        if sys.getrefcount(state) == _ALONE and _grows(state, more):
            return state
        return add(state, more)

    def grow_at(state: Any, key: Any, old: Any, more: Any) -> Any:
        """Return `state[key] + more`, for `state` to get at `key`; its caller, too, holds `old`."""
        if (
            type(state) is dict
            and sys.getrefcount(state) == _ALONE
            and sys.getrefcount(old) == _ALONE + 1
            and state.get(key) is old
            and _grows(old, more)
        ):
            return old
        return add(old, more)

    return {"grow": grow, "grow_at": grow_at}


def _grows(value: Any, more: Any) -> bool:
    """Add to an array or object in place; False where it is something else."""
    kind = type(value)
    if kind is not type(more):
        return False
    if kind is list and len(value) + len(more) <= LARGEST_ARRAY:
        value += more
        return True
    if kind is dict:
        value.update(more)
        return True
    return False
