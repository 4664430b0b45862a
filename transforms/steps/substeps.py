"""Steps inside steps: what branch, foreach and parallel run, and over which executions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.batch import Batch, Column
from connectors.settings import Duration, Jq, Settings
from transforms.contracts import InnerStep, MakeInner, StepEnvironment
from transforms.executions import UNSET, Ended, Executions

_ELSEWHERE = Ended("skipped")
"""Keeps the steps of one branch from the executions of the others."""

_COLUMNS = frozenset(
    {"raw", "data", "key", "partition", "position", "id", "source", "type", "subject", "time"}
    | {"timestamp", "datacontenttype", "dataschema", "extensions", "change", "wire"}
)


class SubStep(Settings):
    """One step of a branch or a loop."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")] | None = None
    """The step's name; later ones read its output by it. Default: `step-1`, by its place in the
    list."""
    type: Annotated[str, Field(pattern=r"^step\.[a-z_]+$")] | None = None
    """Type of step, such as `step.jq`."""
    use: str | None = None
    """Step module to use instead of a type; its config is the base of this step's."""
    config: dict[str, Any] = Field(default={})
    """The step's own settings; see its type."""
    if_: Annotated[Jq | None, Field(alias="if")] = None
    """jq: the step runs only where this is true."""
    skip_if: Jq | None = None
    """jq: the step is passed over where this is true; wins over `if`."""
    timeout: Annotated[Duration, Ge(0.01)] | None = None
    """How long it may take for one event or item; only for steps that can be given up on."""
    on_error: Literal["fail", "skip"] = "fail"
    """When it fails: `fail` fails what it stands in, `skip` records it and goes on."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.type is None) == (self.use is None):
            raise ValueError("either type, such as step.jq, or use, the name of a step module")
        return self


def inner_maker(env: StepEnvironment) -> MakeInner:
    """Return what makes the steps inside the step of `env`."""
    assert env.inner is not None  # noqa: S101 - the runtime gives one
    return env.inner


def own_names(steps: Sequence[SubStep]) -> frozenset[str]:
    """Return the names of the steps of a list."""
    return frozenset(step.name or f"step-{number}" for number, step in enumerate(steps, 1))


def outputs_of(steps: Iterable[InnerStep]) -> list[str]:
    """Return the names under which the steps leave outputs, in order, each once."""
    return list(dict.fromkeys(name for step in steps for name in step.outputs))


def run_all(steps: Iterable[InnerStep], executions: Executions) -> bool:
    """Run the steps one after another; return False when the worker must stop."""
    return all(step(executions) for step in steps)


def only(executions: Executions, indexes: Sequence[int]) -> Executions:
    """Return the same executions, of which only `indexes` go on; they share outputs, not ends.

    What ends in it has not ended outside: its caller says what that means there.
    """
    ended: dict[int, Ended] = {}
    if len(indexes) != executions.events.size:
        kept = set(indexes)
        ended = {k: _ELSEWHERE for k in range(executions.events.size) if k not in kept}
    return replace(executions, ended=ended, jumps={}, failures={}, failed_at={})


def failed_in(inside: Executions) -> list[tuple[int, Ended]]:
    """Return what failed in executions made by `only` or `passes_of`, by index."""
    return sorted((k, end) for k, end in inside.ended.items() if end is not _ELSEWHERE)


def passes_of(
    executions: Executions, origins: Sequence[int], numbers: Sequence[int], hidden: Collection[str]
) -> Executions:
    """Return executions of a loop: one for each of `origins`, the execution that it is a pass of.

    `numbers` are the passes' numbers, `hidden` the outputs that the loop's own steps will make:
    those of outer steps with the same names are not seen inside.
    """

    def spread(columns: dict[str, Column], left_out: Collection[str] = ()) -> dict[str, Column]:
        return {
            name: [column[k] for k in origins]
            for name, column in columns.items()
            if name not in left_out
        }

    outer = executions.passes
    return Executions(
        events=_picked(executions.events, origins),
        pipeline=executions.pipeline,
        outputs=spread(executions.outputs, hidden),
        details=spread(executions.details, hidden),
        started=executions.started,
        starts={
            place: executions.starts[k] for place, k in enumerate(origins) if k in executions.starts
        }
        if executions.starts
        else {},
        held_back=executions.held_back,
        keys=None if executions.keys is None else [executions.keys[k] for k in origins],
        base_meta=executions.base_meta,
        scope=spread(executions.scope),
        passes=[
            str(number) if outer is None else f"{outer[k]}.{number}"
            for k, number in zip(origins, numbers, strict=True)
        ],
        takes_turns=False,
        undecided=executions.undecided,
        runs={place: executions.runs[k] for place, k in enumerate(origins) if k in executions.runs},
    )


def _picked(batch: Batch, origins: Sequence[int]) -> Batch:
    """Return a batch whose events are those of `batch` at `origins`; a column is made when read."""
    names = _COLUMNS.union(batch.makers, batch.columns)
    makers = {name: partial(_column_of, batch, origins, name) for name in names}
    return Batch(len(origins), {}, after={}, makers=makers)


def _column_of(batch: Batch, origins: Sequence[int], name: str, made: Batch) -> Column:
    column = batch.column(name)
    if batch.errors:
        found = ((place, batch.errors.get(k)) for place, k in enumerate(origins))
        made.errors.update((place, error) for place, error in found if error is not None)
    return [column[k] for k in origins]


def apart(executions: Executions, indexes: Sequence[int], hidden: Collection[str]) -> Executions:
    """Return the same as `only`, with outputs of its own: those of now, without the `hidden`."""
    inside = only(executions, indexes)
    inside.outputs = {name: c for name, c in executions.outputs.items() if name not in hidden}
    inside.details = {name: c for name, c in executions.details.items() if name not in hidden}
    inside.encoded = {name: c for name, c in executions.encoded.items() if name not in hidden}
    inside.passed_over = {}
    return inside


def last_outputs(names: Sequence[str], executions: Executions) -> Column:
    """Return per index the last output under one of these names; None without any."""
    columns = [executions.outputs[name] for name in reversed(names) if name in executions.outputs]
    if not columns:
        return [None] * executions.events.size
    if len(columns) == 1:
        return [None if value is UNSET else value for value in columns[0]]
    return [
        next((v for v in values if v is not UNSET), None) for values in zip(*columns, strict=True)
    ]


__all__ = [
    "SubStep",
    "apart",
    "failed_in",
    "inner_maker",
    "last_outputs",
    "only",
    "outputs_of",
    "own_names",
    "passes_of",
    "run_all",
]
