"""What generated code calls beside the builtins: small things that have no place of their own."""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from transforms.jq.arithmetic import add, bounded, subtract, whole
from transforms.jq.builtins import FUNCTIONS
from transforms.jq.errors import LARGEST_TEXT, JqError, TooLarge
from transforms.jq.json_text import shortened, to_json
from transforms.jq.values import compare, kind_of

_add = FUNCTIONS[("add", 0)].call


class _Nothing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()
"""Stands where a program had no output. Never seen by a program."""

ONCE = (None,)

_PLAIN = frozenset({int, str})
"""Types whose values Python orders as jq does; among doubles NaN is not."""

_SMALL = 1 << 62
_EXACT = 2.0**53
"""Sums of doubles below it are the same whether whole ones among them are integers or not."""

_DOUBLES, _TEXTS = {float}, {str}


class Break(BaseException):
    """`break $label`: each activation of a label is one of its own.

    A `try` between the label and its `break` catches it as if it were an error, as in jq 1.8.2.
    """

    __slots__ = ()


def fail(value: Any) -> Any:
    """Raise what `error(value)` raises."""
    raise JqError(value)


def caught(error: JqError | Break) -> Any:
    """Return what `catch` sees."""
    return error.value if isinstance(error, JqError) else {"__jq": 0}


def too_many(out: Sequence[Any]) -> None:
    """Raise TooLarge for more outputs than one event may have."""
    raise TooLarge(f"it has more than {len(out) - 1:,} outputs")


def values_or_nothing(value: Any) -> Iterable[Any]:
    """Return the outputs of `.[]?`."""
    if type(value) is list:
        return value
    if type(value) is dict:
        return value.values()
    return ()


