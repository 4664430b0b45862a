"""Sagas in the state store: written by the lease's holder, found again, changed by operators."""

from __future__ import annotations

import time

import pytest

from connectors.errors import FatalError
from flows.state.records import Counts, Settlement
from flows.state.sagas import Saga, StepProgress, Undoing


def saga(number=1, **values):
    return Saga(
        **{
            "id": f"0199-{number}",
            "pipeline": "book",
            "source": "orders",
            "partition": "0",
            "lane": "k1",
            "event_id": f"e{number}",
            "event_type": "order",
            "started_at": 5.0,
            "deadline": 9.0,
            "updated_at": float(number),
            "steps": {"a": StepProgress("done", output={"n": 10**30}, undoing=Undoing("done", 2))},
            **values,
        }
    )


def load(store, *numbers):
    return store.sagas.load("shop", "book", [f"0199-{number}" for number in numbers])


def settle(store, lease, **what):
    store.commit(lease, "orders", [Settlement("book", Counts(done=1), **what)], {}, {})


def test_progress_is_read_back_as_it_was_written(store, lease):
    written = [saga(1), saga(2, deadline=None, lane=None, error={"code": "x"})]
    store.sagas.save(lease, written)
    assert sorted(load(store, 1, 2, 3), key=lambda each: each.id) == written
    assert store.sagas.unfinished("shop", "orders") == {"book": {"0199-1", "0199-2"}}


def test_a_holder_that_was_taken_over_from_writes_no_progress(store, lease):
    store.release_lease(lease)
    newer = store.acquire_lease("shop", "orders/0", "another", 60.0)
    with pytest.raises(FatalError) as caught:
        store.sagas.save(lease, [saga()])
    assert caught.value.code == "lease_lost"
    assert load(store, 1) == []
    store.sagas.save(newer, [saga()])
    assert len(load(store, 1)) == 1


def test_a_saga_that_completes_is_forgotten_in_the_transaction_that_settles_it(store, lease):
    store.sagas.save(lease, [saga(1), saga(2)])
    settle(store, lease, sagas_completed=["0199-1"])
    assert [each.id for each in load(store, 1, 2)] == ["0199-2"]


def test_a_failed_one_keeps_its_execution_and_progress_does_not_take_it_away(store, lease):
    store.sagas.save(lease, [saga()])
    settle(store, lease, sagas=[saga(status="compensation_failed", body=b"all of it")])
    ((flow, found),) = store.sagas.find("shop", "0199")
    assert (flow, found.status, found.body) == ("shop", "compensation_failed", b"all of it")
    assert store.sagas.unfinished("shop", "orders") == {}
    asked = saga(status="retrying")
    assert store.sagas.change("shop", asked, expected=["compensation_failed"])
    assert not store.sagas.change("shop", asked, expected=["compensation_failed"])
    store.sagas.save(lease, [asked])
    (requested,) = store.sagas.requested("shop", "orders", 10)
    assert requested.body == b"all of it"


def test_a_list_is_newest_first_and_filtered(store, lease):
    store.sagas.save(lease, [saga(1), saga(2, status="compensated"), saga(3)])
    listed = store.sagas.page("shop", pipeline="book", statuses=(), limit=2)
    assert [each.id for _, each in listed] == ["0199-3", "0199-2"]
    done = store.sagas.page(None, pipeline=None, statuses=["compensated"], limit=9)
    assert [(flow, each.id) for flow, each in done] == [("shop", "0199-2")]
    assert store.sagas.page("other", pipeline=None, statuses=(), limit=9) == []


def test_old_ones_are_forgotten_but_for_those_that_somebody_has_to_see_to(store, lease):
    statuses = (
        "running",
        "compensating",
        "compensation_failed",
        "retrying",
        "compensated",
        "resolved",
    )
    store.sagas.save(lease, [saga(n, status=status) for n, status in enumerate(statuses)])
    kept = saga(9, status="compensated", updated_at=time.time())
    store.sagas.save(lease, [kept])
    store.prune(
        "shop",
        dead_letters_before={"book": time.time() - 60},
        history_before=None,
        history_max_bytes=None,
    )
    listed = store.sagas.page("shop", pipeline=None, statuses=(), limit=99)
    assert {each.status for _, each in listed} == set(statuses) - {"resolved"}
    assert load(store, 4, 5) == []
    assert load(store, 9) == [kept]
