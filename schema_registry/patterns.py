"""Patterns of schemas, where this program matches them itself: bounded in time."""

from __future__ import annotations

_PATIENCE = 0.1
"""Seconds."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern is found in a name; one that can't be told is not."""
    import regex  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import, seldom needed

    try:
        return regex.search(pattern, name, timeout=_PATIENCE) is not None
    except (regex.error, TimeoutError):
        return False
