"""Who waits behind whom, and until when."""

from __future__ import annotations

from random import Random

import pytest

from flows.runtime.parking import Parking
from flows.runtime.retrying import delay_before
from flows.spec.pipelines import Retry
from flows.state.records import ParkedPlace

STORED = 100


def place(name, lane, turn, *, attempts=0, due=0.0):
    return ParkedPlace(name, "p", "s", "part", lane, turn, attempts, due)


@pytest.fixture
def parking():
    return Parking()


def test_a_lane_goes_on_in_order_and_its_first_goes_alone_while_it_has_failed(parking):
    parking.park(place("a1", "a", 1, attempts=1, due=10), 1)
    parking.park(place("a2", "a", 2), 1)
    parking.park(place("a3", "a", 3), 1)
    assert parking.due(9, STORED, 10) == []
    assert parking.due(10, STORED, 10) == ["a1"]
    assert parking.due(10, STORED, 10) == []
    parking.ended("a1")
    assert parking.due(10, STORED, 10) == ["a2", "a3"]
    parking.ended("a2")
    assert "a" in parking.blocked
    parking.ended("a3")
    assert "a" not in parking.blocked
    assert len(parking) == 0


def test_one_that_fails_again_waits_with_its_lane_behind_it(parking):
    parking.park(place("a1", "a", 1, attempts=1, due=10), 1)
    parking.park(place("a2", "a", 2), 1)
    assert parking.due(10, STORED, 10) == ["a1"]
    parking.park(place("a1", "a", 1, attempts=2, due=20), 2)
    assert parking.due(19, STORED, 10) == []
    assert parking.due(20, STORED, 10) == ["a1"]


def test_lanes_do_not_wait_for_each_other_nor_what_has_none(parking):
    parking.park(place("a1", "a", 1, attempts=1, due=50), 1)
    parking.park(place("b1", "b", 2, attempts=1, due=10), 1)
    parking.park(place("x", None, 3, attempts=1, due=10), 1)
    assert parking.due(10, STORED, 10) == ["b1", "x"]
    assert None not in parking.blocked


def test_nothing_is_resumed_before_it_is_stored(parking):
    parking.park(place("a1", "a", 1, attempts=1), 5)
    parking.park(place("a2", "a", 2), 6)
    assert parking.due(1, 4, 10) == []
    assert parking.due(1, 5, 10) == ["a1"]
    parking.ended("a1")
    assert parking.due(1, 5, 10) == []
    assert parking.due(1, 6, 10) == ["a2"]


def test_a_limit_splits_a_lane_and_the_rest_comes_after_it(parking):
    for turn in range(5):
        parking.park(place(f"a{turn}", "a", turn), 1)
    assert parking.due(1, STORED, 2) == ["a0", "a1"]
    assert parking.due(1, STORED, 2) == []
    parking.ended("a0")
    parking.ended("a1")
    assert parking.due(1, STORED, 9) == ["a2", "a3", "a4"]


def test_what_could_not_be_read_is_due_again(parking):
    parking.park(place("a1", "a", 1), 1)
    parking.park(place("a2", "a", 2), 1)
    found = parking.due(1, STORED, 10)
    parking.put_back(found)
    assert parking.due(1, STORED, 10) == found


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [("constant", [2, 2, 2]), ("linear", [2, 4, 6]), ("exponential", [2, 4, 8])],
)
def test_delays_grow_as_the_backoff_says(backoff, delays):
    retry = Retry(backoff=backoff, initial_delay="2s", max_delay="1h", jitter=0)
    assert [delay_before(retry, n, None, Random(1)) for n in (1, 2, 3)] == delays


def test_a_delay_has_a_longest_whatever_the_number_of_attempts():
    retry = Retry(initial_delay="1s", max_delay="30s", jitter=0)
    assert delay_before(retry, 10_000, None, Random(1)) == 30


def test_jitter_spreads_delays_and_never_comes_before_what_the_server_asked_for():
    retry = Retry(initial_delay="1s", max_delay="30s", jitter=0.5)
    random = Random(1)
    delays = [delay_before(retry, 1, None, random) for _ in range(100)]
    assert 0.5 <= min(delays) < 0.7
    assert 1.3 < max(delays) <= 1.5
    assert min(delay_before(retry, 1, 60, random) for _ in range(100)) >= 60


def test_what_is_paused_holds_its_lane_until_it_is_let_go_on(parking):
    parking.park(place("a1", "a", 1), 1)
    parking.park(place("a2", "a", 2), 1)
    parking.park(place("a3", "a", 3), 1)
    parking.pause("a2", 5.0, 1)
    assert parking.due(9, STORED, 10) == ["a1"]
    parking.ended("a1")
    assert parking.due(9, STORED, 10) == []
    parking.let_go_on("a2", 1)
    assert parking.due(9, STORED, 10) == ["a2", "a3"]


def test_what_is_let_go_on_waits_for_its_turn_and_for_its_time_unless_told_otherwise(parking):
    parking.park(place("a1", "a", 1, attempts=1, due=50), 1)
    parking.park(place("a2", "a", 2), 1)
    parking.let_go_on("a2", 0, due_at=1)
    assert parking.due(9, STORED, 10) == []
    parking.let_go_on("a1", 0, due_at=1)
    assert parking.due(9, STORED, 10) == ["a1"]
    assert parking.due(50, STORED, 10) == []


def test_what_is_pulled_ends_out_of_its_turn_and_its_lane_stays_in_order(parking):
    parking.park(place("a1", "a", 1, attempts=1, due=50), 1)
    parking.park(place("a2", "a", 2), 7)
    parking.park(place("a3", "a", 3), 7)
    assert not parking.pull("a2", 6)
    assert parking.pull("a2", 7)
    parking.ended("a2")
    assert parking.due(50, STORED, 10) == ["a1"]
    parking.ended("a1")
    assert parking.due(50, STORED, 10) == ["a3"]


def test_those_behind_a_paused_one_are_held_and_others_are_not(parking):
    for turn, name in enumerate(["a1", "a2", "a3", "b1", "b2"], 1):
        parking.park(place(name, name[0], turn), 1)
    parking.park(place("x", None, 6), 1)
    parking.park(place("y", None, 7), 1)
    assert parking.held() == 0
    parking.pause("a2", 5.0, 1)
    parking.pause("y", 5.0, 1)
    assert parking.held() == 3
    parking.let_go_on("a2", 1)
    assert parking.held() == 1
