"""Validates event data against JSON Schemas: drafts 4 to 2020-12, formats enforced, no network.

`is_valid` is the hot path (under a microsecond for a typical event); `problems` says what is
wrong and is asked only about what `is_valid` refused; `all_problems` does that for a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import orjson

from connectors.batch import Batch
from connectors.errors import FlowFileError

if TYPE_CHECKING:
    import jsonschema_rs

SchemaKind = Literal["json", "cloudevents"]

_SHOWN = 60
"""Longest part of a value that a message repeats."""

MOST_PROBLEMS = 100
"""Problems of one value that are told."""

REDACTED = "[redacted]"
"""What stands for a value that is not to be shown."""

_ANNOTATIONS: dict[str, Callable[[str], bool]] = {
    name: lambda _: True
    for name in ("int32", "int64", "float", "double", "byte", "binary", "password")
}
"""OpenAPI's formats: notes to a reader, which check nothing. Any other unknown one is refused,
since a misspelt format would silently let everything pass."""

_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]"
    r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
"""RFC 3339, section 5.6."""


class SchemaError(FlowFileError):
    """A JSON Schema is not one. `path` leads from its root to the part that is wrong."""

    def __init__(self, message: str, path: Sequence[str | int], *, hint: str = "") -> None:
        super().__init__(message, code="json_schema_invalid", hint=hint)
        self.path = tuple(path)


def compile_schema(
    schema: Mapping[str, Any] | bool,
    registry: jsonschema_rs.Registry | None = None,
    *,
    any_format: bool = False,
) -> jsonschema_rs.Validator:
    """Return a compiled validator; the draft is the one that `$schema` names, else 2020-12.

    `registry` has other schemas that it refers to. Never fetches one from the network. Formats that
    are not known are refused, but for `any_format`. Raises SchemaError.
    """
    import jsonschema_rs  # noqa: PLC0415 - 3 MB that a flow without schemas does without

    try:
        return jsonschema_rs.validator_for(
            schema if isinstance(schema, bool) else dict(schema),
            validate_formats=True,
            ignore_unknown_formats=any_format,
            formats=_ANNOTATIONS,
            offline=True,
            registry=registry,
        )
    except jsonschema_rs.ValidationError as error:
        raise _refused(error) from None
    except (jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise SchemaError(f"this is not a valid JSON Schema: {error}.", ()) from None


def _refused(error: jsonschema_rs.ValidationError) -> SchemaError:
    """Return the error for a schema that the metaschema, or the compiler, does not take."""
    message, hint = _expected(error, error.instance), ""
    if message.startswith("Unknown format"):
        message = f"the format {_shown(error.instance)} is not known"
        hint = "See the formats of JSON Schema 2020-12, such as date-time, uuid, email or uri."
    elif "etriev" in message or "ointer" in message:
        message = f"a $ref leads nowhere: {message}"
        hint = "A $ref leads into its own schema, or into one that is declared; nothing is fetched."
    elif error.instance_path and error.instance_path[-1] == "type":
        message = (
            "expected object, array, string, number, integer, boolean or null, "
            f"found {_shown(error.instance)}"
        )
    return SchemaError(f"not a valid JSON Schema: {message}.", error.instance_path, hint=hint)


class Validator:
    """One version of a subject, compiled.

    `is_valid(data)` and `problems(data)` look at an event's data alone. For a subject of kind
    `cloudevents`, `envelope_problems` looks at the envelopes of a batch as well.
    """

    __slots__ = ("_compiled", "_mask", "is_valid", "kind", "pinned", "subject", "version")

    def __init__(
        self,
        schema: Mapping[str, Any] | bool,
        *,
        subject: str = "",
        version: str = "",
        kind: SchemaKind = "json",
        pinned: bool = False,
        registry: jsonschema_rs.Registry | None = None,
        mask: Callable[[Any], Any] | None = None,
    ) -> None:
        """`pinned`: it is declared as `name@version`. `registry`: what it refers to.

        `mask` returns a value without what must not be told; None: all of it may be.
        """
        self._mask = mask
        self._compiled = compile_schema(schema, registry)
        self.pinned = pinned
        self.is_valid: Callable[[Any], bool] = self._compiled.is_valid
        self.subject = subject
        self.version = version
        self.kind: SchemaKind = kind

    def problems(self, value: Any, mask: Callable[[Any], Any] | None = None) -> list[str]:
        """Return what is wrong with `value`, each as `JSON pointer: what was expected, found …`.

        `mask` returns it with REDACTED for what else must not be told.
        """
        masks = mask is not None or self._mask is not None
        try:
            errors = list(islice(self._compiled.iter_errors(value), MOST_PROBLEMS + 1))
            if not errors:
                return []
            shown = value if self._mask is None else self._masked(value)
            shown = shown if mask is None else mask(shown)
            told = [
                f"{_pointer(error.instance_path)}: {_expected(error, shown, masks)}"
                for error in errors[:MOST_PROBLEMS]
            ]
            if len(errors) > MOST_PROBLEMS:
                told.append(f"/: and more than these {MOST_PROBLEMS}")
            return told
        except ValueError as error:  # a Python step may return anything
            return [f"/: expected a JSON value, found one that is none ({error})"]

    def _masked(self, value: Any) -> Any:
        assert self._mask is not None  # noqa: S101 - the caller looked
        try:
            return self._mask(value)
        except RecursionError:  # it is nested too deep to tell what is in there
            return REDACTED

    def all_problems(self, values: Sequence[Any]) -> dict[int, list[str]]:
        """Return place → what is wrong with that value; {}, and fast, when nothing is."""
        try:
            if all(map(self.is_valid, values)):
                return {}
        except ValueError:  # one of them is no JSON value: `problems` says which
            pass
        found = {place: self.problems(value) for place, value in enumerate(values)}
        return {place: problems for place, problems in found.items() if problems}

    def envelope_problems(self, batch: Batch) -> dict[int, list[str]]:
        """Return index → what is wrong with that event's envelope; {} for kind `json`.

        `id`, `source` and `type` must be non-empty text and `time`, where there is one, RFC 3339.
        """
        if self.kind == "json":
            return {}
        columns = {name: batch.column(name) for name in ("id", "source", "type", "time")}
        if _all_fit(columns):
            return {}
        found: dict[int, list[str]] = {}
        for index in range(batch.size):
            envelope = {name: column[index] for name, column in columns.items()}
            wrong = envelope_problems(envelope)
            if wrong:
                found[index] = wrong
        return found


def envelope_problems(attributes: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a CloudEvents envelope; [] when nothing is."""
    found = []
    for name in ("id", "source", "type"):
        value = attributes.get(name)
        if value is None:
            found.append(f"/{name}: expected the attribute {name}, which CloudEvents requires")
        elif not isinstance(value, str) or not value:
            found.append(f"/{name}: expected text that is not empty, found {_shown(value)}")
    time = attributes.get("time")
    if time is not None and not (isinstance(time, str) and _TIME.fullmatch(time)):
        found.append(
            f"/time: expected a time such as 2026-11-01T12:00:00Z (RFC 3339), found {_shown(time)}"
        )
    return found


