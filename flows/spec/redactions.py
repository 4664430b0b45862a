"""`history.redact`: paths to what is masked before it is recorded. Pure.

    .data.card    .data.items[].card    .steps.customer.output["e-mail"]    .before.name

A path is a chain of names, `[]` for each of a list or object, and `[0]`. No other jq is one: what a
program does not find is recorded as it is, and that must not be for a mistake in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_PART = re.compile(
    r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
      | \.?\[\s*(?P<text>"(?:[^"\\]|\\.)*")\s*\]
      | \.?\[\s*(?P<place>\d+)\s*\]
      | \.?(?P<each>\[\s*\])""",
    re.VERBOSE,
)

_ROOTS = ("data", "before", "after", "steps")

EACH = None
"""The part that stands for each of a list or object."""

Part = str | int | None


@dataclass(frozen=True, slots=True)
class Redaction:
    """One path: `root` is data, before, after or the name of a step."""

    root: str
    is_step: bool
    parts: tuple[Part, ...]


def parse_redaction(text: str) -> Redaction:
    """Return the path that a text is. Raises ValueError with what is expected."""
    parts: list[Part] = []
    at = 0
    stripped = text.strip()
    while at < len(stripped):
        match = _PART.match(stripped, at)
        if match is None:
            raise ValueError(
                "a path such as .data.card, .data.items[].card or .steps.look.output.name"
            )
        at = match.end()
        if match["name"] is not None:
            parts.append(match["name"])
        elif match["text"] is not None:
            parts.append(str(json.loads(match["text"])))
        elif match["place"] is not None:
            parts.append(int(match["place"]))
        else:
            parts.append(EACH)
    root = parts[0] if parts else None
    if not isinstance(root, str) or root not in _ROOTS:
        raise ValueError("a path that begins with .data, .before, .after or .steps.NAME")
    if root != "steps":
        return Redaction(root, is_step=False, parts=tuple(parts[1:]))
    if len(parts) < 2 or not isinstance(parts[1], str):
        raise ValueError("a path that names the step: .steps.NAME.output")
    return Redaction(parts[1], is_step=True, parts=tuple(parts[2:]))


def check_redaction(text: str) -> str:
    """Return the text if it is a path. Raises ValueError."""
    parse_redaction(text)
    return text


def masked_at(value: Any, parts: Sequence[Part], mask: Callable[[Any], Any]) -> Any:
    """Return the value with what the path leads to masked; the value itself is not changed.

    What is null, or not there, stays so.
    """
    if not parts:
        return value if value is None else mask(value)
    part, rest = parts[0], parts[1:]
    if part is EACH:
        if isinstance(value, list):
            return [masked_at(each, rest, mask) for each in value]
        if isinstance(value, dict):
            return {name: masked_at(each, rest, mask) for name, each in value.items()}
        return value
    if isinstance(part, str) and isinstance(value, dict) and part in value:
        return {**value, part: masked_at(value[part], rest, mask)}
    if isinstance(part, int) and isinstance(value, list) and part < len(value):
        return [masked_at(v, rest, mask) if k == part else v for k, v in enumerate(value)]
    return value


def data_masker(redactions: Sequence[Redaction], shown: str) -> Callable[[Any], Any] | None:
    """Return what gives an event's data back with `shown` where the paths lead; None: none do.

    Of data that holds a row before and after its change, both are looked at.
    """
    own = [each for each in redactions if not each.is_step]
    if not own:
        return None

    def masked(data: Any) -> Any:
        for each in own:
            if each.root == "data":
                data = masked_at(data, each.parts, lambda _: shown)
            elif isinstance(data, dict) and each.root in data:
                side = masked_at(data[each.root], each.parts, lambda _: shown)
                data = {**data, each.root: side}
        return data

    return masked
