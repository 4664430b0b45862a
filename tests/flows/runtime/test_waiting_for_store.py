"""Waiting for a store that is away: how long, what is said meanwhile, and what a drain changes."""

from __future__ import annotations

import pytest

from connectors.errors import FatalError, PermanentError, RetryableError
from flows.runtime.halt import Halt
from flows.runtime.waiting_for_store import until_it_answers

AWAY = RetryableError("it is away.", code="state_unavailable")


class Store:
    """Answers from the nth call on; `then` is done at each call before that."""

    def __init__(self, calls_away, then=lambda: None):
        self.calls = 0
        self.calls_away, self.then = calls_away, then

    def __call__(self):
        self.calls += 1
        if self.calls <= self.calls_away:
            self.then()
            raise AWAY
        return "answer"


def stopped(error):
    return FatalError(f"stopped waiting: {error.message}", code="stopped")


def ask(store, halt, patience=0.0):
    said = []
    found = until_it_answers(store, halt, waits=said.append, stopped=stopped, patience=patience)
    return found, said


def test_it_waits_for_the_answer_and_says_so_meanwhile():
    store, halt = Store(2), Halt()
    assert ask(store, halt) == ("answer", ["it is away.", "it is away.", ""])
    assert store.calls == 3
    assert not halt.asked()


def test_a_drain_gives_up_at_once_where_there_is_no_patience():
    halt = Halt()
    store = Store(5, then=halt.ask)
    assert ask(store, halt) == (None, ["it is away."])
    assert store.calls == 1
    assert halt.error.code == "stopped"


def test_a_drain_waits_on_where_there_is_patience():
    halt = Halt()
    store = Store(3, then=halt.ask)
    found, said = ask(store, halt, patience=60.0)
    assert (found, said[-1]) == ("answer", "")
    assert store.calls == 4
    assert halt.error is None


def test_patience_ends():
    halt = Halt()
    halt.ask()
    store = Store(10_000)
    assert ask(store, halt, patience=0.2)[0] is None
    assert 1 < store.calls < 10_000
    assert halt.error.code == "stopped"


@pytest.mark.parametrize("error", [FatalError("no.", code="x"), PermanentError("no.", code="x")])
def test_any_other_error_stops_the_worker_as_it_is(error):
    def call():
        raise error

    halt = Halt()
    assert ask(call, halt) == (None, [])
    assert halt.error is error


def test_a_worker_that_has_to_stop_asks_nothing():
    halt = Halt()
    halt.fail(FatalError("it stops.", code="x"))
    store = Store(0)
    assert ask(store, halt) == (None, [])
    assert store.calls == 0
