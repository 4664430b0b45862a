"""The functions of templates, by the names that Go's templates and their users know.

Called in front of their arguments (`json .x`) or piped into (`.x | json`): what is piped comes last,
so `.name | replace "a" "b"` is `replace "a" "b" .name`. A value that doesn't fit raises PermanentError.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from connectors.errors import PermanentError
from transforms.expressions import printing
from transforms.expressions.values import (
    access,
    compare,
    kind_of,
    shortened,
    to_json,
    to_text,
    truthy,
)


def _wrong(name: str, expected: str, value: Any) -> PermanentError:
    return PermanentError(
        f"{name} expects {expected}, found {kind_of(value)} {shortened(to_json(value))}.",
        code="template_value",
    )


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
        try:
            return float(value)
        except ValueError:
            pass
    raise _wrong(name, "a number", value)


def _list(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise _wrong(name, "an array", value)


def _text(value: Any) -> str:
    return to_text(value)


def _field(item: Any, path: Any) -> Any:
    for key in str(path).split("."):
        item = access(item, key)
    return item


def _default(fallback: Any, value: Any = None) -> Any:
    return fallback if value is None or value == "" else value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = access(value, key)
    return value


def _length(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise _wrong("len", "text, an array or an object", value)


def _slice(value: Any, first: Any = 0, last: Any = None) -> Any:
    if not isinstance(value, (str, list)):
        raise _wrong("slice", "text or an array", value)
    start, end = _to_int(first), len(value) if last is None else _to_int(last)
    if not 0 <= start <= end <= len(value):
        raise PermanentError(
            f"slice: there is no {start}:{end} in a length of {len(value)}.", code="template_value"
        )
    return value[start:end]


def _contains(part: Any, value: Any) -> bool:
    if isinstance(value, list):
        return any(compare(part, item) == 0 for item in value)
    return _text(part) in _text(value)


def _divide(left: Any, right: Any) -> int | float:
    one, two = _number("div", left), _number("div", right)
    if two == 0:
        raise PermanentError("div: division by zero.", code="template_value")
    if isinstance(one, int) and isinstance(two, int) and one % two == 0:
        return one // two
    return one / two


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    return math.trunc(_number("toInt", value))


def _now(layout: str = "RFC3339") -> str:
    at = datetime.now(timezone.utc)
    if layout in _LAYOUTS:
        layout = _LAYOUTS[layout]
    if layout.startswith("%") or "%" in layout:
        return at.strftime(layout)
    for go, python in _GO_LAYOUT:
        layout = layout.replace(go, python)
    return at.strftime(layout)


_LAYOUTS = {
    "RFC3339": "%Y-%m-%dT%H:%M:%SZ",
    "RFC3339Nano": "%Y-%m-%dT%H:%M:%S.%fZ",
    "DateOnly": "%Y-%m-%d",
    "TimeOnly": "%H:%M:%S",
    "DateTime": "%Y-%m-%d %H:%M:%S",
    "Kitchen": "%I:%M%p",
}
_GO_LAYOUT = (
    ("2006", "%Y"),
    ("01", "%m"),
    ("02", "%d"),
    ("15", "%H"),
    ("04", "%M"),
    ("05", "%S"),
    ("Z07:00", "Z"),
)
"""Go writes a layout as its reference time would read: Mon Jan 2 15:04:05 2006."""


def _sum(values: Any, path: Any = None) -> int | float:
    items = _list("sum", values)
    return sum(_number("sum", item if path is None else _field(item, path)) for item in items)


def _extreme(name: str, values: Any, path: Any, pick: Callable[..., Any]) -> Any:
    items = _list(name, values)
    found = [item if path is None else _field(item, path) for item in items]
    return pick(found, key=functools.cmp_to_key(compare)) if found else None


def _unique(values: Any) -> list[Any]:
    found: list[Any] = []
    for item in _list("unique", values):
        if not any(compare(item, other) == 0 for other in found):
            found.append(item)
    return found


def _group_by(values: Any, path: Any) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for item in _list("groupBy", values):
        groups.setdefault(_text(_field(item, path)), []).append(item)
    return groups


def _sort_by(values: Any, path: Any) -> list[Any]:
    order = functools.cmp_to_key(compare)
    return sorted(_list("sortBy", values), key=lambda item: order(_field(item, path)))


def _flatten(values: Any) -> list[Any]:
    found: list[Any] = []
    for item in _list("flatten", values):
        found.extend(_flatten(item) if isinstance(item, list) else [item])
    return found


def _all(*values: Any) -> Any:
    return next((value for value in values if not truthy(value) or value == ""), values[-1])


def _any(*values: Any) -> Any:
    return next((value for value in values if truthy(value) and value != ""), values[-1])


def _equal(value: Any, *others: Any) -> bool:
    return any(compare(value, other) == 0 for other in others)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "uuid": lambda: str(uuid4()),
    "uuidv4": lambda: str(uuid4()),
    "now": _now,
    "lower": lambda value: _text(value).lower(),
    "upper": lambda value: _text(value).upper(),
    "title": lambda value: _text(value).title(),
    "default": _default,
    "trimPrefix": lambda prefix, value: _text(value).removeprefix(prefix),
    "trimSuffix": lambda suffix, value: _text(value).removesuffix(suffix),
    "trimSpace": lambda value: _text(value).strip(),
    "json": lambda value=None: to_json(value),
    "replace": lambda old, new, value: _text(value).replace(old, new),
    "contains": _contains,
    "hasPrefix": lambda prefix, value: _text(value).startswith(prefix),
    "hasSuffix": lambda suffix, value: _text(value).endswith(suffix),
    "split": lambda separator, value: _text(value).split(separator),
    "join": lambda separator, values: separator.join(map(_text, _list("join", values))),
    "urlEncode": lambda value: quote(_text(value), safe=""),
    "urlquery": lambda value: quote(_text(value), safe=""),
    "b64": lambda value: base64.b64encode(_text(value).encode()).decode(),
    "add": lambda a, b: _number("add", a) + _number("add", b),
    "sub": lambda a, b: _number("sub", a) - _number("sub", b),
    "mul": lambda a, b: _number("mul", a) * _number("mul", b),
    "div": _divide,
    "toInt": _to_int,
    "toFloat": lambda value: float(_number("toFloat", value)),
    "toString": _text,
    "len": _length,
    "length": _length,
    "coalesce": lambda *values: next((v for v in values if v is not None and v != ""), None),
    "sum": _sum,
    "pluck": lambda values, path: [_field(item, path) for item in _list("pluck", values)],
    "flatten": _flatten,
    "unique": _unique,
    "groupBy": _group_by,
    "sortBy": _sort_by,
    "first": lambda values: next(iter(_list("first", values)), None),
    "last": lambda values: next(reversed(_list("last", values)), None),
    "min": lambda values, path=None: _extreme("min", values, path, min),
    "max": lambda values, path=None: _extreme("max", values, path, max),
    "index": _index,
    "slice": _slice,
    "print": printing.show,
    "println": printing.show_line,
    "printf": printing.printf,
    "html": printing.html,
    "js": printing.js,
    "and": _all,
    "or": _any,
    "not": lambda value: not truthy(value) or value == "",
    "eq": _equal,
    "ne": lambda a, b: compare(a, b) != 0,
    "lt": lambda a, b: compare(a, b) < 0,
    "le": lambda a, b: compare(a, b) <= 0,
    "gt": lambda a, b: compare(a, b) > 0,
    "ge": lambda a, b: compare(a, b) >= 0,
}
"""Name → function. `step "a" "b"` and `trigger "a"` are paths and compiled as such."""
