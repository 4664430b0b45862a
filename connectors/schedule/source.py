"""`source.schedule`: an event per time of a schedule, each once, whatever crashes.

The position is the time itself, and so is the event's id: a time that was handed over and not
settled comes again as the same event, and one that was settled never does, also when the clock is set
back. There is one partition, so one worker has it, under its lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from connectors.contracts import Check, Opening, SourceTraits
from connectors.schedule.cron import parse_cron
from connectors.schedule.reader import ScheduleReader
from connectors.schedule.settings import ScheduleSettings
from connectors.schedule.times import NextAfter, cron_times, every


class ScheduleSource:
    """See `connectors.contracts.Source`."""

    traits = SourceTraits(
        ordered=True,
        replayable=True,
        seek_by_time=False,
        partitioned=False,
        json=True,
    )

    def __init__(
        self, name: str, settings: ScheduleSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock

    def preflight(self) -> Iterable[Check]:
        """Tell when it fires next."""
        at = times_of(self._settings)(int(self._clock()))
        zone = ZoneInfo(self._settings.timezone)
        shown = datetime.fromtimestamp(at, timezone.utc).astimezone(zone).isoformat()
        yield Check("next time", ok=True, found=shown)

    def open(self, opening: Opening) -> ScheduleReader:
        """Go on behind the last time that was settled; on the first start, from now."""
        data: Callable[[Any], Any] | None = None
        if self._settings.data is not None and opening.compile_value is not None:
            data = opening.compile_value(self._settings.data)
        return ScheduleReader(
            self._name,
            self._settings,
            times_of(self._settings),
            opening,
            clock=self._clock,
            data=data,
        )


def times_of(settings: ScheduleSettings) -> NextAfter:
    """Return the times of a schedule."""
    if settings.cron is None:
        return every(int(settings.every or 1))
    return cron_times(parse_cron(settings.cron), ZoneInfo(settings.timezone))
