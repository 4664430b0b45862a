"""Integers that JavaScript's numbers can't hold: they go in as BigInt, and come out to the digit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

_LONG = re.compile(rb"\d{16}")
_SAFE = 2**53 - 1


def integers_of(value: Any, text: bytes) -> bytes:
    """Return [[path, digits], …] as JSON of the integers beyond ±(2⁵³-1); b"" when there are none.

    `text` is the value as JSON: in most of them not one number is long enough to look.
    """
    if _LONG.search(text) is None:
        return b""
    found = list(_found(value, []))
    return orjson.dumps(found) if found else b""


def _found(value: Any, path: list[str | int]) -> Iterator[list[Any]]:
    if isinstance(value, int):
        if not -_SAFE <= value <= _SAFE:
            yield [list(path), str(value)]
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _found(item, [*path, key])
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _found(item, [*path, number])


def exact(text: bytes) -> Any:
    """Return the JSON value, integers of any size exact."""
    if _LONG.search(text) is None:
        return orjson.loads(text)
    return json.loads(text)
