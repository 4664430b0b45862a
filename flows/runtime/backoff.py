"""How long to wait between tries of what is away: each time twice as long, up to a longest."""

from __future__ import annotations


class Backoff:
    """The delays, in seconds, of one thing that is tried again and again. No clock, no sleep."""

    __slots__ = ("_first", "_longest", "_next")

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest

    def longer(self, at_least: float = 0.0) -> float:
        """Return how long to wait now. `at_least` is what a server asked for (`Retry-After`)."""
        delay, self._next = self._next, min(self._next * 2, self._longest)
        return max(delay, at_least)

    def reset(self) -> None:
        """Begin anew: it has answered."""
        self._next = self._first
