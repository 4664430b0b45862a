"""`step.validate`: let an execution go on only if its data is as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Path, Settings, WrongPart
from schema_registry.documents import Document
from schema_registry.redaction import marks_secrets, masked
from schema_registry.validation import SchemaError, Validator, compile_schema
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import Executions
from transforms.expressions import parse_path
from transforms.expressions.values import access
from transforms.steps.inputs import input_of, input_path


def _check_schema(value: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(value, dict):
        try:
            compile_schema(value)
        except SchemaError as error:
            raise WrongPart(error.message, error.path, code=error.code, hint=error.hint) from None
    return value


class ValidateSettings(Settings):
    """Configuration of `step.validate`: `required`, `schema`, or both."""

    required: list[Path] = Field(default_factory=list)
    """Paths within the source that must be there and not null."""
    schema_: Annotated[dict[str, Any] | str, AfterValidator(_check_schema)] | None = Field(
        default=None, alias="schema"
    )
    """A JSON Schema, or the name of a declared one: `name` or `name@version`."""
    source: Path | None = None
    """What is validated; default: the trigger's data."""

    @model_validator(mode="after")
    def _something_to_check(self) -> Self:
        if not self.required and self.schema_ is None:
            raise ValueError("required or schema: what is to be checked")
        return self


class ValidateStep:
    """Fails what is not valid as `validation_failed`, listing what is wrong."""

    has_output = False

    def __init__(self, settings: ValidateSettings, env: StepEnvironment) -> None:
        self._path = input_path(settings.source, env)
        self._shown = settings.source or "the trigger's data"
        self._required = [(path, parse_path(path).parts) for path in settings.required]
        self._validator: Validator | None = None
        if isinstance(settings.schema_, str):
            assert env.validator is not None  # noqa: S101 - the runtime gives one
            self._validator = env.validator(settings.schema_)
        elif settings.schema_ is not None:
            document = Document(settings.schema_)
            self._validator = Validator(
                settings.schema_,
                mask=partial(masked, document) if marks_secrets(document) else None,
            )

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Check each event."""
        values, kept = input_of(self._path, executions, indexes)
        unfit = self._validator.all_problems(values) if self._validator else {}
        for place, (index, value) in enumerate(zip(kept, values, strict=True)):
            missing = self._missing(value) if self._required else []
            if problems := missing + unfit.get(place, []):
                executions.failures[index] = self._failed(problems)
        return []

    def close(self) -> None:
        """Nothing is held."""

    def _missing(self, value: Any) -> list[str]:
        return [
            f"{text}: expected a value, found none"
            for text, parts in self._required
            if _at(value, parts) is None
        ]

    def _failed(self, problems: Sequence[str]) -> PermanentError:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return PermanentError(
            f"{self._shown} is not valid: {problems[0]}{more}.",
            code="validation_failed",
            hint="Correct the event or the rules of the step, then replay it.",
            problems=list(problems),
        )


def _at(value: Any, parts: Sequence[str | int]) -> Any:
    """Return what is there; None for a path that the value has no place for."""
    try:
        for part in parts:
            value = access(value, part)
    except PenstockError:
        return None
    return value


VALIDATE = StepType(
    "step.validate",
    ValidateSettings,
    "Let go on only what is valid.",
    make=ValidateStep,
    has_output=False,
)
