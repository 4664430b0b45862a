"""Says what pydantic found wrong in plain words, at the node where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from connectors.descriptions import description_of
from connectors.settings import WrongPart, parse_duration, parse_rate, parse_size
from flows.spec.nodes import Mapping, Node, Scalar, Sequence, place_of
from flows.spec.problems import Place, Problems, close_name, did_you_mean
from flows.spec.shape import Marks, is_model, keys, types_at

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "none_required": "nothing",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
    "missing": "the key",
}
_KINDS = ("_type", "_parsing", "none_required", "int_from_float")
"""Error types that say: it is another kind of value altogether."""

_UNITS: dict[Any, tuple[str, str]] = {
    parse_duration: ("a duration with its unit, such as 500ms, 30s or 7d", "s"),
    parse_size: ("a size with its unit, such as 64MB", "B"),
    parse_rate: ("a rate such as 100/s", "/s"),
}


@dataclass(slots=True)
class _Located:
    """A pydantic error and the node it is about."""

    error: ErrorDetails
    path: tuple[str | int, ...]
    """The keys and indexes of its `loc` that the tree has."""
    labels: tuple[int, ...]
    """For each name of a union's arm in its `loc`: how deep in `path` it stood."""
    node: Node
    parent: Node
    entry: Scalar | None
    """The key of the node, when it is a mapping's value."""
    tail: str
    """The last element of `loc`."""


def report(
    error: ValidationError,
    model: type[BaseModel],
    node: Node,
    problems: Problems,
    *,
    name: str = "",
    ignore_missing: bool = False,
    elsewhere: Callable[[Node, str], str] = lambda _parent, _key: "",
) -> None:
    """Add what `error` found in `node`, which was validated as a `model`.

    `name` names the node itself in messages. With `ignore_missing`, absent keys and what only the
    whole can violate are left out. `elsewhere(parent, key)` may know where an unknown key belongs.
    """
    located = [_locate(details, node) for details in error.errors(include_url=False)]
    misspelt = {
        (one.path[:-1], close_name(one.tail, _valid_keys(one, model)))
        for one in located
        if one.error["type"] == "extra_forbidden"
    }
    for one in _choose_arms(located):
        kind = one.error["type"]
        if kind == "missing" and (one.path, one.tail) in misspelt:
            continue  # said once, where the misspelt key is
        partial = kind == "missing" or (not one.path and kind in {"value_error", "assertion_error"})
        if not (ignore_missing and partial):
            _report(one, model, problems, name, elsewhere)


def _locate(error: ErrorDetails, root: Node) -> _Located:
    node, parent, entry = root, root, None
    path: list[str | int] = []
    labels: list[int] = []
    loc = error["loc"]
    for number, step in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            found = node.entries[step]
            parent, node, entry = node, found.value, found.key
            path.append(step)
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            parent, node, entry = node, node.items[step], None
            path.append(step)
        elif not (last and error["type"] == "missing"):
            labels.append(len(path))
    return _Located(
        error, tuple(path), tuple(labels), node, parent, entry, str(loc[-1]) if loc else ""
    )


def _choose_arms(located: list[_Located]) -> list[_Located]:
    """Return one error per place: of a union's arms, those that came furthest, put together."""
    chosen: list[_Located] = []
    unions: dict[tuple[str | int, ...], list[_Located]] = {}
    for one in located:
        if one.labels and one.tail != "[key]":
            unions.setdefault(one.path[: one.labels[0]], []).append(one)
        else:
            chosen.append(one)
    for at, arms in unions.items():
        far = [one for one in arms if len(one.path) > len(at) or not _is_kind(one.error)]
        if far:
            arm = max(far, key=lambda one: len(one.path))
            chosen.append(arm)
            continue
        first = arms[0]
        expected = list(dict.fromkeys(_expected(one, ()) for one in arms))
        details = ErrorDetails(
            type="value_error",
            loc=first.error["loc"],
            msg="",
            input=first.error["input"],
            ctx={"error": " or ".join(expected)},
        )
        chosen.append(replace(first, error=details, labels=()))
    return chosen


