"""What steps that act once per key have in common: their settings, and the key of an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge, MinLen
from pydantic import model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import PenstockError
from connectors.settings import Duration, Settings, Template
from transforms.contracts import StepEnvironment
from transforms.executions import Executions
from transforms.expressions import compile_template


class IdempotentSettings(Settings):
    """Settings of a step that can act once per key."""

    idempotent: bool = False
    """Act once per `idempotency_key`: what comes with a key again gets the output of the first time.
    It is stored before the execution goes on, so a crash repeats nothing that was stored."""
    idempotency_key: Annotated[Template, MinLen(1)] | None = None
    """The key, such as `charge_{{ .id }}`. Default: one of the event and the step, so that only the
    same event once more has it again."""
    idempotency_ttl: Annotated[Duration, Ge(1)] = 86400.0
    """How long a key and its output are remembered."""


class OnlyIdempotentSettings(IdempotentSettings):
    """The same, of a step that does nothing else with the key."""

    @model_validator(mode="after")
    def _key_of_idempotent(self) -> Self:
        if self.idempotency_key is not None and not self.idempotent:
            raise ValueError("idempotent: true, beside idempotency_key")
        return self


class StepKey:
    """The key of each event at one step."""

    def __init__(self, settings: IdempotentSettings, pipeline: str, place: str) -> None:
        """Compile the template. Raises ExpressionError."""
        text = settings.idempotency_key
        self._template = None if text is None else compile_template(text)
        self._place = f"{pipeline}/{place}"

    def column(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[Column, Mapping[int, PenstockError]]:
        """Return the key per index, and the errors of those that have none."""
        if self._template is not None:
            return self._template.column(executions, indexes, required=True)
        passes = executions.passes
        keys = [f"{executions.first_id(index)}/{self._place}" for index in indexes]
        if passes is not None:
            keys = [f"{key}/{passes[k]}" for key, k in zip(keys, indexes, strict=True)]
        return keys, {}


def step_key(settings: IdempotentSettings, environment: StepEnvironment) -> StepKey | None:
    """Return the keys of a step that has such, or None."""
    if not settings.idempotent and settings.idempotency_key is None:
        return None
    return StepKey(settings, environment.pipeline, environment.place)


__all__ = ["IdempotentSettings", "OnlyIdempotentSettings", "StepKey", "step_key"]
