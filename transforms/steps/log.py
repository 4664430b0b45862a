"""`step.log`: write a line to the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import structlog
from pydantic import AfterValidator, Field

from connectors.batch import Column
from connectors.errors import PenstockError
from connectors.settings import Settings, Template, TemplateValue
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import Executions
from transforms.expressions import View, compile_template, compile_value

_OURS = frozenset(
    {"self", "event", "level", "timestamp", "logger", "exc_info", "stack_info"}
    | {"flow", "pipeline", "step", "execution"}
)
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def _check_fields(value: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(_OURS & set(value))
    if taken:
        raise ValueError(f"other names than {', '.join(taken)}, which every line has itself")
    return value


class LogSettings(Settings):
    """Configuration of `step.log`."""

    message: Template
    """What is logged; what is missing reads as nothing."""
    level: Literal["debug", "info", "warn", "error"] = "info"
    """Level of the line."""
    fields: Annotated[dict[str, TemplateValue], AfterValidator(_check_fields)] = Field(
        default_factory=dict
    )
    """Fields beside flow, pipeline, step and execution."""


class LogStep:
    """Writes one line per event to the logger `penstock.flow`."""

    has_output = False

    def __init__(self, settings: LogSettings, env: StepEnvironment) -> None:
        self._message = compile_template(settings.message)
        self._fields = compile_value(settings.fields)
        self._level = _LEVELS[settings.level]
        self._bound = {"flow": env.flow, "pipeline": env.pipeline, "step": env.place}

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Log; nothing is rendered for a level that the log leaves out."""
        log = structlog.get_logger("penstock.flow").bind(**self._bound)
        if not log.is_enabled_for(self._level):
            return []
        for index in indexes:
            view = View(executions, index)
            try:
                message = self._message.render(view)
                fields = self._fields.render(view)
            except PenstockError as error:
                executions.failures[index] = error
                continue
            log.log(self._level, message, execution=executions.execution_id(index), **fields)
        return []

    def close(self) -> None:
        """Nothing is held."""


LOG = StepType("step.log", LogSettings, "Write a line to the log.", make=LogStep, has_output=False)
