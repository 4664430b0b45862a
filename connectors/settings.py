"""The types that configuration models are made of: durations, sizes, rates, expressions.

A model of configuration is a `Settings`: frozen, unknown keys refused. The model gives the
JSON Schema of the flow file, its reference page and the error texts, so each field carries a
docstring (`connectors.descriptions`). `Jq`, `Template` and `Path` mark strings that hold
expressions: the flow loader compiles them at load, to report a bad one with its line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Settings(BaseModel):
    """Base of every configuration model."""

    # Of the models that are imported, a process uses few: one is made when it is first used.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON Schema, with what the docstrings below the fields say of them."""
        from connectors.descriptions import descriptions  # noqa: PLC0415 - reads the source

        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in descriptions(cls).items():
            info = cls.model_fields[name]
            alias = info.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias, info.alias]
            for key in (name, *choices):
                if isinstance(key, str) and key in properties:
                    properties[key].setdefault("description", text)
        return schema


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?i?B)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(ms|s|m|h|d)")


def parse_duration(value: Any) -> float:
    """Return seconds for `500ms`, `30s`, `1h30m`, `7d`. Raises ValueError with what is expected."""
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        parts = _DURATION_PART.findall(value)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if value == 0 and not isinstance(value, bool):
        return 0.0
    raise ValueError("a duration with its unit, such as 500ms, 30s, 5m, 24h or 7d")


def parse_size(value: Any) -> int:
    """Return bytes for `64MB`, `10GiB`. Raises ValueError with what is expected."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and match[2] in _SIZES:
        return int(float(match[1]) * _SIZES[match[2]])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("a size with its unit, such as 64MB or 10GiB")


def parse_rate(value: Any) -> float:
    """Return events per second for `100/s`, `6000/m`. Raises ValueError with what is expected."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        return float(match[1]) / _UNITS[match[2]]
    raise ValueError("a rate such as 100/s or 6000/m")


class WrongPart(ValueError):  # noqa: N818 - pydantic takes a ValueError, and this is one
    """What a validator has against the part of its value that `path` leads to."""

    def __init__(self, message: str, path: Sequence[str | int], *, code: str, hint: str) -> None:
        super().__init__(message)
        self.path = tuple(path)
        self.code = code
        self.hint = hint


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": f"^{_DURATION.pattern}$"}, {"const": 0}],
            "examples": ["500ms", "30s", "7d"],
        }
    ),
]
"""Seconds. Written `500ms`, `30s`, `1h30m`, `7d`."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[kKMGT]?i?B$"},
                {"type": "integer", "minimum": 0},
            ],
            "examples": ["64MB", "10GiB"],
        }
    ),
]
"""Bytes. Written `64MB` (10⁶) or `64MiB` (2²⁰)."""

Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\d+(\.\d+)?\s*/\s*(ms|s|m|h|d)$",
            "examples": ["100/s"],
        }
    ),
]
"""Events per second. Written `100/s`."""


class Expression:
    """Marks a string field as an expression of `language`: jq, template, path or sql.

    SQL is checked by the model itself, since there are many kinds of it.
    """

    __slots__ = ("language",)

    def __init__(self, language: str) -> None:
        self.language = language

    def __repr__(self) -> str:
        return f"Expression({self.language!r})"


Jq = Annotated[str, Expression("jq")]
"""A jq program over the execution's context."""

Template = Annotated[str, Expression("template")]
"""Text in which `{{ … }}` is a jq expression."""

Path = Annotated[str, Expression("path")]
"""A dotted path into the execution's context: `steps.shape.output`."""

TemplateValue = Annotated[Any, Expression("template")]
"""Any YAML value; every string in it may hold `{{ … }}`."""

Secret = Annotated[str, WithJsonSchema({"type": "string"}), "secret"]
"""A value that no log, error, page or dump may show."""

__all__ = [
    "Duration",
    "Expression",
    "Jq",
    "Path",
    "Rate",
    "Secret",
    "Settings",
    "Size",
    "Template",
    "TemplateValue",
    "WrongPart",
    "parse_duration",
    "parse_rate",
    "parse_size",
]
