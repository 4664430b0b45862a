"""What a publish step publishes: which value of each event, as JSON text, checked by a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from connectors.batch import Column, json_texts
from connectors.errors import PenstockError, PermanentError
from schema_registry.validation import Validator
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.steps.inputs import is_trigger_data, step_path

Texts = Sequence[bytes | None]
Failures = dict[int, PenstockError]


class Payload:
    """Chooses and encodes; `texts` is called once per batch.

    The trigger's data goes through as the bytes that came. A step's outputs are encoded once, and
    kept in `executions.encoded` for history when the whole batch has them.
    """

    def __init__(
        self,
        data_from: str | None,
        schema: str | None,
        env: StepEnvironment,
        *,
        skips: bool = False,
    ) -> None:
        """`skips`: what does not fit the schema is left out, and no failure."""
        self._schema = schema
        self._skips = skips
        self.left_out: dict[int, PenstockError] = {}
        """Of the last batch, those that are not to be published, since they don't fit, and why."""
        self._validator: Validator | None = None
        if schema is not None:
            assert env.validator is not None  # noqa: S101 - the runtime gives one
            self._validator = env.validator(schema)
        self._path = None
        self._sources: tuple[str, ...] = ()
        """Steps whose output is published: the first of them that ran."""
        if data_from is None:
            self._sources = tuple(reversed(env.earlier))
        elif not is_trigger_data(data_from):
            self._path = step_path(data_from, env)
            match self._path.parts:
                case ("steps", str(name), "output"):
                    self._sources, self._path = (name,), None
        self._or_trigger = data_from is None or (self._path is None and not self._sources)

    def texts(self, executions: Executions, indexes: Sequence[int]) -> tuple[Texts, bool]:
        """Return the JSON text per event, and whether that is the trigger's data as it came.

        Those that have none, or one that does not fit, are in `executions.failures`, or `left_out`.
        """
        self.left_out = {}
        if self._path is not None:
            values, errors = self._path.column(executions, indexes)
            executions.failures.update(errors)
            return self._encoded(values, indexes, executions.failures), False
        last = next((name for name in self._sources if name in executions.outputs), None)
        if last is None and self._or_trigger:
            self._check_trigger(executions, indexes)
            return executions.picked(executions.events.column("raw"), indexes), True
        if last is not None:
            values = executions.picked(executions.outputs[last], indexes)
            if not any(value is UNSET for value in values):
                return self._whole_column(last, values, executions, indexes), False
        return self._one_by_one(executions, indexes), False

    def _whole_column(
        self, name: str, values: Column, executions: Executions, indexes: Sequence[int]
    ) -> Texts:
        if len(indexes) != executions.events.size:
            return self._encoded(values, indexes, executions.failures)
        before = len(executions.failures)
        ready = executions.encoded.get(name)
        texts = self._encoded(values, indexes, executions.failures, ready=ready)
        if len(executions.failures) == before:
            executions.encoded[name] = texts
        return texts

    def _one_by_one(self, executions: Executions, indexes: Sequence[int]) -> Texts:
        """Return each event's own last output: steps that did not run for it have none."""
        columns = [executions.outputs[n] for n in self._sources if n in executions.outputs]
        raw = executions.events.column("raw")
        texts: list[bytes | None] = []
        for index in indexes:
            value = next((c[index] for c in columns if c[index] is not UNSET), UNSET)
            if value is not UNSET:
                texts += self._encoded([value], [index], executions.failures)
            elif self._or_trigger:
                self._check_trigger(executions, [index])
                texts.append(raw[index])
            else:
                executions.failures[index] = PermanentError(
                    f"there is nothing to publish: step {self._sources[0]} did not run.",
                    code="nothing_to_publish",
                    hint="Give the publish step the same `if:`, or take `data_from` out.",
                )
                texts.append(None)
        return texts

    def _check_trigger(self, executions: Executions, indexes: Sequence[int]) -> None:
        if self._validator is not None:
            data = executions.picked(executions.events.column("data"), indexes)
            self._check(data, indexes, executions.failures)

    def _check(self, values: Column, indexes: Sequence[int], failures: Failures) -> None:
        if self._validator is None:
            return
        for place, problems in self._validator.all_problems(values).items():
            unfit = self.left_out if self._skips else failures
            unfit.setdefault(indexes[place], schema_error(str(self._schema), problems))

    def _encoded(
        self,
        values: Column,
        indexes: Sequence[int],
        failures: Failures,
        *,
        ready: Texts | None = None,
    ) -> Texts:
        self._check(values, indexes, failures)
        if ready is not None and None not in ready:
            return ready
        try:
            return json_texts(values)
        except TypeError:
            pass
        texts: list[bytes | None] = []
        for index, value in zip(indexes, values, strict=True):
            try:
                texts.append(json_text(value))
            except (TypeError, ValueError, RecursionError) as error:
                failures.setdefault(index, _not_json(error))
                texts.append(None)
        return texts


def json_text(value: Any) -> bytes:
    """Return JSON text; integers of any size stay exact, lone surrogates are escaped.

    Raises TypeError, ValueError or RecursionError for what JSON does not have.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def schema_error(
    schema: str, problems: Sequence[str], code: str = "schema_invalid"
) -> PermanentError:
    """Return the error of a value that does not fit a schema."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return PermanentError(
        f"the data does not fit the schema {schema}: {problems[0]}{more}.",
        code=code,
        hint="Correct the step that makes it, or the schema, then replay the event.",
        schema=schema,
        problems=list(problems),
    )


def _not_json(error: Exception) -> PermanentError:
    return PermanentError(
        f"the data to publish can't be written as JSON: {error}.",
        code="data_not_json_safe",
        hint="Return text, numbers, lists and objects from the step that makes it.",
    )
