"""In which order an outbox's rows are handed to sinks, and what waits behind one that is not taken. Pure.

A row that its sink does not take just now holds its turn (the pipeline's key) at that sink: no later row
of it is read until it is due again. Others go on. A sink that has taken nothing for several turns is
taken to be away, and paused as a whole: it is not asked once for every key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from connectors.errors import RetryableError
from flows.runtime.backoff import Backoff
from transforms.steps.outbox_table import WaitingRow

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Backoff in seconds of a turn, or of a sink that is away."""

SINGLE: Final = 16
"""Turns that fail in a row, and nothing else passes: more of them, and the sink is away."""

MOST_HELD: Final = 1_000
"""Turns of a sink that are held each by itself; beyond, it is paused as a whole."""

_LONGEST_SAID: Final = 60.0
"""Seconds: what a server asks for (`Retry-After`) is heeded up to this."""

Said = tuple[WaitingRow, dict[str, Any]]
"""A row, with what it says of its event: topic, key, attributes."""

Group = tuple[str, "str | None", list[Said]]
"""Sink, topic, and rows that may be handed over together, in order."""


def groups_of(rows: Sequence[WaitingRow], ordered: Mapping[str, bool]) -> list[Group]:
    """Return rows in groups to be delivered one after another.

    `ordered`: sink → whether it keeps the order of what it is handed with one key. Then rows of a turn
    go together as long as they have one key and topic; otherwise one by one, so that each is only
    handed over when it is known that those before it were taken.
    """
    waves: dict[tuple[str, int, str | None], list[Said]] = {}
    of_turn: dict[tuple[str, int], tuple[int, str | None, str | None]] = {}
    of_key: dict[tuple[str, str | None, str], int] = {}
    for row in rows:
        said = orjson.loads(row.event)
        topic, key, sink = said["topic"], said["key"], row.sink
        before = of_turn.get((sink, row.turn))
        wave = 0
        if before is not None:
            together = ordered[sink] and key is not None and before[1:] == (topic, key)
            wave = before[0] if together else before[0] + 1
        if key is not None:  # of other turns, it may still be one that a reader wants in order
            wave = max(wave, of_key.get((sink, topic, key), 0))
            of_key[sink, topic, key] = wave
        of_turn[sink, row.turn] = (wave, topic, key)
        waves.setdefault((sink, wave, topic), []).append((row, said))
    chosen = sorted(waves.items(), key=lambda each: each[0][1])  # stable: as they came
    return [(sink, topic, mine) for (sink, _, topic), mine in chosen]


@dataclass(slots=True)
class _Held:
    """A turn that waits at a sink."""

    error: RetryableError
    backoff: Backoff
    until: float = 0.0


@dataclass(slots=True)
class _Pace:
    """What waits at one sink."""

    held: dict[int, _Held] = field(default_factory=dict)
    """Turn → why it waits, and until when."""
    failing: set[int] = field(default_factory=set)
    """Turns that have failed since it took something."""
    paused_until: float = 0.0
    error: RetryableError | None = None
    """Why it is paused, or was when it was last asked."""
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_DELAY, LONGEST_DELAY))


class Pacing:
    """Says which sinks are asked now, and which turns wait. Times are a monotonic clock's, in seconds."""

    def __init__(self, sinks: Iterable[str]) -> None:
        self._paces = {name: _Pace() for name in sinks}

    def asked(self, now: float) -> list[str]:
        """Return the sinks that are not paused."""
        self._forget(now - LONGEST_DELAY)
        return [name for name, pace in self._paces.items() if pace.paused_until <= now]

    def held(self, now: float) -> list[tuple[str, int]]:
        """Return (sink, turn) of what is not to be read yet."""
        return [
            (name, turn)
            for name, pace in self._paces.items()
            for turn, held in pace.held.items()
            if held.until > now
        ]

    def next_due(self, now: float) -> float | None:
        """Return in how many seconds something that waits may be tried again; None: nothing waits."""
        times = [
            until
            for pace in self._paces.values()
            for until in (pace.paused_until, *(held.until for held in pace.held.values()))
            if until > now
        ]
        return min(times) - now if times else None

    def tell(
        self,
        sink: str,
        tried: Iterable[int],
        failed: Mapping[int, RetryableError],
        now: float,
        *,
        answered: bool,
    ) -> None:
        """Take in what a sink did with rows of the turns `tried`; `failed` has those it did not take.

        `answered`: it took a row, or refused one for good.
        """
        pace = self._paces[sink]
        for turn in tried:
            if turn not in failed:
                pace.held.pop(turn, None)
        if answered:
            pace.failing.clear()
            pace.backoff.reset()
            pace.error = None
        for turn, error in failed.items():
            held = pace.held.get(turn)
            if held is None:
                held = pace.held[turn] = _Held(error, Backoff(FIRST_DELAY, LONGEST_DELAY))
            held.error = error
            held.until = now + held.backoff.longer(_asked_for(error))
        if not answered:
            pace.failing.update(failed)
        if failed and (len(pace.held) > MOST_HELD or len(pace.failing) > SINGLE):
            pace.error = next(iter(failed.values()))
            pace.paused_until = now + pace.backoff.longer(_asked_for(pace.error))
            # All are due when it is asked again: their first rows, in order.
            pace.held.clear()

    def waits(self) -> dict[str, str]:
        """Return sink → why something waits for it."""
        found = {}
        for name, pace in self._paces.items():
            error = pace.error or next((held.error for held in pace.held.values()), None)
            if error is not None:
                found[name] = error.message
        return found

    def away(self) -> dict[str, str]:
        """Return sink → what is wrong with it, of those that took nothing when they were last asked."""
        return {name: why for name, why in self.waits().items() if self._paces[name].failing}

    def _forget(self, since: float) -> None:
        """Forget what has been due since then, and was not met again: another worker has published it."""
        for pace in self._paces.values():
            for turn in [turn for turn, held in pace.held.items() if held.until < since]:
                del pace.held[turn]
                pace.failing.discard(turn)
            if pace.paused_until < since and not pace.held:
                pace.failing.clear()
                pace.error = None


def _asked_for(error: RetryableError) -> float:
    return min(error.retry_after or 0.0, _LONGEST_SAID)
