"""When schedules fire: cron over time zones, the two days a year on which a clock jumps, intervals."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.schedule.cron import parse_cron
from connectors.schedule.times import cron_times, every


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


def fired(cron, zone, since, count):
    """The next times behind `since`, in UTC."""
    following = cron_times(parse_cron(cron), ZoneInfo(zone))

    def walk():
        now = at(since)
        while True:
            now = following(now)
            yield datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M")

    return list(islice(walk(), count))


def test_times_follow_the_zones_wall_clock():
    assert fired("30 9 * * MON-FRI", "Europe/Berlin", "2026-11-20T08:30:00", 2) == [
        "2026-11-23T08:30",
        "2026-11-24T08:30",
    ]
    assert fired("0 0 1 * *", "Asia/Kolkata", "2026-01-01T00:00:00", 2) == [
        "2026-01-31T18:30",
        "2026-02-28T18:30",
    ]
    assert fired("0 0 29 2 *", "UTC", "2096-03-01T00:00:00", 1) == ["2104-02-29T00:00"]


def test_a_time_that_spring_skips_fires_when_the_skipped_hour_ends():
    # In Berlin 02:00 to 03:00 of 2026-03-29 is not there; 03:00 is 01:00 in UTC.
    assert fired("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00", 3) == [
        "2026-03-28T01:30",
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]
    assert fired("0,20,40 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00", 2) == [
        "2026-03-29T01:00",
        "2026-03-30T00:00",
    ]


def test_a_time_that_autumn_has_twice_fires_once():
    # In New York 01:00 to 02:00 of 2026-11-01 comes twice: from 05:00 and from 06:00 in UTC.
    assert fired("30 1 * * *", "America/New_York", "2026-10-31T12:00:00", 2) == [
        "2026-11-01T05:30",
        "2026-11-02T06:30",
    ]


def test_a_cron_of_every_hour_goes_on_evenly_through_both():
    assert fired("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00", 3) == [
        "2026-03-29T00:30",
        "2026-03-29T01:30",
        "2026-03-29T02:30",
    ]
    assert fired("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00", 6) == [
        "2026-10-25T00:00",
        "2026-10-25T00:30",
        "2026-10-25T01:00",
        "2026-10-25T01:30",
        "2026-10-25T02:00",
        "2026-10-25T02:30",
    ]


def test_a_clock_that_jumps_by_half_an_hour_or_a_day():
    assert fired("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00", 1) == [
        "2026-10-03T15:30"
    ]
    # Samoa had no 30 December 2011.
    assert fired("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00", 2) == [
        "2011-12-30T10:00",
        "2011-12-30T22:00",
    ]


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
CRONS = ["*/7 * * * *", "0 2 * * *", "30 1-3 * * *", "59 23 31 12 *", "0 0 13 * FRI", "5 * * * *"]


@given(st.integers(0, 4_000_000_000), st.sampled_from(ZONES), st.sampled_from(CRONS))
def test_the_next_time_is_later_and_nothing_lies_between(now, zone, cron):
    following = cron_times(parse_cron(cron), ZoneInfo(zone))
    found = following(now)
    assert found > now
    assert following(found - 1) == found
    assert following((now + found) // 2) == (
        found if (now + found) // 2 < found else following(found)
    )


def test_intervals_are_counted_from_the_epoch():
    assert [every(300)(now) for now in (0, 299, 300, 301)] == [300, 300, 600, 600]


@pytest.mark.parametrize("seconds", [1, 90, 86_400])
def test_an_interval_does_not_depend_on_when_it_was_looked_at(seconds):
    assert every(seconds)(1_000_000_000) % seconds == 0
