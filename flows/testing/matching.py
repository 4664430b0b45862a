"""Where two JSON values differ, path by path. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Steps = tuple[str | int, ...]
"""Keys and indexes."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Stands where one side has nothing at all."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two values differ; ABSENT on the side that has nothing there."""

    path: Steps
    expected: Any
    found: Any


def differences(
    expected: Any, found: Any, path: Steps = (), *, contains: bool = False
) -> Iterator[Difference]:
    """Yield the places where `found` is not what was expected, in the order of `expected`.

    With `contains`, objects may have keys that are not expected, at every depth. Numbers are equal
    as JSON has them: 1 is 1.0; true is not 1.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key in found:
                yield from differences(value, found[key], (*path, key), contains=contains)
            else:
                yield Difference((*path, key), value, ABSENT)
        if not contains:
            for key, value in found.items():
                if key not in expected:
                    yield Difference((*path, key), ABSENT, value)
    elif isinstance(expected, list) and isinstance(found, list | tuple):
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, (*path, number), contains=contains)
        for number in range(len(found), len(expected)):
            yield Difference((*path, number), expected[number], ABSENT)
        for number in range(len(expected), len(found)):
            yield Difference((*path, number), ABSENT, found[number])
    elif not _same(expected, found):
        yield Difference(path, expected, found)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def path_text(path: Sequence[str | int]) -> str:
    """Return a path as jq writes it, without the first dot: `published[0].data["a-b"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            quoted = step.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{quoted}"]'
    return text
