"""`step.branch`: other steps for other values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import MinLen
from pydantic import Field

from connectors.batch import Column
from connectors.settings import Path, Settings
from transforms.contracts import InnerStep, StepEnvironment, StepType
from transforms.executions import Executions
from transforms.steps.conditional import as_route
from transforms.steps.inputs import step_path
from transforms.steps.substeps import SubStep, failed_in, inner_maker, only, run_all


class BranchSettings(Settings):
    """Configuration of `step.branch`.

    It has no output: its steps are steps of the pipeline, and later ones read
    `.steps.<name>.output` of those that ran.
    """

    field: Path
    """Where the value is that decides, such as `steps.check.output.tier`."""
    branches: Annotated[dict[str, Annotated[list[SubStep], MinLen(1)]], MinLen(1)]
    """The value as text (`gold`, `"true"`, `"null"`, `"42"`) → the steps that run for it. The
    others don't. Steps of different branches may have the same name."""
    default: list[SubStep] = Field(default=[])
    """Steps that run for every other value; without any, such an event just goes on."""
    merge_step: str | None = None
    """Later step where all branches go on; default: the step after this one."""


class BranchStep:
    """Runs one of its lists of steps for each execution, each list once per batch."""

    has_output = False

    def __init__(self, settings: BranchSettings, env: StepEnvironment) -> None:
        make = inner_maker(env)
        self._place = env.name
        self._field = step_path(settings.field, env)
        self._branches: dict[str | None, Sequence[InnerStep]] = {
            value: make(f"branches.{value}", env.earlier) for value in settings.branches
        }
        self._branches[None] = make("default", env.earlier)
        merge = settings.merge_step
        self._merge = None if merge is None else env.numbers[merge]

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run each branch for the executions that its value names."""
        values, errors = self._field.column(executions, indexes)
        executions.failures.update(errors)
        chosen: dict[str | None, list[int]] = {value: [] for value in self._branches}
        for index, value in zip(indexes, values, strict=True):
            if index not in errors:
                found = as_route(value)
                chosen[found if found in chosen else None].append(index)
        for route, steps in self._branches.items():
            if steps and chosen[route] and not self._run(steps, executions, chosen[route]):
                return []
        if self._merge is not None:
            executions.jumps.update(
                (k, self._merge) for k in indexes if k not in executions.failures
            )
        return []

    def close(self) -> None:
        """Leave it to the runtime, which closes the steps inside."""

    def _run(
        self, steps: Sequence[InnerStep], executions: Executions, indexes: Sequence[int]
    ) -> bool:
        inside = only(executions, indexes)
        going_on = run_all(steps, inside)
        for index, ended in failed_in(inside):
            if ended.error is not None:
                executions.failures[index] = ended.error
                executions.failed_at[index] = f"{self._place}.{ended.step}"
        return going_on


BRANCH = StepType(
    "step.branch",
    BranchSettings,
    "Run other steps for other values.",
    make=BranchStep,
    has_output=False,
    shares_names=True,
)
"""Its steps stand in the pipeline: what they put out stays under their own names."""
