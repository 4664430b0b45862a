"""When a schedule fires: the next time after another, of a cron expression or an interval. Pure.

A cron expression is wall-clock time in a zone, and a wall clock jumps twice a year. As most crons do:
a time that the clock skips in spring fires once, at the moment of the jump; a time that comes twice in autumn
fires the first time alone. With a step of less than an hour (`*/15 * * * *`: every hour is
named) times go on through the repeated hour, too: then it is an interval that is meant.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from connectors.schedule.cron import Cron

NextAfter = Callable[[int], int]
"""Seconds since the epoch → the first time behind that, in the same unit."""

_YEARS = 9
"""Days looked at: 29 February comes after 8 years at the latest (1896, 1904; 2096, 2104)."""


def every(seconds: int) -> NextAfter:
    """Return the multiples of an interval since the epoch."""
    return lambda after: (after // seconds + 1) * seconds


def cron_times(cron: Cron, zone: ZoneInfo) -> NextAfter:
    """Return the times of a cron expression in a zone."""
    days: dict[date, list[int]] = {}

    def of_day(day: date) -> list[int]:
        found = days.get(day)
        if found is None:
            if len(days) > 64:
                days.clear()
            found = days[day] = sorted(set(_times_of(cron, zone, day)))
        return found

    def next_after(after: int) -> int:
        # From the day before: where the zone is ahead, its day has begun earlier.
        day = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
        for _ in range(366 * _YEARS):
            if _matches(cron, day):
                times = of_day(day)
                place = bisect_right(times, after)
                if place < len(times):
                    return times[place]
            day += timedelta(days=1)
        raise ValueError("this cron expression never fires")

    return next_after


def _matches(cron: Cron, day: date) -> bool:
    if day.month not in cron.months:
        return False
    in_days, in_week = day.day in cron.days, day.isoweekday() % 7 in cron.weekdays
    return in_days or in_week if cron.either_day else in_days and in_week


def _times_of(cron: Cron, zone: ZoneInfo, day: date) -> Iterator[int]:
    """Yield the times of a day, in seconds since the epoch; not in order."""
    goes_on = len(cron.hours) == 24
    for hour in cron.hours:
        for minute in cron.minutes:
            wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            first = wall.astimezone(timezone.utc)
            shown = first.astimezone(zone)
            if shown.replace(tzinfo=None) != wall.replace(tzinfo=None):
                if goes_on:
                    continue  # every hour is named: the skipped one has no times
                # With fold=0 a skipped time is counted on from before the jump: it is behind it by as much.
                yield int(_jump_before(first, zone).timestamp())
                continue
            yield int(first.timestamp())
            if goes_on:
                second = wall.replace(fold=1).astimezone(timezone.utc)
                if second != first:
                    yield int(second.timestamp())


def _jump_before(at: datetime, zone: ZoneInfo) -> datetime:
    """Return when the zone's clock jumped last before a time less than a day behind the jump."""
    low, high = at - timedelta(days=1), at
    offset = high.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)  # clocks jump at whole seconds
