"""What generated code knows of values that it made itself: an object's keys, an array's elements.

So what a program puts together and takes apart again, `map({a: …}) | map(.a)`, is read without asking
what kind of value it is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """An object that has these keys, each as the code writes it."""

    names: frozenset[str]
    results: frozenset[str] = frozenset()
    """Those whose values are results."""


@dataclass(frozen=True, slots=True)
class Items:
    """An array, and what is known of each of its elements."""

    of: Shape | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What `-` or `*` puts out: a number as a rule, and never true or false.

    So where Python makes a double of it, jq does. Of anything else Python makes a TypeError.
    """


Shape = Keys | Items | Result

RESULT = Result()

_ENTRY = Keys(frozenset({'"key"', '"value"'}))
_ARRAY = Items()
MADE_BY: dict[str, Shape] = {
    "to_entries": Items(_ENTRY),
    "keys": _ARRAY,
    "keys_unsorted": _ARRAY,
    "split": _ARRAY,
    "explode": _ARRAY,
    "gmtime": _ARRAY,
    "transpose": Items(_ARRAY),
}
"""What functions return, whatever they are given, by their names."""


def common(shapes: set[Shape | None]) -> Shape | None:
    """Return what is known of each of several values."""
    return next(iter(shapes)) if len(shapes) == 1 else None
