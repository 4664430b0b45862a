"""When an execution's time is over: pure, by a clock of the test's."""

from __future__ import annotations

from types import SimpleNamespace

from connectors.batch import Batch
from connectors.errors import RetryableError
from flows.runtime.time_limit import TimeLimit, ended_untried
from transforms.executions import Ended, Executions

STEP = SimpleNamespace(name="call", number=1, place_in_pipeline="call")


def limit(now):
    return TimeLimit(60.0, clock=lambda: now)


def executions(size=3, **more):
    return Executions(events=Batch(size, {}, after={}), pipeline="p", started=1000.0, **more)


def test_nothing_ends_before_its_time():
    batch = executions()
    assert limit(1059.9).end_overdue(batch, STEP) == 0
    assert batch.ended == {}


def test_what_came_together_is_over_together():
    batch = executions()
    assert limit(1060.0).end_overdue(batch, STEP) == 3
    assert {ended.step for ended in batch.ended.values()} == {"call"}
    assert {ended.error.code for ended in batch.ended.values()} == {"execution_timeout"}


def test_what_has_waited_is_over_by_its_own_start_and_alone():
    batch = executions(starts={1: 939.0, 2: 950.0})
    assert limit(1005.0).end_overdue(batch, STEP) == 1
    assert list(batch.ended) == [1]
    assert limit(1005.0).left(batch, 2) == 5.0


def test_what_has_ended_already_ends_no_second_time():
    batch = executions(ended={0: Ended("skipped")})
    assert limit(2000.0).end_overdue(batch, STEP) == 2
    assert batch.ended[0].outcome == "skipped"


def test_the_time_for_which_a_sink_was_away_is_not_counted():
    batch = executions()
    batch.held_back.append(30.0)
    assert limit(1089.0).end_overdue(batch, STEP) == 0
    assert limit(1089.0).left(batch, 0) == 1.0
    assert limit(1090.0).end_overdue(batch, STEP) == 3


def test_the_error_tells_the_last_try_where_there_was_one():
    cause = RetryableError("it said 503.", code="http_status")
    error = limit(0.0).given_up(STEP, cause)
    assert "it said 503." in error.message
    assert error.context == {"step": "call", "cause": "http_status"}
    assert not ended_untried(error)