def _is_kind(error: ErrorDetails) -> bool:
    return error["type"].endswith(_KINDS)


def _report(
    one: _Located,
    model: type[BaseModel],
    problems: Problems,
    name: str,
    elsewhere: Callable[[Node, str], str],
) -> None:
    kind = one.error["type"]
    if kind == "missing":
        _report_missing(one, model, problems, name)
    elif kind.startswith("union_tag"):
        _report_tag(one, problems)
    elif kind == "extra_forbidden":
        _report_unknown(one, model, problems, elsewhere)
    else:
        _report_value(one, model, problems, name)


def _report_missing(one: _Located, model: type[BaseModel], problems: Problems, name: str) -> None:
    place, width = _where(one)
    if one.entry is not None:
        where = f" in {one.entry.raw}"
    elif one.path:
        where = " in this item"
    else:
        where = f" in {name}" if name else ""
    problems.add(
        place,
        f"{one.tail} is missing{where}.",
        code="missing_key",
        hint=_meaning(model, one),
        width=width,
    )


def _report_tag(one: _Located, problems: Problems) -> None:
    """Report the `type` of a mapping whose keys depend on it."""
    context = one.error.get("ctx", {})
    tags = re.findall(r"'([^']*)'", str(context.get("expected_tags", "")))
    key = str(context.get("discriminator", "type")).strip("'")
    entry = one.node.entries.get(key) if isinstance(one.node, Mapping) else None
    if entry is None:
        place, width = _where(one)
        problems.add(place, f"{key} is missing.", code="missing_key", width=width)
        return
    value = entry.value
    shown = str(value.value) if isinstance(value, Scalar) else "something else"
    problems.add(
        value.place,
        f"{key}: expected one of {', '.join(tags)}; found {shown}.",
        code="value_invalid",
        hint=did_you_mean(shown, tags) if close_name(shown, tags) else "",
        width=value.width,
    )


def _meaning(model: type[BaseModel], one: _Located) -> str:
    """Return what the missing key is for, from its field's description."""
    for annotation, _ in types_at(model, one.path):
        info = keys(annotation).get(one.tail) if is_model(annotation) else None
        if info is not None and (text := description_of(annotation, info)):
            return f"{one.tail}: {' '.join(text.split())}"
    return ""


def _report_unknown(
    one: _Located,
    model: type[BaseModel],
    problems: Problems,
    elsewhere: Callable[[Node, str], str],
) -> None:
    key = one.entry
    assert key is not None  # noqa: S101 - an unknown key is a mapping's key
    valid = _valid_keys(one, model)
    hint = elsewhere(one.parent, key.raw) or _belongs(one, model, valid)
    problems.add(
        key.place,
        f"unknown key {key.raw}.",
        code="unknown_key",
        hint=hint or did_you_mean(key.raw, valid, none="No keys are expected here."),
        width=key.width,
    )


def _valid_keys(one: _Located, model: type[BaseModel]) -> list[str]:
    """Return the keys that are valid where an unknown one stands."""
    found: dict[str, Any] = {}
    for annotation, _ in types_at(model, one.path[:-1]):
        if is_model(annotation):
            found |= keys(annotation)
    return list(found)


def _belongs(one: _Located, model: type[BaseModel], valid: list[str]) -> str:
    """Return a hint when the key belongs under one of its neighbours."""
    if close_name(one.tail, valid):
        return ""
    for name in valid:
        inner = types_at(model, (*one.path[:-1], name))
        if not any(is_model(t) and one.tail in keys(t) for t, _ in inner):
            continue
        there = one.parent.get(name) if isinstance(one.parent, Mapping) else None
        if isinstance(there, Scalar) and there.value is None:
            return f"It belongs under {name}:, so indent it further than {name}."
        return f"It belongs under {name}:."
    return ""


