"""Lags, sizes and ages in a few characters."""

from __future__ import annotations

from connectors.contracts import Lag


def show_lag(lag: Lag) -> str:
    """Return a lag in a few characters: events where they are known, else bytes, else its age."""
    if lag.events is not None:
        return f"{lag.events:,}"
    if lag.bytes is not None:
        return show_size(lag.bytes)
    if lag.seconds is not None:
        return show_age(lag.seconds)
    return "-"


def show_size(size: int) -> str:
    """Return a number of bytes in a few characters, in powers of ten as flow files write them."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def show_age(seconds: float) -> str:
    """Return a time span in a few characters."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"
