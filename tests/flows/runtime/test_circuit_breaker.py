"""A server that keeps failing: its circuit opens, its events wait, and none becomes a dead letter."""

from __future__ import annotations

import pytest

from tests.flows.runtime.calling import SOON
from tests.flows.runtime.running import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

BREAKER = {"failure_threshold": 3, "success_threshold": 2, "timeout": "500ms"}


def write_flow(calling, retry=SOON, **breaker):
    calling.write_flow(retry=retry, call={"circuit_breaker": {**BREAKER, **breaker}})


def test_events_wait_until_the_server_is_back_and_none_is_lost_or_overtaken(calling):
    """Waiting costs no attempt: with two of them, no event has failed for good."""
    down = [True]
    calling.service.fails = lambda number, tries: bool(down)
    write_flow(calling, retry={**SOON, "max_attempts": 2, "initial_delay": "1s"}, timeout="4s")
    run = calling.flow.start()
    calling.send(range(200), keys=20)
    run.wait_for_lines("circuit opened")
    down.clear()
    calling.send(range(200, 400), keys=20)
    wait_for(lambda: calling.flow.parked() >= 20, "events to wait")
    wait_for(lambda: len(calling.numbers()) == 400, "all events")
    run.wait_for_lines("circuit closed")
    assert run.stop() == 0, run.text()
    assert calling.in_order()
    assert calling.flow.totals() == {"calling": (400, 0, 0)}
    assert sum(calling.service.tries.values()) <= 400 + 3 + 16, "an open circuit makes no calls"


def test_what_waits_survives_a_kill_and_then_goes_on(calling):
    down = [True]
    calling.service.fails = lambda number, tries: bool(down)
    write_flow(calling, retry={**SOON, "max_attempts": 100})
    run = calling.flow.start()
    calling.send(range(50))
    run.wait_for_lines("circuit opened")
    wait_for(lambda: calling.flow.parked() >= 5, "events to wait")
    run.workers()[0].kill()
    run.wait_for_lines("worker started", times=2)
    down.clear()
    wait_for(lambda: len(calling.numbers()) == 50, "all events", seconds=60)
    assert run.stop() == 0, run.text()
    assert calling.in_order()
    assert calling.flow.totals() == {"calling": (50, 0, 0)}
    assert calling.flow.parked() == 0


def test_when_too_many_wait_the_source_is_not_read_any_further(calling):
    down = [True]
    calling.service.fails = lambda number, tries: bool(down)
    write_flow(calling, retry={**SOON, "max_attempts": 100, "max_parked": 10}, timeout="1s")
    run = calling.flow.start()
    calling.send(range(30), keys=30)
    run.wait_for_lines("circuit opened")
    wait_for(lambda: "max_parked" in run.text(), "the source to be held back", seconds=60)
    calling.send(range(30, 600), keys=30)
    down.clear()
    wait_for(lambda: len(calling.numbers()) == 600, "all events", seconds=60)
    assert run.stop() == 0, run.text()
    assert calling.in_order()


def test_a_fallback_answers_and_nothing_waits(calling):
    calling.service.fails = lambda number, tries: True
    write_flow(
        calling,
        retry={**SOON, "max_attempts": 1},
        timeout="60s",
        fallback={"type": "static", "response": {"body": {"instead": True}}},
    )
    calling.send(range(200), keys=200)
    calling.flow.catch_up()
    assert calling.flow.parked() == 0
    letters = calling.flow.letters()
    assert 3 <= len(letters) <= 3 + 16, "those that opened it, and what was under way beside them"
    wait_for(lambda: len(calling.numbers()) == 200 - len(letters), "the others")
