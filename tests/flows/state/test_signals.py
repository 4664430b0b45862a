"""Signals in the state store: what was asked, of whom, and what came of it, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.state.records import SignalOutcome
from flows.state.sagas import Saga
from tests.flows.state.samples import commit, parked, settlement

ENDED = "019a0000-0000-7000-8000-999999999999"


@pytest.fixture
def waits(store, lease):
    found = [parked(1, started_at=500.0), parked(2)]
    settled = settlement(0)
    settled.parked.extend(found)
    settled.sagas.append(
        Saga(
            id=found[0].place.id,
            pipeline="enrich",
            source="orders",
            partition="orders/0",
            lane="k",
            event_id="event-1",
            event_type="order.created",
            started_at=500.0,
            deadline=2000.0,
            updated_at=500.0,
        )
    )
    commit(store, lease, [settled])
    return found


def tell(store, lease, number, execution, **outcome):
    settled = settlement(0)
    given = {"status": "applied", "note": "", "at": 1000.0, **outcome}
    settled.signals.append(SignalOutcome(number, "enrich", execution.place.id, **given))
    commit(store, lease, [settled])


def test_a_signal_waits_for_the_workers_of_its_source_until_its_outcome_is_stored(
    store, lease, waits
):
    one, other = store.signals.ask("shop", waits, "pause", by="ann", reason="a\x00b")
    assert [each.number for each in store.signals.open("shop", "orders")] == [one, other]
    assert [each.number for each in store.signals.open("shop", "orders", one)] == [other]
    assert store.signals.open("shop", "other") == []
    assert store.signals.open("else", "orders") == []
    tell(store, lease, one, waits[0], change="paused")
    assert [each.number for each in store.signals.open("shop", "orders")] == [other]
    (found,) = store.signals.of("shop", waits[0].place.id)
    assert (found.status, found.requested_by, found.ended_at) == ("applied", "ann", 1000.0)
    assert found.reason == "a\u2400b"


def test_a_pause_is_kept_with_what_waits_and_its_time_does_not_count(store, lease, waits):
    (number,) = store.signals.ask("shop", waits[:1], "pause", by="ann")
    tell(store, lease, number, waits[0], change="paused", at=1000.0)
    assert [each.paused_at for each in store.parked_places("shop", "orders")] == [1000.0, None]
    (number,) = store.signals.ask("shop", waits[:1], "resume", by="ann")
    tell(store, lease, number, waits[0], change="resumed", at=1100.0)
    (found,) = store.parked("shop", "enrich", [waits[0].place.id])
    assert (found.place.paused_at, found.started_at) == (None, 600.0)
    assert found == replace(waits[0], started_at=600.0)
    (saga,) = store.sagas.load("shop", "enrich", [waits[0].place.id])
    assert saga.deadline == 2100.0


def test_one_to_what_runs_goes_to_every_source_and_is_given_up_in_time(store):
    number = store.signals.ask_running("shop", ENDED, "cancel", by="ann")
    (found,) = store.signals.open("shop", "orders")
    assert (found.number, found.source, found.partition) == (number, None, None)
    store.signals.give_up("shop", found.expires_at - 1)
    assert store.signals.open("shop", "any") == [found]
    store.signals.give_up("shop", found.expires_at + 1)
    assert store.signals.open("shop", "any") == []
    assert store.signals.get([number])[0].status == "refused"


def test_signals_are_forgotten_with_the_history_and_those_that_wait_never(store, lease, waits):
    one, other = store.signals.ask("shop", waits, "cancel", by="ann")
    tell(store, lease, one, waits[0], at=1000.0)

    def prune(before):
        store.prune("shop", dead_letters_before={}, history_before=before, history_max_bytes=None)
        return [each.number for each in store.signals.get([one, other])]

    assert prune(999.0) == [one, other]
    assert prune(9e9) == [other]
