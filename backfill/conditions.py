"""Which events a backfill takes: by fields and what they must be, or by jq.

`{"event_type": "order.*", "data.total": {"$gte": 100}}`: all of it must hold. A value stands for `$eq`.
As in MongoDB, `$ne` and `$nin` hold for what is not there, comparisons only between values of one kind:
numbers, or texts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.batch import Batch, Column
from connectors.errors import FlowFileError
from flows.conditions import condition, true_for
from flows.spec.problems import did_you_mean
from transforms.executions import Executions

Test = Callable[[Any], bool]
Keep = Callable[[Batch], "list[int] | None"]
"""Returns the indexes of the events to take; None for all."""

_ABSENT = object()

_COLUMNS = (
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "key",
    "partition",
)


def compile_filter(wanted: Mapping[str, Any] | str | None) -> Keep | None:
    """Return what chooses from a batch; None where every event is taken.

    Raises FlowFileError `backfill_filter`, `where_invalid`.
    """
    if not wanted:
        return None
    if isinstance(wanted, str):
        return _by_jq(wanted)
    tests = [(_column_of(path), _test(path, value)) for path, value in wanted.items()]

    def keep(batch: Batch) -> list[int] | None:
        indexes: Sequence[int] = range(batch.size)
        for column, test in tests:
            values = column(batch)
            indexes = [k for k in indexes if test(values[k])]
        return None if len(indexes) == batch.size else list(indexes)

    return keep


def _by_jq(text: str) -> Keep:
    program = condition(text)

    def keep(batch: Batch) -> list[int] | None:
        found = true_for(program, Executions(batch, ""), range(batch.size))
        return None if len(found) == batch.size else found

    return keep


def _column_of(path: str) -> Callable[[Batch], Column]:
    """Return what makes the column of a path: an attribute of the event, or a place in its data."""
    name, *inside = path.removeprefix(".").split(".")
    if not name or not all(inside):
        raise _wrong(f"{path!r} is no path.", "Write an attribute, or data.total.")
    if name == "event_type":
        name = "type"
    if name == "data":
        return lambda batch: [_at(value, inside) for value in batch.column("data")]
    if inside:
        raise _wrong(f"{path!r} is no path.", f"Of an event's data it is data.{path}.")
    if name in _COLUMNS:
        return lambda batch: [_ABSENT if v is None else v for v in batch.column(name)]
    return lambda batch: [(row or {}).get(name, _ABSENT) for row in batch.column("extensions")]


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if isinstance(value, dict):
            value = value.get(key, _ABSENT)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _ABSENT
    return value


def _test(path: str, wanted: Any) -> Test:
    if not isinstance(wanted, dict) or not any(str(name).startswith("$") for name in wanted):
        if path in {"event_type", "type"} and isinstance(wanted, str):
            pattern = re.compile(fnmatch.translate(wanted))
            return lambda value: isinstance(value, str) and bool(pattern.match(value))
        return _equals(wanted)
    tests = [_operator(name, operand) for name, operand in wanted.items()]
    return lambda value: all(test(value) for test in tests)


def _operator(name: str, operand: Any) -> Test:
    if name in _ORDERED:
        if not isinstance(operand, (int, float, str)) or isinstance(operand, bool):
            raise _wrong(f"{name} compares with a number or a text, not {operand!r}.", "")
        return _ordered(name, operand)
    if name in {"$in", "$nin"}:
        if not isinstance(operand, list):
            raise _wrong(f"{name} takes a list.", f'Write {{"{name}": [1, 2]}}.')
        tests = [_equals(each) for each in operand]
        wanted = name == "$in"
        return lambda value: any(test(value) for test in tests) is wanted
    if name == "$exists":
        if not isinstance(operand, bool):
            raise _wrong("$exists takes true or false.", "")
        return lambda value: (value is not _ABSENT) is operand
    if name in {"$eq", "$ne"}:
        test = _equals(operand)
        return test if name == "$eq" else lambda value: not test(value)
    known = [*_ORDERED, "$in", "$nin", "$exists", "$eq", "$ne"]
    raise _wrong(f"there is no comparison {name}.", did_you_mean(name, known, none=""))


def _equals(wanted: Any) -> Test:
    is_bool = isinstance(wanted, bool)

    def test(value: Any) -> bool:
        if wanted is None:
            return value is None or value is _ABSENT
        return isinstance(value, bool) == is_bool and bool(value == wanted)

    return test


_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def _ordered(name: str, operand: float | str) -> Test:
    compare = _ORDERED[name]
    kinds: tuple[type, ...] = (str,) if isinstance(operand, str) else (int, float)

    def test(value: Any) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool) and compare(value, operand)

    return test


def _wrong(message: str, hint: str) -> FlowFileError:
    return FlowFileError(f"filter: {message}", code="backfill_filter", hint=hint)
