"""`step.transform`: extract, map, filter and convert fields, without writing a program."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import orjson
from annotated_types import MinLen
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Path, Settings
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.expressions import parse_path
from transforms.expressions.values import access, kind_of, shortened, to_json
from transforms.steps.inputs import input_of, spread, step_path


def _check_mappings(value: dict[str, str]) -> dict[str, str]:
    new = list(value.values())
    twice = next((name for name in new if new.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"a new key for each old one; {twice} is there twice")
    return value


Mappings = Annotated[dict[str, str], MinLen(1), AfterValidator(_check_mappings)]
Fields = Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)]


class ExtractConfig(Settings):
    """What `extract` takes."""

    path: Path
    """Where the value is, such as `items[0].sku`."""


class Extract(Settings):
    """Goes on with one part of the value. An event that has nothing there fails; null goes on."""

    type: Literal["extract"]
    """The operation."""
    field: Path | None = None
    """Where the part is; short for `config.path`."""
    config: ExtractConfig | None = None
    """Where the part is."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.field is None) == (self.config is None):
            raise ValueError("either field or config.path")
        return self


class MapConfig(Settings):
    """What `map` takes."""

    mappings: Mappings
    """Old key → new key."""


class Map(Settings):
    """Renames keys of an object, or of each object in a list.

    Keys that are not named stay, but for one that another is renamed to; an absent one is passed
    over.
    """

    type: Literal["map"]
    """The operation."""
    mappings: Mappings | None = None
    """Old key → new key; short for `config.mappings`."""
    config: MapConfig | None = None
    """Old key → new key."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.mappings is None) == (self.config is None):
            raise ValueError("either mappings or config.mappings")
        return self


class FilterConfig(Settings):
    """What `filter` takes."""

    fields: Fields
    """Keys that stay."""


class Filter(Settings):
    """Keeps some keys of an object, or of each object in a list."""

    type: Literal["filter"]
    """The operation."""
    fields: Fields | None = None
    """Keys that stay; short for `config.fields`."""
    config: FilterConfig | None = None
    """Keys that stay."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.fields is None) == (self.config is None):
            raise ValueError("either fields or config.fields")
        return self


class ConvertConfig(Settings):
    """What `convert` takes."""

    from_: Annotated[Literal["json", "string"], Field(alias="from")]
    """What the value is."""
    to: Literal["json", "string"]
    """What it becomes: text that holds JSON is parsed (`from: string`, `to: json`), or a value is
    written as JSON text (`from: json`, `to: string`)."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("a `to` that differs from `from`")
        return self


class Convert(Settings):
    """Parses JSON text, or writes a value as JSON text."""

    type: Literal["convert"]
    """The operation."""
    config: ConvertConfig
    """From what to what."""


Operation = Annotated[Extract | Map | Filter | Convert, Field(discriminator="type")]


class TransformSettings(Settings):
    """Configuration of `step.transform`."""

    input_from: Path | None = None
    """What the first operation gets, such as `steps.customer.output`; default: the whole context."""
    operations: Annotated[list[Operation], MinLen(1)]
    """The operations, each over the result of the one before; the last one's is the output."""


_BIG = re.compile(r"\d{19}")

Apply = Callable[[Any], Any]
"""One operation: value → value. Raises PermanentError for a value that it is not for."""


class TransformStep:
    """Outputs what its operations make of each event's input; inputs stay as they are."""

    has_output = True

    def __init__(self, settings: TransformSettings, env: StepEnvironment) -> None:
        operations = list(settings.operations)
        path = "." if settings.input_from is None else settings.input_from
        first = operations[0]
        if settings.input_from is None and isinstance(first, Extract):
            # Read at its place, so that nobody puts the whole context together for it.
            self._required: str | None = _path_of(first)
            path = self._required
            operations = operations[1:]
        else:
            self._required = None
        self._path = step_path(path, env)
        self._operations = [_made(operation) for operation in operations]

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one output per event."""
        values, kept = input_of(self._path, executions, indexes)
        outputs: Column = []
        for index, value in zip(kept, values, strict=True):
            try:
                if value is None and self._required is not None:
                    _walk(self._path.parts, executions.context(index), self._required)
                for apply in self._operations:
                    value = apply(value)  # noqa: PLW2901 - from operation to operation
                outputs.append(value)
            except PenstockError as error:
                executions.failures[index] = error
                outputs.append(UNSET)
        return spread(outputs, kept, indexes)

    def close(self) -> None:
        """Nothing is held."""


def _made(operation: Extract | Map | Filter | Convert) -> Apply:
    match operation:
        case Extract():
            text = _path_of(operation)
            parts = parse_path(text).parts
            return lambda value: _walk(parts, value, text)
        case Map(mappings=mappings, config=config):
            new = mappings or (config.mappings if config else {})
            return lambda value: _per_object("map", lambda one: _renamed(one, new), value)
        case Filter(fields=fields, config=config):
            kept = fields or (config.fields if config else [])
            return lambda value: _per_object(
                "filter", lambda one: {name: one[name] for name in kept if name in one}, value
            )
        case Convert(config=config):
            return _parsed if config.to == "json" else to_json


def _path_of(operation: Extract) -> str:
    return operation.field or (operation.config.path if operation.config else "")


def _walk(parts: Sequence[str | int], value: Any, text: str) -> Any:
    """Return what `parts` lead to. Raises PermanentError where there is nothing."""
    for part in parts:
        inside = access(value, part)
        absent = (
            part not in value
            if isinstance(value, dict)
            else not isinstance(value, list) or not -len(value) <= int(part) < len(value)
        )
        if absent:
            raise PermanentError(
                f"there is nothing at {text} to extract.",
                code="missing_value",
                hint="Where it may be missing, a jq step says what then: `.a.b // null`.",
                path=text,
            )
        value = inside
    return value


def _per_object(operation: str, change: Callable[[dict[str, Any]], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return change(value)
    if isinstance(value, list):
        wrong = next((item for item in value if not isinstance(item, dict)), UNSET)
        if wrong is UNSET:
            return [change(item) for item in value]
        raise _unfit(operation, "a list of objects", wrong)
    raise _unfit(operation, "an object or a list of objects", value)


def _renamed(value: dict[str, Any], new: dict[str, str]) -> dict[str, Any]:
    made = {new.get(name, name): item for name, item in value.items()}
    # A key that stays gives way to one that is renamed to it, whichever came first.
    made.update((to, value[name]) for name, to in new.items() if name in value)
    return made


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        raise _unfit("convert", "text that holds JSON", value)
    try:
        # Integers beyond 64 bits stay exact: orjson would make doubles of them.
        if _BIG.search(value):
            return json.loads(value, parse_constant=_no_number)
        return orjson.loads(value)
    except (ValueError, RecursionError) as error:
        raise PermanentError(
            f"convert expects text that holds JSON: {error}.",
            code="transform_unfit",
            hint="Correct the event or the operation, then replay it.",
            operation="convert",
            value=shortened(value),
        ) from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unfit(operation: str, wanted: str, value: Any) -> PermanentError:
    return PermanentError(
        f"{operation} expects {wanted}, and got a value of type {kind_of(value)}.",
        code="transform_unfit",
        hint="Correct the event or the operation, then replay it.",
        operation=operation,
        value=shortened(to_json(value)),
    )


TRANSFORM = StepType(
    "step.transform",
    TransformSettings,
    "Extract, rename, filter and convert fields.",
    make=TransformStep,
)
