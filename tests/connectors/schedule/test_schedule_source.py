"""source.schedule: what was missed, clocks that are set, and the promises of connectors.contracts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.contracts import EndOfSource, Opening, Shard
from connectors.schedule.reader import PARTITION, position_of
from connectors.schedule.settings import ScheduleSettings
from connectors.schedule.source import ScheduleSource
from connectors.testing import SourceConformance
from flows.runtime.sinks import value_renderer

NOON = 1_800_000_000 // 3600 * 3600


class Clock:
    def __init__(self, now=NOON):
        self.now = float(now)

    def __call__(self):
        return self.now


def source(clock, **config):
    config = config if "cron" in config else {"every": "60s", **config}
    return ScheduleSource("hourly", ScheduleSettings.model_validate(config), clock=clock)


def reader(clock, last=None, **config):
    positions = {} if last is None else {PARTITION: position_of(last)}
    opening = Opening(Shard(), positions, compile_value=value_renderer)
    return source(clock, **config).open(opening)


def times(batch):
    return [] if batch is None else [int(at) - NOON for at in batch.column("timestamp")]


class ScheduleUnderTest:
    """Its upstream is a clock; an event is a second of it."""

    def __init__(self):
        self.clock = Clock()
        self.source = source(self.clock, every="1s", missed="run_all")
        self.begins = {PARTITION: position_of(NOON)}

    def emit(self, count):
        self.clock.now += count

    def numbers(self, batch):
        return [int(at) - NOON - 1 for at in batch.column("timestamp")] if batch.size else []

    def acknowledged(self):
        return None


class TestScheduleSource(SourceConformance):
    @pytest.fixture
    def subject(self):
        return ScheduleUnderTest()


def test_the_beginning_is_kept_before_there_is_an_event():
    clock = Clock()
    first = reader(clock).poll(10, 0)
    assert (first.size, first.after) == (0, {PARTITION: position_of(NOON)})
    clock.now += 61
    again = reader(clock, last=int(first.after[PARTITION]))
    assert times(again.poll(10, 0)) == [60]


def test_an_events_id_and_time_are_the_scheduled_time():
    clock = Clock(NOON)
    reading = reader(clock, last=NOON)
    clock.now += 60.5
    event = reading.poll(10, 0).event(0)
    assert event.id == event.time == event.data["scheduled_at"] == "2027-01-15T08:01:00Z"
    assert (event.source, event.type) == ("/schedule/hourly", "schedule.fired")


def test_data_is_rendered_with_the_local_time():
    clock = Clock(NOON + 60)
    data = {"day": "{{ .local_time }}", "at": "{{ .scheduled_at }}", "n": 1}
    reading = reader(
        clock, NOON, cron="* * * * *", timezone="Asia/Kolkata", data=data, missed="run_all"
    )
    assert reading.poll(1, 0).column("data") == [
        {"day": "2027-01-15T13:31:00+05:30", "at": "2027-01-15T08:01:00Z", "n": 1}
    ]


@pytest.mark.parametrize(
    ("missed", "away", "expected"),
    [
        ("run_once", 305, [300]),
        ("run_all", 305, [60, 120, 180, 240, 300]),
        ("skip", 305, [300]),
        ("skip", 59, []),
    ],
)
def test_what_passed_while_nothing_ran(missed, away, expected):
    clock = Clock(NOON + away)
    assert times(reader(clock, NOON, missed=missed).poll(100, 0)) == expected


def test_what_is_skipped_moves_the_position_all_the_same():
    clock = Clock(NOON + 3 * 3600 + 1800)
    reading = reader(clock, NOON, cron="0 * * * *", missed="skip")
    batch = reading.poll(10, 0)
    assert (batch.size, batch.after) == (0, {PARTITION: position_of(NOON + 3 * 3600)})
    clock.now += 1800
    assert times(reading.poll(10, 0)) == [4 * 3600]


@pytest.mark.parametrize("missed", ["run_once", "run_all", "skip"])
def test_what_comes_due_while_it_runs_is_never_missed(missed):
    """A flow that is held up for ten minutes gets all of them: the schedule ran."""
    clock = Clock()
    reading = reader(clock, NOON, missed=missed)
    got = []
    for _ in range(24):  # less than a jump of the clock each
        clock.now += 25
    reading._ahead += 600  # as if the monotonic clock had gone on by as much
    got += times(reading.poll(100, 0))
    assert got == [60 * n for n in range(1, 11)]


def test_a_clock_that_is_set_forward_or_a_machine_that_slept_has_missed_times():
    clock = Clock()
    reading = reader(clock, NOON)
    clock.now += 4000
    assert times(reading.poll(100, 0)) == [3960]


def test_a_clock_that_is_set_back_repeats_nothing():
    clock = Clock()
    reading = reader(clock, NOON)
    clock.now += 61
    assert times(reading.poll(10, 0)) == [60]
    clock.now -= 3600
    assert reading.poll(10, 0) is None
    clock.now += 3600 + 59
    assert times(reading.poll(10, 0)) == [120]


def test_years_of_seconds_are_not_gone_through_one_by_one():
    clock = Clock(NOON + 100_000_000_000)
    assert times(reader(clock, NOON, every="1s").poll(10, 0)) == [100_000_000_000]


def test_a_batch_holds_no_more_than_its_limit():
    clock = Clock(NOON + 86_400)
    reading = reader(clock, NOON, missed="run_all")
    assert [len(times(reading.poll(7, 0))) for _ in range(3)] == [7, 7, 7]


def test_jitter_delays_the_same_time_by_as_much_after_a_restart():
    def first_seen():
        clock = Clock()
        reading = reader(clock, NOON, jitter="50s")
        while (batch := reading.poll(1, 0)) is None:
            clock.now += 0.5
        assert times(batch) == [60]
        return clock.now

    assert first_seen() == first_seen()
    assert NOON + 60 <= first_seen() <= NOON + 110


def test_a_bounded_run_ends_when_what_was_missed_is_done():
    clock = Clock(NOON + 130)
    opening = Opening(Shard(), {PARTITION: position_of(NOON)}, until_caught_up=True)
    reading = source(clock, missed="run_all").open(opening)
    assert times(reading.poll(10, 0)) == [60, 120]
    with pytest.raises(EndOfSource):
        reading.poll(10, 1)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cron": "60 * * * *"}, "a minute of 0-59"),
        ({"cron": "* * * *"}, "five cron fields"),
        ({"cron": "0 * * * *", "timezone": "Europe/Berlim"}, "the name of a time zone"),
        ({"cron": "0 * * * *", "timezone": "../etc/passwd"}, "the name of a time zone"),
        ({}, "either cron"),
        ({"every": "1500ms"}, "whole seconds"),
        ({"cron": "0 * * * *", "every": "5m"}, "either cron"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    with pytest.raises(ValidationError, match=expected):
        ScheduleSettings.model_validate(config)
