"""`step.conditional`: jump to a later step, and go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.settings import Jq, Path, Settings
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import Executions
from transforms.expressions import compile_jq
from transforms.expressions.values import to_text, truthy
from transforms.steps.inputs import step_path


class ConditionalSettings(Settings):
    """Configuration of `step.conditional`: `field` with `routes`, or `condition` with `then`."""

    field: Path | None = None
    """Where the value is that `routes` are looked up by, such as `steps.check.output.status`."""
    routes: dict[str, str] = Field(default_factory=dict)
    """Value as text (`"true"`, `"null"`, `"42"`) → name of the later step to jump to."""
    default: str | None = None
    """Step to jump to when no route fits; without it, the next step runs."""
    condition: Jq | None = None
    """jq program: anything but false and null jumps to `then`, the others to `else`."""
    then: str | None = None
    """Step to jump to when `condition` holds; default: the next step runs."""
    else_: str | None = Field(default=None, alias="else")
    """Step to jump to when `condition` does not hold; default: the next step runs."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.field is None) == (self.condition is None):
            raise ValueError("either field or condition")
        if self.field is not None:
            if not self.routes:
                raise ValueError("routes, which field needs")
            if self.then is not None or self.else_ is not None:
                raise ValueError("then and else only with condition")
        elif self.routes or self.default is not None:
            raise ValueError("routes and default only with field")
        elif self.then is None and self.else_ is None:
            raise ValueError("then or else, which condition needs")
        return self


class ConditionalStep:
    """Sends each execution to the step its value names; the steps between do not run for it."""

    has_output = False

    def __init__(self, settings: ConditionalSettings, env: StepEnvironment) -> None:
        def number(step: str | None) -> int | None:
            return None if step is None else env.numbers[step]

        self._routes = {value: env.numbers[step] for value, step in settings.routes.items()}
        self._default = number(settings.default)
        self._then, self._else = number(settings.then), number(settings.else_)
        self._condition = None if settings.condition is None else compile_jq(settings.condition)
        self._field = None if settings.field is None else step_path(settings.field, env)

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Set the jumps."""
        targets: list[int | None]
        if self._condition is not None:
            values, errors = self._condition.column(executions, indexes)
            targets = [self._then if truthy(value) else self._else for value in values]
        else:
            assert self._field is not None  # noqa: S101 - the settings have one of both
            values, errors = self._field.column(executions, indexes)
            find, default = self._routes.get, self._default
            targets = [find(as_route(value), default) for value in values]
        executions.failures.update(errors)
        for index, target in zip(indexes, targets, strict=True):
            if target is not None and index not in errors:
                executions.jumps[index] = target
        return []

    def close(self) -> None:
        """Nothing is held."""


def as_route(value: Any) -> str:
    """Return a value as routes are written: text as it is, `true`, `null`, `42`, else JSON."""
    if isinstance(value, str):
        return value
    return "null" if value is None else to_text(value)


CONDITIONAL = StepType(
    "step.conditional",
    ConditionalSettings,
    "Jump to a later step, by a value or a condition.",
    make=ConditionalStep,
    has_output=False,
)
