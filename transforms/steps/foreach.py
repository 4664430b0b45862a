"""`step.foreach`: steps for each item of a list."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, AliasChoices, Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import HeldError, PenstockError, PermanentError
from connectors.settings import Path, Settings
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.expressions.values import kind_of
from transforms.steps.inputs import input_of, step_path
from transforms.steps.substeps import (
    SubStep,
    failed_in,
    inner_maker,
    last_outputs,
    outputs_of,
    own_names,
    passes_of,
    run_all,
)

AT_ONCE = 1000
"""Items that one call of an inner step gets at most, of all events together."""

_ROOTS = ("trigger", "steps", "meta", "event", "data", "before", "after", "operation")


def _check_variable(value: str) -> str:
    if value in _ROOTS:
        raise ValueError(f"another name than {', '.join(_ROOTS)}: those are the event's")
    return value


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$"), AfterValidator(_check_variable)]


class ForeachSettings(Settings):
    """Configuration of `step.foreach`.

    Its output is `{results, count}`, and with `collect_errors` also `{errors, error_count}`.
    """

    collection: Path
    """Where the list is, such as `data.items`. An empty list is fine; what is no list, null
    included, fails the event."""
    item_var: Variable = Field(
        default="item", validation_alias=AliasChoices("item_var", "item_key")
    )
    """Name under which the steps find the item: `.item`. It hides a field of that name, which is
    `.data.item` still."""
    index_key: Variable = "index"
    """Name under which the steps find the item's number, from 0."""
    concurrency: Annotated[int, Ge(1), Le(1000)] = 1
    """Items of one event under way at the same time: so many of each event are started together,
    and the next ones when those are through. Events of the same key take turns. Where all steps
    compute (`jq`, `set`, …) and reach nothing outside, it makes no difference."""
    error_strategy: Literal["fail_fast", "collect_errors"] = "fail_fast"
    """`fail_fast`: the first item that fails fails the event, and no further one is started.
    `collect_errors`: all run, the result of one that failed is null, and `errors` lists each as
    `{index, step, code, message}`."""
    steps: Annotated[list[SubStep], MinLen(1)]
    """The steps that run for each item, in order. They see the event, the steps before the loop and
    those of their own pass. An item's result is the output of the last one that has any."""

    @model_validator(mode="after")
    def _two_names(self) -> Self:
        if self.item_var == self.index_key:
            raise ValueError("an index_key that is not item_var too")
        return self