def _report_value(one: _Located, model: type[BaseModel], problems: Problems, name: str) -> None:
    if isinstance(one.node, Scalar) and one.node.missing:
        return  # said once, at the variable
    raised = one.error.get("ctx", {}).get("error")
    if isinstance(raised, WrongPart):
        place, width = place_of(one.node, raised.path, one.entry)
        problems.add(place, str(raised), code=raised.code, hint=raised.hint, width=width)
        return
    types = types_at(model, one.path)
    label = one.entry.raw if one.entry else name
    prefix = f"{label}: " if label else ""
    if one.tail == "[key]":
        place, width, prefix = one.node.place, one.node.width, ""
        if one.entry is not None:
            place, width = one.entry.place, one.entry.width
    else:
        place, width = _where(one)
    marks = tuple(mark for _, found in types for mark in found)
    hidden = any(
        "secret" in above
        for depth in range(1, len(one.path) + 1)
        for _, above in types_at(model, one.path[:depth])
    )
    expected = _expected(one, marks)
    found = "" if isinstance(one.error["input"], BaseModel) else _found(one, hidden=hidden)
    message = f"{prefix}{expected}" if _is_sentence(expected) else f"{prefix}expected {expected}"
    if found and not _is_sentence(expected):
        message = f"{message}; found {found}"
    problems.add(
        place,
        f"{message.rstrip('.')}.",
        code="value_invalid",
        hint=_advice(one, types),
        width=width,
    )


def _where(one: _Located) -> tuple[Place, int]:
    """Return where to point: at the value, or at its key when there is no value to see."""
    return place_of(one.node, (), one.entry)


def _expected(one: _Located, marks: Marks) -> str:
    error = one.error
    kind, context = error["type"], error.get("ctx", {})
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", error["msg"]))
    if kind in {"literal_error", "enum"}:
        listed = str(context.get("expected", ""))
        names = listed.replace(" or ", ", ").replace("'", "")
        return f"one of {names}" if "," in names else names
    words = _EXPECTED.get(kind)
    if words is None:
        return error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if kind == "string_too_short" and context.get("min_length") == 1:
        return "text that is not empty"
    if kind == "too_short" and context.get("min_length") == 1:
        return "at least one item"
    unit = _unit(marks)
    if unit and kind.startswith(("greater", "less")):
        context = {key: f"{value:g}{unit}" for key, value in context.items()}
    return words.format(**context)


def _unit(marks: Marks) -> str:
    for mark in marks:
        if isinstance(mark, BeforeValidator) and mark.func in _UNITS:
            return _UNITS[mark.func][1]
    return ""


def _is_sentence(text: str) -> bool:
    """Whether a validator's words are a statement, and not what it expected."""
    return text.endswith(".") or (text[:1].isupper() and text[1:2].islower())


def _found(one: _Located, *, hidden: bool) -> str:
    node = one.node
    if one.tail == "[key]":
        return ""
    match node:
        case Mapping():
            return "a mapping" if _is_kind(one.error) else ""
        case Sequence():
            return "a list" if _is_kind(one.error) else f"{len(node.items)}"
    if node.value is None:
        return "nothing"
    if node.edits:
        return "another value in the variable"
    if hidden:
        return "something else"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        text = node.value if len(node.value) <= 60 else f"{node.value[:59]}…"
        return f'"{text}"' if text else "empty text"
    return f"the number {node.raw}"


def _advice(one: _Located, types: AbstractSequence[tuple[Any, Marks]]) -> str:
    kind, node = one.error["type"], one.node
    if not isinstance(node, Scalar):
        return ""
    if kind == "string_type" and node.value is not None:
        return f'Put it in quotes: "{node.raw}".'
    if kind in {"literal_error", "enum"} and isinstance(node.value, str):
        valid = [value for t, _ in types if get_origin(t) is not None for value in get_args(t)]
        names = [value for value in valid if isinstance(value, str)]
        return did_you_mean(node.value, names) if close_name(node.value, names) else ""
    if node.value is None and _is_kind(one.error):
        return "Are the lines below it indented further than the key itself?"
    return ""
