"""Hands over the times of a schedule as they come, and by its policy those that were missed.

There is nothing to read, so there is no thread: `poll` waits for the clock. The first thing handed over is
where the schedule begins, as a position without an event: so a crash before the first event has been settled
does not begin anew from a later now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from connectors.batch import Batch, Column, Position
from connectors.contracts import EndOfSource, Lag, Opening
from connectors.schedule.settings import ScheduleSettings
from connectors.schedule.times import NextAfter

PARTITION = "schedule"

LATE = 60.0
"""Seconds behind its time after which `missed: skip` leaves an event out: less is a restart."""

JUMP = 30.0
"""Seconds by which the clock must run ahead of the monotonic one to have been set, or the machine to have slept."""

_NEAR = (60, 3600, 86_400)
"""Seconds before the end of a gap in which its last time is looked for."""

_LOOK = 1.0
"""Seconds that are waited at most before the clock is asked again: it may have been set."""


class ScheduleReader:
    """See `connectors.contracts.Reader`."""

    def __init__(
        self,
        name: str,
        settings: ScheduleSettings,
        next_after: NextAfter,
        opening: Opening,
        *,
        clock: Callable[[], float],
        data: Callable[[Mapping[str, Any]], Any] | None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._next_after = next_after
        self._clock = clock
        self._data = data
        self._zone = ZoneInfo(settings.timezone)
        self._closed = threading.Event()
        self._missed_until = clock()
        """Times up to here passed while nothing ran; later ones are never missed, however late they are handed over."""
        self._ahead = clock() - time.monotonic()
        known = opening.positions.get(PARTITION)
        self._is_new = known is None
        self._last = int(clock()) if known is None else int(known)
        self._until = int(clock()) if opening.until_caught_up else None

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over the times that have come; see the contract."""
        if self._is_new:
            self._is_new = False
            return Batch(0, {}, after={PARTITION: position_of(self._last)})
        due = self._due(limit)
        if due is None and timeout and self._until is None:
            at = self._next_after(self._last)
            wait = min(at + self._jitter(at) - self._clock(), timeout, _LOOK)
            if wait > 0:
                self._closed.wait(wait)
            due = self._due(limit)
        if due is None and self._until is not None:
            raise EndOfSource
        return due

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Nobody is told: the position is all there is."""

    def owns(self, partition: str) -> bool:
        """Whether it is the schedule."""
        return partition == PARTITION

    def lag(self) -> Mapping[str, Lag]:
        """Return how long the next event has been due."""
        late = self._clock() - self._next_after(self._last)
        return {PARTITION: Lag(events=None, seconds=max(0.0, late))}

    def status(self) -> str:
        """Nothing is ever waited for but the clock."""
        return ""

    def close(self) -> None:
        """Stop waiting."""
        self._closed.set()

    def _due(self, limit: int) -> Batch | None:
        """Return the times that have come since the last one, as the policy wants them; None: none."""
        now = self._clock() if self._until is None else self._until
        self._look_for_a_jump(now)
        times: list[int] = []
        dropped = False
        once = self._settings.missed != "run_all"
        at = self._next_after(self._last)
        if once and self._missed_until - at > _NEAR[-1]:
            at, dropped = self._near_the_end(at), True
        while len(times) < limit and at + self._jitter(at) <= now:
            following = self._next_after(at)
            if once and at <= self._missed_until and following <= self._missed_until:
                dropped = True  # it was missed, and is not the last one
            elif (
                self._settings.missed == "skip"
                and at <= self._missed_until
                and self._missed_until - at > LATE
            ):
                dropped = True
            else:
                times.append(at)
            self._last, at = at, following
        return self._batch(times) if times or dropped else None

    def _near_the_end(self, at: int) -> int:
        """Return one of the last missed times: a year of seconds is not gone through one by one."""
        for seconds in _NEAR:
            near = self._next_after(int(self._missed_until) - seconds)
            if near <= self._missed_until:
                return near
        return at

    def _look_for_a_jump(self, now: float) -> None:
        """See whether the clock was set forward, or the machine has slept: then times were missed."""
        ahead = now - time.monotonic()
        if ahead - self._ahead > JUMP:
            self._missed_until = now
        if abs(ahead - self._ahead) > JUMP:
            self._ahead = ahead

    def _jitter(self, at: int) -> float:
        """Return the delay of a time: the same for the same time, also after a restart."""
        if not self._settings.jitter:
            return 0.0
        digest = blake2b(f"{self._name}\x00{at}".encode(), digest_size=8).digest()
        return self._settings.jitter * int.from_bytes(digest, "big") / 2**64

    def _batch(self, times: list[int]) -> Batch:
        shown = [datetime.fromtimestamp(at, timezone.utc) for at in times]
        stamps = [at.isoformat().replace("+00:00", "Z") for at in shown]
        count = len(times)
        raws = [
            orjson.dumps(self._value(at, stamp)) for at, stamp in zip(shown, stamps, strict=True)
        ]
        columns: dict[str, Column] = {
            "raw": raws,
            "id": stamps,
            "source": [f"/schedule/{self._name}"] * count,
            "type": [self._settings.type] * count,
            "time": stamps,
            "timestamp": [float(at) for at in times],
            "partition": [PARTITION] * count,
            "position": [position_of(at) for at in times],
        }
        after = {PARTITION: position_of(self._last)}
        return Batch(count, columns, after=after, weight=sum(map(len, raws)))

    def _value(self, at: datetime, stamp: str) -> Any:
        local = at.astimezone(self._zone).isoformat()
        context = {"scheduled_at": stamp, "local_time": local, "time": stamp, "id": stamp}
        return {"scheduled_at": stamp} if self._data is None else self._data(context)


def position_of(at: int) -> Position:
    """Return the position of a time."""
    return f"{at:012d}"
