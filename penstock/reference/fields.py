"""A configuration model's fields in words: type, default, description."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as bounds
import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from connectors.descriptions import description_of
from connectors.settings import Expression, parse_duration, parse_rate, parse_size

_WRITTEN: dict[Any, str] = {
    parse_duration: "duration",
    parse_size: "size",
    parse_rate: "rate",
}
_PLAIN: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    dict: "mapping",
    Any: "any value",
    types.NoneType: "null",
}
_LISTS = (list, tuple, set, frozenset, Sequence)


@dataclass(frozen=True, slots=True)
class FieldText:
    """One key of a model, nested ones as `outer.inner` (`outer[].inner` in a list)."""

    name: str
    type: str
    required: bool
    default: str
    """As it would be written in YAML; "" where there is none or its description says it."""
    description: str


def describe_model(model: type[BaseModel], prefix: str = "") -> list[FieldText]:
    """Return the keys of a model, each followed by those nested in it."""
    return list(_fields(model, prefix, ()))


def _fields(
    model: type[BaseModel], prefix: str, above: tuple[type[BaseModel], ...]
) -> Iterator[FieldText]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        key = prefix + key_of(name, field)
        shown = type_text(field.annotation, field.metadata)
        yield FieldText(
            name=key,
            type=shown,
            required=field.is_required(),
            default=_default(field, shown),
            description=" ".join(description_of(model, field).split()),
        )
        for inner, suffix in _models_in(field.annotation):
            if inner not in above and inner is not model:
                yield from _fields(inner, key + suffix, (*above, model))


def key_of(name: str, field: FieldInfo) -> str:
    """Return the key as it is written in YAML."""
    alias = field.validation_alias or field.alias
    if isinstance(alias, AliasChoices):
        alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
    return alias if isinstance(alias, str) else name


def type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return a type in words: `duration`, `text`, `insert | upsert`, `list of jq`."""
    marks = list(metadata)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return type_text(inner, [*more, *marks])
    text = _base(annotation, origin, marks)
    limits = _limits(marks, text)
    return f"{text}, {limits}" if limits else text


def _base(annotation: Any, origin: Any, marks: Sequence[Any]) -> str:
    for mark in marks:
        if isinstance(mark, Expression):
            return mark.language if annotation is not Any else "any value with templates"
        if isinstance(mark, BeforeValidator) and mark.func in _WRITTEN:
            return _WRITTEN[mark.func]
    if "secret" in marks:
        return "secret text"
    arguments = get_args(annotation)
    if origin is Literal:
        return " | ".join(_yaml(value) for value in arguments)
    if origin in {Union, types.UnionType}:
        kinds = [type_text(part) for part in arguments if part is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin in _LISTS or annotation in _LISTS:
        items = [part for part in arguments if part is not Ellipsis]
        if not items:
            return "list"
        item = type_text(items[0])
        return f"list of ({item})" if " | " in item else f"list of {item}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of name to {type_text(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _limits(marks: Sequence[Any], text: str) -> str:
    """Return the bounds in words."""
    low = next((mark.ge for mark in marks if isinstance(mark, bounds.Ge)), None)
    high = next((mark.le for mark in marks if isinstance(mark, bounds.Le)), None)
    least = "" if low is None else _default_text(low, text)
    most = "" if high is None else _default_text(high, text)
    if least and most:
        return f"{least} to {most}"
    if least:
        return f"at least {least}"
    return f"at most {most}" if most else ""


def _default(field: FieldInfo, shown: str) -> str:
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or isinstance(default, BaseModel):
        return ""
    if isinstance(default, tuple | list | dict | frozenset | set) and not default:
        return ""
    return _default_text(default, shown)


def _default_text(value: Any, shown: str) -> str:
    kind = shown.partition(",")[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "duration":
            return show_duration(value)
        if kind == "size":
            return _show_size(int(value))
        if kind == "rate":
            return f"{value:g}/s"
    return _yaml(value)


def show_duration(seconds: float) -> str:
    """Return seconds as flow files write them: 500ms, 30s, 5m, 24h, 7d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


def _show_size(size: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1024)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, str) and value and value.replace("_", "").replace("-", "").isalnum():
        return value
    if isinstance(value, frozenset | set):
        value = sorted(value)
    return orjson.dumps(value, default=str).decode()


def _models_in(annotation: Any, between: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models that a value of this type holds, with what stands between the keys."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, f"{between}."
    elif origin is Annotated:
        yield from _models_in(arguments[0], between)
    elif origin in _LISTS:
        for part in arguments:
            yield from _models_in(part, f"{between}[]")
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _models_in(arguments[1], f"{between}.NAME")
    elif origin in {Union, types.UnionType}:
        for part in arguments:
            yield from _models_in(part, between)


__all__ = ["FieldText", "describe_model", "key_of", "show_duration", "type_text"]
