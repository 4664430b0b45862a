"""`step.transform`: extract, map, filter, convert; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.settings import Path, Settings
from transforms.contracts import StepType

Mappings = Annotated[dict[str, str], MinLen(1)]
Fields = Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)]


class ExtractConfig(Settings):
    """What `extract` takes."""

    path: Path
    """Where the value is, such as `items[0].sku`."""


class Extract(Settings):
    """Goes on with one part of the value."""

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
    """Renames keys of an object, or of each object in a list."""

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
    """What it becomes: JSON text is parsed, or a value written as JSON text."""


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
    """The operations, each over the result of the one before."""


TRANSFORM = StepType(
    "step.transform", TransformSettings, "Extract, rename, filter and convert fields."
)