def _all_fit(columns: Mapping[str, list[Any]]) -> bool:
    matches = _TIME.fullmatch
    return all(time is None or matches(time) for time in columns["time"]) and all(
        value and isinstance(value, str)
        for name in ("id", "source", "type")
        for value in columns[name]
    )


def _pointer(path: Sequence[str | int]) -> str:
    """Return a JSON pointer (RFC 6901); the root, whose pointer is empty, is written `/`."""
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)


_WORDS = {
    "required": "expected the property {value}, which is missing",
    "additionalProperties": "expected no properties but those of the schema, found {value}",
    "unevaluatedProperties": "expected no properties but those of the schema, found {value}",
    "type": "expected {value}, found {shown}",
    "enum": "expected one of {value}, found {shown}",
    "const": "expected {value}, found {shown}",
    "format": "expected the format {value}, found {shown}",
    "pattern": "expected text that matches {value}, found {shown}",
    "minimum": "expected at least {value}, found {shown}",
    "maximum": "expected at most {value}, found {shown}",
    "exclusiveMinimum": "expected more than {value}, found {shown}",
    "exclusiveMaximum": "expected less than {value}, found {shown}",
    "multipleOf": "expected a multiple of {value}, found {shown}",
    "minLength": "expected at least {value} characters, found {shown}",
    "maxLength": "expected at most {value} characters, found {shown}",
    "minItems": "expected at least {value} items, found {shown}",
    "maxItems": "expected at most {value} items, found {shown}",
    "uniqueItems": "expected items that differ, found {shown}",
    "minProperties": "expected at least {value} properties, found {shown}",
    "maxProperties": "expected at most {value} properties, found {shown}",
    "anyOf": "expected a value that fits one of the schemas in anyOf, found {shown}",
    "oneOf": "expected a value that fits exactly one of the schemas in oneOf, found {shown}",
    "not": "expected a value that the schema in not refuses, found {shown}",
    "falseSchema": "expected nothing here, found {shown}",
}


def _expected(error: jsonschema_rs.ValidationError, whole: Any, masks: bool = False) -> str:
    """Return what the failing keyword expected and what it found, values shortened.

    `whole` is the value that was checked, without what must not be shown where `masks` is true.
    """
    keyword = error.kind.name
    words = _WORDS.get(keyword)
    if words is None:
        if masks:  # the library's own words repeat the value
            return f"expected what {keyword} says"
        return _clipped(error.message.rstrip("."), 2 * _SHOWN)
    found = _at(whole, error.instance_path) if masks else error.instance
    value = error.kind.value
    if keyword == "type":
        value = " or ".join(sorted(value))
    elif keyword in {"additionalProperties", "unevaluatedProperties"}:
        value = ", ".join(value)
    elif not isinstance(value, str):
        value = _shown(value)
    return words.format(value=_clipped(value, 2 * _SHOWN), shown=_shown(found))


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        if value == REDACTED:
            return value
        value = value[part]
    return value


def _shown(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        text = str(value)
    return _clipped(text)


def _clipped(text: str, longest: int = _SHOWN) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
