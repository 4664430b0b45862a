"""Handing copies of dead letters over: what waits, what is told, and what one copy does to the others.

The sinks are fakes at the seam that connectors.contracts names; test_dead_letter_sink.py has real ones.
"""

from __future__ import annotations

import json

import pytest
import structlog

from connectors.contracts import SinkOpening, SinkTraits
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.testing.waiting import wait_until
from flows.runtime import copying
from flows.runtime.copying import LetterCopying
from flows.runtime.halt import Halt
from flows.state.copies import letter_copy
from flows.state.copy_store import CopyCounts
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement

AWAY = RetryableError("it is away.", code="away")
REFUSED = PermanentError("it is too large.", code="message_too_large")
STOPPED = FatalError("it can't go on.", code="stopped")


class Sink:
    """Keeps what it is given; `answers` says what becomes of a letter: an error, or one to raise."""

    traits = SinkTraits(ordered=True, delivery="at_least_once")

    def __init__(self):
        self.answers = {}
        self.closed_door = None
        self.opened = 0
        self.got = []

    def open(self, opening):
        if self.closed_door is not None:
            raise self.closed_door
        self.opened += 1

    def deliver(self, events):
        failures = {}
        numbers = [int(json.loads(value)["id"][-12:]) for value in events.values]
        for place, number in enumerate(numbers):
            answer = self.answers.get(number)
            if isinstance(answer, ValueError):
                raise answer
            if answer is not None:
                failures[place] = answer
        self.got += [number for place, number in enumerate(numbers) if place not in failures]
        return failures

    def settled_state(self):
        return None

    def close(self):
        pass


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def store(url):
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def settle(store):
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)

    def settle(*numbers):
        made = settlement(letters=[letter(number) for number in numbers])
        made.copies = [
            letter_copy(letter(number), None, acting="step.jq", error=REFUSED) for number in numbers
        ]
        commit(store, lease, [made])

    return settle


@pytest.fixture
def start(sink, url, monkeypatch):
    monkeypatch.setattr(copying, "IDLE", 0.02)
    monkeypatch.setattr(copying, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(copying, "LONGEST_DELAY", 0.05)
    started = []

    def start(holder="me"):
        made = LetterCopying(
            "shop",
            ["enrich"],
            "dead",
            writer="orders/dead-letters/dead",
            holder=holder,
            make=lambda: sink,
            opening=lambda state: SinkOpening(state=state),
            open_store=lambda: open_store(url),
            halt=Halt(),
        )
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()


def counts(store):
    return store.copies.counts("shop").get("enrich", CopyCounts())


def test_what_waits_at_the_end_is_handed_over_before_it_ends(sink, settle, start, store):
    made = start()
    settle(1, 2, 3)
    made.close()
    assert sink.got == [1, 2, 3]
    assert counts(store) == CopyCounts()
    assert store.acquire_lease("shop", "orders/dead-letters/dead", "other", 60.0) is not None


def test_a_sink_that_breaks_when_it_is_opened_stops_the_copies_alone_and_is_logged(
    sink, settle, start, store
):
    sink.closed_door = ValueError("not a number")
    with structlog.testing.capture_logs() as logs:
        made = start()
        settle(1)
        wait_until(lambda: "a defect has stopped it" in made.status, "its end")
    (told,) = [each for each in logs if each["log_level"] == "error"]
    assert told["event"] == "copies of dead letters have stopped"
    assert told["sink"] == "dead"
    assert counts(store).waiting == 1


def test_a_sink_that_can_not_be_opened_is_told_of_and_tried_again(sink, settle, start, store):
    sink.closed_door = FatalError("nobody answers.", code="x", unreachable=True)
    with structlog.testing.capture_logs() as logs:
        made = start()
        settle(1)
        wait_until(lambda: made.status, "the sink to be missed")
        assert made.status == "copies of dead letters wait for dead: nobody answers."
        assert counts(store) == CopyCounts(waiting=1)
        sink.closed_door = None
        wait_until(lambda: sink.got == [1], "the copy")
        wait_until(lambda: not made.status, "the sink to be back")
    assert [line.get("code") for line in logs] == ["dead_letter_sink_away", None]


@pytest.mark.parametrize("error", [AWAY, STOPPED])
def test_what_can_not_be_delivered_now_waits_and_the_others_pass(sink, settle, start, store, error):
    sink.answers = {2: error}
    settle(1, 2, 3)
    made = start()
    wait_until(lambda: sink.got == [1, 3], "the others")
    wait_until(lambda: error.message in made.status, "the sink to be missed")
    sink.answers = {}
    wait_until(lambda: sink.got == [1, 3, 2], "the one that had to wait")
    assert (sink.opened > 1) == (error is STOPPED)


@pytest.mark.parametrize("answer", [REFUSED, ValueError("odd")])
def test_what_is_refused_for_good_or_breaks_the_sink_blocks_no_other(
    sink, settle, start, store, answer
):
    sink.answers = {2: answer}
    settle(1, 2, 3)
    made = start()
    wait_until(lambda: sink.got == [1, 3], "the others")
    wait_until(lambda: counts(store) == CopyCounts(refused=1), "the refusal to be stored")
    assert made.status == ""
    code = "message_too_large" if answer is REFUSED else "dead_letter_sink_broke"
    assert store.copies.of_letter("shop", letter(2).id).error_code == code
    made.close()
    sink.answers = {}
    start()
    wait_until(lambda: sink.got == [1, 3, 2], "it to be tried again at the next start")


def test_a_copy_that_can_not_be_read_any_more_blocks_no_other(sink, settle, start, store):
    settle(1, 2)
    spoilt = "UPDATE penstock_letter_copies SET body = x'7b7d' WHERE number = 1"
    store._database.run(lambda connection: connection.exec_driver_sql(spoilt))
    start()
    wait_until(lambda: sink.got == [2], "the other")
    wait_until(lambda: counts(store) == CopyCounts(refused=1), "the refusal to be stored")


def test_of_two_workers_one_hands_over_and_the_other_when_that_has_ended(
    sink, settle, start, store
):
    settle(1)
    first = start("one")
    wait_until(lambda: sink.got == [1], "the first copy")
    second = start("two")
    settle(2)
    wait_until(lambda: sink.got == [1, 2], "the second copy")
    assert sink.opened == 1
    first.close()
    settle(3)
    # At once as a rule; where the first could not give its lease back, once that is over.
    wait_until(lambda: sink.got == [1, 2, 3], "the third copy", seconds=60)
    assert sink.opened == 2
    assert second.status == ""


def test_a_sink_is_let_go_of_when_nothing_comes(sink, settle, start, store, monkeypatch):
    monkeypatch.setattr(copying, "LINGER", 0.05)
    start()
    settle(1)
    wait_until(lambda: sink.got == [1], "the copy")
    name = "orders/dead-letters/dead"
    wait_until(lambda: store.acquire_lease("shop", name, "other", 60.0), "the lease to be free")
