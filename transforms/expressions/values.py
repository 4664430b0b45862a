"""jq's semantics of values, in Python: access, truth, order, and how a value reads as text."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import orjson

from connectors.errors import PermanentError

SHOWN = 80
"""Longest part of a value or program that a message repeats."""


def shortened(text: str, longest: int = SHOWN) -> str:
    """Return `text` cut to `longest` characters, with an ellipsis where it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def to_json(value: Any) -> str:
    """Return a value as JSON text; integers of any size stay exact."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        import json  # noqa: PLC0415 - integers above 64 bits are rare, and orjson has none

        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_text(value: Any) -> str:
    """Return how a value reads inside text: strings as they are, null as nothing, else JSON.

    A number is written out: 1000000.0 reads 1000000, and 1e-7 reads 0.0000001.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and math.isfinite(value):
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0") if text != "-0.0" else "0"
    return to_json(value)


def kind_of(value: Any) -> str:
    """Return jq's name for the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def truthy(value: Any) -> bool:
    """Return jq's truth: all but null and false."""
    return value is not None and value is not False


def access(value: Any, key: str | int) -> Any:
    """Return `value[key]` as jq has it: null of null and of what isn't there.

    Raises PermanentError `jq_error` where jq would.
    """
    if value is None:
        return None
    if isinstance(key, str):
        if isinstance(value, dict):
            return value.get(key)
        raise _failed(f'Cannot index {kind_of(value)} with "{key}"', value)
    if isinstance(value, list):
        return value[key] if -len(value) <= key < len(value) else None
    raise _failed(f"Cannot index {kind_of(value)} with number", value)


def _failed(message: str, value: Any) -> PermanentError:
    return PermanentError(
        f"{message}: the value is {shortened(to_json(value))}.", code="jq_error", jq=message
    )


_RANKS = {"null": 0, "boolean": 1, "number": 3, "string": 4, "array": 5, "object": 6}


def compare(left: Any, right: Any) -> int:
    """Return -1, 0 or 1 by jq's order: null, false, true, numbers, strings, arrays, objects."""
    kind, other = kind_of(left), kind_of(right)
    if kind != other:
        return -1 if _RANKS[kind] < _RANKS[other] else 1
    if kind == "null":
        return 0
    if kind == "array":
        for one, two in zip(left, right, strict=False):
            order = compare(one, two)
            if order:
                return order
        return (len(left) > len(right)) - (len(left) < len(right))
    if kind == "object":
        keys, others = sorted(left), sorted(right)
        order = (keys > others) - (keys < others)
        if order:
            return order
        return next((o for k in keys if (o := compare(left[k], right[k]))), 0)
    # jq compares strings by their UTF-8 bytes; code points sort the same.
    return int(left > right) - int(left < right)