@dataclass(slots=True)
class _Loop:
    """One execution's way through its list."""

    index: int
    items: list[Any]
    results: list[Any] = field(default_factory=list)
    """One per item that was started."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False

    @property
    def left(self) -> int:
        return 0 if self.failed else len(self.items) - len(self.results)


_Lane = deque[_Loop]
"""Loops that go through their lists one after another."""


class ForeachStep:
    """Runs its steps over batches of items, taken from the lists of many events.

    Steps that reach nothing outside are run for as many items as there are. Others are run in
    waves: of the lists of all events at once, but `concurrency` items of each, and of the events
    of one key one after another.
    """

    has_output = True

    def __init__(self, settings: ForeachSettings, env: StepEnvironment) -> None:
        self._place = env.name
        self._collection = step_path(settings.collection, env)
        self._shown = settings.collection
        self._item, self._number = settings.item_var, settings.index_key
        self._collects = settings.error_strategy == "collect_errors"
        own = own_names(settings.steps)
        self._steps = inner_maker(env)("steps", [name for name in env.earlier if name not in own])
        self._outputs = outputs_of(self._steps)
        self._hidden = own.union(self._outputs)
        reaches_out = any(step.reaches_out for step in self._steps)
        self._most = settings.concurrency if reaches_out else None

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one output per event, once all its items are through."""
        loops = self._loops(executions, indexes)
        lanes = self._lanes(loops, executions)
        while lanes:
            if not self._wave(executions, _taken(lanes, self._most)):
                return [UNSET] * len(indexes)
            lanes = _left(lanes)
        outputs = {loop.index: self._output(loop) for loop in loops if not loop.failed}
        return [outputs.get(index, UNSET) for index in indexes]

    def close(self) -> None:
        """Leave it to the runtime, which closes the steps inside."""

    def _loops(self, executions: Executions, indexes: Sequence[int]) -> list[_Loop]:
        lists, kept = input_of(self._collection, executions, indexes)
        loops = []
        for index, items in zip(kept, lists, strict=True):
            if isinstance(items, list):
                loops.append(_Loop(index, items))
            else:
                executions.failures[index] = self._no_list(items)
        return loops

    def _lanes(self, loops: list[_Loop], executions: Executions) -> deque[_Lane]:
        """Return the lanes: one for all where the order does not show, else one per key."""
        keys: Column | None = None if self._most is None else executions.turn_column()
        lanes: dict[object, _Lane] = {}
        for loop in loops:
            if loop.items:
                key = None if keys is None else keys[loop.index]
                # An index is an int and a key a str, so they never meet.
                lane = loop.index if keys is not None and key is None else key
                lanes.setdefault(lane, deque()).append(loop)
        return deque(lanes.values())

    def _wave(self, executions: Executions, taken: list[tuple[_Loop, int]]) -> bool:
        """Run the steps for these items; return False when the worker must stop."""
        numbers = [number for _, number in taken]
        inside = passes_of(executions, [loop.index for loop, _ in taken], numbers, self._hidden)
        inside.scope[self._item] = [loop.items[number] for loop, number in taken]
        inside.scope[self._number] = numbers
        if not run_all(self._steps, inside):
            return False
        for (loop, _), result in zip(taken, last_outputs(self._outputs, inside), strict=True):
            loop.results.append(result)
        for at, ended in failed_in(inside):
            loop, number = taken[at]
            if ended.error is not None:
                self._failed(executions, loop, number, ended.step or "", ended.error)
        for name, found in inside.passed_over.items():
            for at, error in found.items():
                if error is not None:
                    loop, number = taken[at]
                    place = f"{self._place}[{number}].{name}"
                    executions.passed_over.setdefault(place, {})[loop.index] = error
        return True

    def _failed(
        self, executions: Executions, loop: _Loop, number: int, step: str, error: PenstockError
    ) -> None:
        if self._collects and not isinstance(error, HeldError):
            loop.results[number] = None
            loop.errors.append(
                {"index": number, "step": step, "code": error.code, "message": error.message}
            )
        elif not loop.failed:  # the first item that failed, as taken one by one
            loop.failed = True
            executions.failures[loop.index] = error
            executions.failed_at[loop.index] = f"{self._place}[{number}].{step}"

    def _output(self, loop: _Loop) -> dict[str, Any]:
        output: dict[str, Any] = {"results": loop.results, "count": len(loop.results)}
        if self._collects:
            output |= {"errors": loop.errors, "error_count": len(loop.errors)}
        return output

    def _no_list(self, value: Any) -> PermanentError:
        found = "nothing" if value is None else f"a value of type {kind_of(value)}"
        return PermanentError(
            f"{self._shown} is {found}, and no list to take items from.",
            code="not_a_list",
            hint="Correct the event, or give the step an `if` that holds where there is a list.",
            path=self._shown,
        )


def _taken(lanes: deque[_Lane], most: int | None) -> list[tuple[_Loop, int]]:
    """Take the items of the next wave, those of one loop side by side and in order.

    Lanes that have their turn go to the back; those that did not fit in are first next time.
    """
    taken: list[tuple[_Loop, int]] = []
    for _ in range(len(lanes)):
        room = AT_ONCE - len(taken)
        if room <= 0:
            break
        lane = lanes.popleft()
        lanes.append(lane)
        for loop in lane:
            started = len(loop.results)
            count = min(room, loop.left, most or room)
            taken += [(loop, number) for number in range(started, started + count)]
            room -= count
            if most is not None or room <= 0:
                break
    return sorted(taken, key=lambda item: (item[0].index, item[1]))


def _left(lanes: deque[_Lane]) -> deque[_Lane]:
    """Return the lanes without the loops that are through."""
    left: deque[_Lane] = deque()
    for lane in lanes:
        while lane and not lane[0].left:
            lane.popleft()
        if lane:
            left.append(lane)
    return left


FOREACH = StepType(
    "step.foreach", ForeachSettings, "Run steps for each item of a list.", make=ForeachStep
)
