"""A step that fails for now: its execution waits, others go on, and nothing is overtaken or lost."""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.flows.runtime.calling import SOON
from tests.flows.runtime.running import wait_for
from tests.transforms.steps.answering import Answer

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KILLS = min(20, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "2")))


def test_what_fails_for_now_is_tried_again_and_its_key_waits_while_others_go_on(calling):
    mended = []
    calling.service.fails = lambda number, tries: number == 0 and not mended
    calling.write_flow(retry={**SOON, "max_attempts": 100})
    worker = calling.flow.worker()
    calling.send(range(100))
    wait_for(lambda: len(calling.numbers()) == 80, "the events of other keys")
    assert not any(number % 5 == 0 for number in calling.numbers())
    assert calling.service.tries[5] == 0
    mended.append(True)
    wait_for(lambda: len(calling.numbers()) == 100, "all events")
    assert worker.drain() == 0, worker.text()
    assert calling.in_order()
    assert calling.service.tries[0] > 1
    assert all(calling.service.tries[n] == 1 for n in range(1, 100))
    assert calling.flow.totals() == {"calling": (100, 0, 0)}


def test_the_last_attempt_that_fails_is_a_dead_letter_and_its_key_goes_on(calling):
    calling.service.fails = lambda number, tries: number == 7
    calling.send(range(30))
    calling.flow.catch_up()
    assert calling.service.tries[7] == 5
    (letter,) = calling.flow.letters()
    assert (letter.attempts, letter.step, json.loads(letter.event)["data"]["n"]) == (5, "call", 7)
    assert letter.first_failed_at < letter.last_failed_at
    tries = json.loads(letter.tries)
    assert [each["step"] for each in tries] == ["call"] * 5
    assert [each["at"] for each in tries] == sorted({each["at"] for each in tries})
    assert ["after" in each for each in tries] == [True] * 4 + [False]
    assert sorted(calling.numbers()) == [n for n in range(30) if n != 7]
    assert calling.in_order()
    assert calling.flow.totals() == {"calling": (29, 1, 0)}


def test_a_permanent_error_is_tried_once(calling):
    calling.service.fails = lambda number, tries: number == 3 and Answer(status=404)
    calling.send(range(10))
    calling.flow.catch_up()
    assert calling.service.tries[3] == 1
    assert calling.flow.totals() == {"calling": (9, 1, 0)}


def test_what_waits_survives_a_kill_and_goes_on_where_it_was(calling):
    calling.write_flow(retry={**SOON, "initial_delay": "3s", "max_delay": "3s", "jitter": 0})
    calling.service.fails = lambda number, tries: number % 10 == 0 and tries == 1
    worker = calling.flow.worker()
    calling.send(range(50), keys=50)
    # Settled, not only published: what is in flight at a kill is called again.
    wait_for(lambda: calling.flow.totals() == {"calling": (45, 0, 0)}, "those that don't fail")
    worker.kill()
    again = calling.flow.worker()
    wait_for(lambda: len(calling.numbers()) == 50, "those that waited")
    assert again.drain() == 0, again.text()
    assert all(calling.service.tries[n] == (2 if n % 10 == 0 else 1) for n in range(50))
    assert calling.flow.totals() == {"calling": (50, 0, 0)}


def test_order_none_lets_later_events_pass(calling):
    calling.write_flow(order="none")
    calling.service.fails = lambda number, tries: number == 0 and tries < 3
    calling.send(range(20), keys=1)
    calling.flow.catch_up()
    assert sorted(calling.numbers()) == list(range(20))
    assert calling.numbers()[-1] == 0


def test_order_partition_holds_the_whole_partition(calling):
    calling.write_flow(order="partition")
    calling.service.fails = lambda number, tries: number == 0 and tries < 3
    calling.send(range(20))
    calling.flow.catch_up()
    assert calling.numbers() == list(range(20))


def test_when_too_many_wait_the_source_is_read_no_further(calling):
    mended = []
    calling.write_flow(retry={**SOON, "max_attempts": 1000, "max_parked": 10})
    calling.service.fails = lambda number, tries: not mended
    run = calling.flow.start()
    calling.send(range(20), keys=1000)
    wait_for(lambda: len(calling.service.tries) >= 10, "the first to fail")
    run.wait_for_lines("max_parked")
    calling.send(range(20, 60), keys=1000)
    tried = len(calling.service.tries)
    wait_for(lambda: calling.service.tries.total() > 4 * tried, "more attempts")
    assert not any(number in calling.service.tries for number in range(20, 60))
    mended.append(True)
    wait_for(lambda: len(calling.numbers()) == 60, "all events")
    assert run.stop() == 0, run.text()


@pytest.mark.chaos
def test_kills_among_failures_lose_nothing_and_overtake_nothing(calling):
    """Each event ends once, as done or dead; a call may be made again, for what was in flight."""
    chance = random.Random(7)
    calling.service.fails = lambda number, tries: chance.random() < 0.2
    calling.write_flow(retry={**SOON, "max_attempts": 50, "initial_delay": "50ms"})
    sent = 0
    for _ in range(KILLS):
        worker = calling.flow.worker()
        worker.wait_until("running")
        calling.send(range(sent, sent + 120), keys=20)
        sent += 120
        before = len(calling.service.done)
        wait_for(lambda before=before: len(calling.service.done) > before + 50, "some calls")
        worker.kill()
    calling.flow.catch_up()
    assert sorted(calling.numbers()) == list(range(sent))
    assert calling.in_order()
    assert calling.flow.totals() == {"calling": (sent, 0, 0)}


def test_the_flow_says_which_errors_are_tried_again_and_which_are_not(calling):
    answers = {1: Answer(status=409), 2: Answer(status=503), 3: Answer(status=404)}
    calling.service.fails = lambda number, tries: answers.get(number) if tries < 3 else None
    retry_on = [{"when": ".status == 409 and .attempts < 5"}]
    calling.write_flow(retry={**SOON, "retry_on": retry_on, "permanent_on": [503]})
    calling.send(range(5))
    calling.flow.catch_up()
    assert sorted(calling.numbers()) == [0, 1, 4]
    tries = {number: calling.service.tries[number] for number in range(5)}
    assert tries == {0: 1, 1: 3, 2: 1, 3: 1, 4: 1}
    letters = {letter.error_kind for letter in calling.flow.letters()}
    assert letters == {"permanent"}