def paths_or_nothing(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return keys and values of `.[]?`."""
    if type(value) is list:
        return enumerate(value)
    if type(value) is dict:
        return value.items()
    return ()


def less(left: Any, right: Any) -> bool:
    """Return `left < right`."""
    if type(left) is type(right) and type(left) in _PLAIN:
        return bool(left < right)
    return compare(left, right) < 0


def at_most(left: Any, right: Any) -> bool:
    """Return `left <= right`."""
    if type(left) is type(right) and type(left) in _PLAIN:
        return bool(left <= right)
    return compare(left, right) <= 0


def more(left: Any, right: Any) -> bool:
    """Return `left > right`."""
    if type(left) is type(right) and type(left) in _PLAIN:
        return bool(left > right)
    return compare(left, right) > 0


def at_least(left: Any, right: Any) -> bool:
    """Return `left >= right`."""
    if type(left) is type(right) and type(left) in _PLAIN:
        return bool(left >= right)
    return compare(left, right) >= 0


def to_text(value: Any) -> str:
    """Return `tostring`."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int and -_SMALL < value < _SMALL else to_json(value)


def refusing_infinity(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return arithmetic that raises OverflowError rather than leave the range of doubles."""

    def within(*operands: Any) -> Any:
        made = call(*operands)
        if type(made) is float and not math.isfinite(made):
            raise OverflowError
        return made

    return within


def _sum(values: Sequence[float]) -> float:
    """Return the sum of doubles, from left to right."""
    if sys.version_info >= (3, 12):
        # Its sum makes up for what is lost on the way, which jq's doesn't.
        return functools.reduce(operator.add, values)
    return sum(values, -0.0)


def add_all(values: Any) -> Any:
    """Return `add`; numbers and strings without a call each."""
    if type(values) is list and values:
        kinds = set(map(type, values))
        kind = type(values[0])
        if kinds == _DOUBLES:
            return whole(_sum(values))
        if kind is float or kind is int:
            total: Any = 0
            for value in values:
                kind = type(value)
                if kind is not float and (kind is not int or not -_SMALL < value < _SMALL):
                    break
                total += value
            else:
                if type(total) is int:
                    return bounded(total)
                if -_EXACT < total < _EXACT:
                    return whole(total)
        elif kinds == _TEXTS:
            return joined(values)
    return _add(values)


def no_sum(value: Any) -> float:  # noqa: ARG001 - it was made to see whether it can be
    """Return what makes a sum no number: an element is none."""
    return math.nan


def sum_of_numbers(total: Any) -> Any:
    """Return a sum as `add` has it; None where its elements are to be looked at, or are none."""
    if type(total) is float:
        return whole(total) if total and -_EXACT < total < _EXACT else None
    return bounded(total) if total else None


def joined(parts: Sequence[Any]) -> str:
    """Return the parts of a string as one."""
    text = "".join(parts)
    if len(text) > LARGEST_TEXT:
        raise TooLarge("a string grew too long")
    return text


def object_key(value: Any) -> str:
    """Return an object's key, which must be a string."""
    if type(value) is str:
        return value
    raise JqError(f"Cannot use {kind_of(value)} ({shortened(value)}) as object key")


def descend(value: Any) -> Iterator[Any]:
    """Return the outputs of `..`: the value and all in it, from the outside in."""
    yield value
    if type(value) is not list and type(value) is not dict:
        return
    waiting: list[Iterator[Any]] = [iter(values_or_nothing(value))]
    while waiting:
        for inner in waiting[-1]:
            yield inner
            if type(inner) is list:
                waiting.append(iter(inner))
                break
            if type(inner) is dict:
                waiting.append(iter(inner.values()))
                break
        else:
            waiting.pop()


def descend_paths(value: Any, path: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Return the outputs of `..` with their paths."""
    yield value, path
    waiting = [(path, iter(paths_or_nothing(value)))]
    while waiting:
        before, items = waiting[-1]
        for key, inner in items:
            here = [*before, key]
            yield inner, here
            if type(inner) is list or type(inner) is dict:
                waiting.append((here, iter(paths_or_nothing(inner))))
                break
        else:
            waiting.pop()


def all_paths(value: Any) -> Iterator[list[Any]]:
    """Return the outputs of `paths`."""
    found = descend_paths(value, [])
    next(found)
    for _, path in found:
        yield path


def numbers(start: Any, end: Any, step: Any = 1) -> Iterable[Any]:
    """Return the outputs of `range`."""
    if type(start) is int and type(end) is int and type(step) is int:
        return range(start, end, step) if step else ()
    for value in (start, end, step):
        if type(value) is not int and type(value) is not float:
            raise JqError("Range bounds must be numeric")
    return _numbers(start, end, step)


def _numbers(value: Any, end: Any, step: Any) -> Iterator[Any]:
    if step > 0:
        while value < end:
            yield value
            value = add(value, step)
    elif step < 0:
        while value > end:
            yield value
            value = add(value, step)


def limit_of(count: Any) -> Any:
    """Return how many outputs `limit` lets pass."""
    if compare(count, 0) < 0:
        raise JqError("limit doesn't support negative count")
    if type(count) is not int and type(count) is not float:
        subtract(count, 1)  # raises: jq counts down from whatever it is given
    return count


# --- paths --------------------------------------------------------------------------------------


class _Nowhere:
    """Stands for the value at a path where another was made: nothing is identical to it."""


_NOWHERE = _Nowhere()


def unless_fresh(value: Any, anchor: Any, is_fresh: Any) -> Any:
    """Return what stands at a path, for a value that was made: null, true, false are all the same."""
    if not is_fresh:
        return anchor
    if value is anchor and (value is None or value is True or value is False):
        return anchor
    return _NOWHERE


def check_access(value: Any, anchor: Any, key: Any) -> None:
    """Raise JqError unless the value stands at the path at hand, and `value[key]` has one."""
    if value is not anchor:
        raise JqError(
            f"Invalid path expression near attempt to access element {shortened(key)} of {shortened(value)}"
        )


def check_iterate(value: Any, anchor: Any) -> None:
    """Raise JqError unless the value stands at the path at hand, and its values have paths."""
    if value is not anchor:
        raise JqError(f"Invalid path expression near attempt to iterate through {shortened(value)}")


def check_result(value: Any, anchor: Any) -> None:
    """Raise JqError unless the value stands at the path at hand."""
    if value is not anchor:
        raise JqError(f"Invalid path expression with result {shortened(value)}")
