"""Reading by time, where a source's own order goes by when messages came and not by their events' times."""

from __future__ import annotations

from datetime import datetime, timezone

from connectors.batch import Batch
from connectors.contracts import Window

SLACK = 600.0
"""Seconds by which a message may have come later, or earlier, than the time of its event says: reading
begins and ends so far beyond a window, and what lies outside of it is left out."""


def within(batch: Batch, window: Window) -> Batch:
    """Return the events whose time lies in the window; those that have none are left out."""
    since, until = window.since / 1000, window.until / 1000
    times = batch.column("timestamp")
    chosen = [k for k, at in enumerate(times) if at is not None and since <= at < until]
    if len(chosen) == batch.size:
        return batch
    few = batch.pick(chosen)
    few.after = batch.after
    few.weight = batch.weight * few.size // batch.size
    return few


def shown(seconds: float) -> str:
    """Return a time for people, to the second."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
