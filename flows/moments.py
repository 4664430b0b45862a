"""Points in time as people write them: so long ago, or a date with a time."""

from __future__ import annotations

from datetime import datetime, timezone

from connectors.settings import parse_duration


def parse_moment(text: str, now: float) -> float:
    """Return seconds since the epoch for `2h` (ago) or an RFC 3339 time; without a zone, UTC.

    Raises ValueError with what is expected.
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("a duration (ago) such as 2h, or a time: 2026-11-21T08:00:00Z") from None
