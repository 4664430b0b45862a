"""`step.set`: put values together from templates."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from connectors.batch import Column
from connectors.settings import Settings, TemplateValue
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import Executions
from transforms.expressions import compile_value
from transforms.steps.inputs import settled


class SetSettings(Settings):
    """Configuration of `step.set`."""

    values: dict[str, TemplateValue] = Field(min_length=1)
    """The output's keys and values. A text that is one `{{ … }}` keeps the value's type."""


class SetStep:
    """Outputs `values`, each template rendered over the execution's context."""

    has_output = True

    def __init__(self, settings: SetSettings, env: StepEnvironment) -> None:  # noqa: ARG002 - as every step
        self._values = compile_value(settings.values)

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one object per event."""
        values, errors = self._values.column(executions, indexes)
        return settled(values, errors, executions, indexes)

    def close(self) -> None:
        """Nothing is held."""


SET = StepType("step.set", SetSettings, "Put values together from templates.", make=SetStep)
