"""How one value differs from another: place by place, by kind, with what is to be ignored left out.

Two differences have the same shape if the same places differ in the same way; the numbers of list
entries count for nothing. So a bug that shows in a thousand executions is one line of a report. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import FlowFileError
from flows.history.diff import ABSENT, each_difference

MOST_PLACES = 12
"""Places that a shape names."""

_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two values differ; `ABSENT` stands for a side that has nothing there."""

    path: str
    left: Any
    right: Any

    @property
    def place(self) -> str:
        """The path without the numbers of list entries."""
        return _INDEX.sub("[]", self.path) or "."

    @property
    def kind(self) -> str:
        """What happened there: `added`, `removed`, `number changed`, `number → text`."""
        if self.left is ABSENT:
            return "added"
        if self.right is ABSENT:
            return "removed"
        left, right = _kind(self.left), _kind(self.right)
        return f"{left} changed" if left == right else f"{left} → {right}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as the same."""

    ignored: tuple[tuple[str, str], ...] = ()
    """(step, place) pairs; "" for any step."""
    tolerance: float = 0.0

    def differences(self, step: str, left: Any, right: Any) -> list[Difference]:
        """Return where a step's output differs from the recorded one."""
        return list(self._differences(step, left, right))

    def of_published(self, step: str, left: Any, right: Any) -> list[Difference]:
        """Return where an event that a step publishes differs from the one that it published then.

        What is to be ignored in every step's output is ignored in the data, too.
        """
        found = self._differences(step, left, right)
        return [each for each in found if not self._ignores("", each.place.removeprefix("data."))]

    def _differences(self, step: str, left: Any, right: Any) -> Iterator[Difference]:
        for path, one, other in each_difference(left, right):
            if self.tolerance and _close(one, other, self.tolerance):
                continue
            found = Difference(path, one, other)
            if not self.ignored or not self._ignores(step, found.place):
                yield found

    def _ignores(self, step: str, place: str) -> bool:
        return any(
            of in {"", step} and (place == path or place.startswith((f"{path}.", f"{path}[")))
            for of, path in self.ignored
        )


def rules_of(ignore: Sequence[str], tolerance: float, steps: Sequence[str]) -> Rules:
    """Return the rules: `.processed_at` of any step, `shape.processed_at` of one.

    Raises FlowFileError `backfill_ignore`.
    """
    ignored = []
    for text in ignore:
        step, _, path = text.strip().partition(".")
        path = _INDEX.sub("[]", path)
        if not path or (step and step not in steps):
            raise FlowFileError(
                f"ignore: {text!r} is no place in a step's output.",
                code="backfill_ignore",
                hint="Write .processed_at for every step's, or STEP.processed_at for one step's; the steps"
                f" are {', '.join(steps)}.",
            )
        ignored.append((step, path))
    return Rules(tuple(ignored), tolerance)


def shape_of(found: Sequence[Difference]) -> list[str]:
    """Return what differs, each place once, in order."""
    lines = sorted({f"{each.place}: {each.kind}" for each in found})
    if len(lines) > MOST_PLACES:
        lines = [*lines[:MOST_PLACES], f"… and {len(lines) - MOST_PLACES} more places"]
    return lines


def _close(left: Any, right: Any, tolerance: float) -> bool:
    for value in (left, right):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"
