"""JSON text of whatever a step may put out: fast where it is JSON, never an error where not."""

from __future__ import annotations

import json
from typing import Any

import orjson

_DEEP = 12
"""Levels of a value that is not JSON that are looked into."""


def json_text(value: Any, depth: int = 0) -> bytes:
    """Return a value as JSON text: integers of any size, text with lone surrogates, anything."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return json.dumps(value, default=str, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    # A key that is not text, or a value that holds itself: as much of it as can be shown.
    if isinstance(value, dict) and depth < _DEEP:
        pairs = (json_text(str(k)) + b":" + json_text(v, depth + 1) for k, v in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, (list, tuple)) and depth < _DEEP:
        return b"[" + b",".join(json_text(item, depth + 1) for item in value) + b"]"
    return json_text(f"({type(value).__name__})")
