"""Entry ids: their order, and what they tell."""

from __future__ import annotations

EntryId = bytes
"""Milliseconds, a hyphen, a number within the millisecond."""


def order_of(entry: EntryId) -> tuple[int, int]:
    """Return an entry id as numbers, which sort as entries do."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)
