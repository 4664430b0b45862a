"""Starts by hand in the state store: there whole or not at all, and once for a key, on both databases."""

from __future__ import annotations

import threading

from sqlalchemy import insert, update

from flows.state.tables import trigger_keys
from flows.state.triggers import Start
from tests.flows.state.samples import letter


def wish(number=1, key=None, ttl=60.0, **changes):
    made = letter(number, error_code="trigger_requested", partition="", position="", **changes)
    return Start(made, "ann", "{}", lambda replay: f"execution-{replay}", key=key, ttl=ttl)


def test_a_start_is_an_entry_of_a_replay_that_runs(store):
    started = store.triggers.start(wish())
    replay = store.replays.get(started.replay)
    assert (replay.status, replay.total, replay.created_by) == ("running", 1, "ann")
    (taken,) = store.replays.take("shop", "orders", "w1", lambda _: True, 10)
    assert (taken.replay, taken.letter.event_id) == (started.replay, "event-1")
    assert (started.execution, started.again) == (f"execution-{started.replay}", False)


def test_the_same_key_is_answered_with_the_first_and_stores_nothing(store):
    first = store.triggers.start(wish(1, key="k"))
    again = store.triggers.start(wish(2, key="k"))
    assert again == first._replace(again=True)
    assert len(store.replays.newest("shop", 10)) == 1
    assert store.dead_letter("shop", letter(2).id) == []


def test_a_key_is_one_pipelines_and_one_flows(store):
    starts = [wish(1, key="k"), wish(2, key="k", pipeline="bill"), wish(3, key="k", flow="bank")]
    assert [store.triggers.start(each).again for each in starts] == [False, False, False]


def test_a_key_whose_time_is_over_starts_anew(store):
    first = store.triggers.start(wish(1, key="k", ttl=-1.0))
    second = store.triggers.start(wish(2, key="k"))
    assert (second.again, second.replay == first.replay) == (False, False)
    assert store.triggers.start(wish(3, key="k")).replay == second.replay


def test_of_many_that_come_at_once_with_a_key_one_is_started(opening):
    stores = [opening() for _ in range(6)]
    begin = threading.Barrier(6)
    found = []

    def start(number, store):
        begin.wait()
        found.append(store.triggers.start(wish(number, key="k")))

    threads = [
        threading.Thread(target=start, args=(number, store))
        for number, store in enumerate(stores, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert sorted(each.again for each in found) == [False, True, True, True, True, True]
    assert len({(each.replay, each.execution) for each in found}) == 1
    assert len(stores[0].replays.newest("shop", 10)) == 1


def test_what_a_key_stands_for_is_kept_as_long_as_the_key_is(store):
    first = store.triggers.start(wish(1, key="k"))
    store.replays.give_back(first.replay, [letter(1).id], "pipeline_gone", "gone")

    def prune():
        store.prune(
            "shop",
            dead_letters_before={"enrich": 9e9},
            history_before=None,
            history_max_bytes=None,
        )
        return store.replays.get(first.replay)

    assert prune() is not None
    assert store.triggers.start(wish(2, key="k")) == first._replace(again=True)
    store._database.run(
        lambda connection: connection.execute(update(trigger_keys).values(expires_at=1.0)) and None
    )
    assert prune() is None


def test_many_keys_that_are_over_are_forgotten(store):
    rows = [
        {
            "flow": "shop",
            "pipeline": "enrich",
            "key": f"k{number}",
            "replay": number,
            "execution": "",
            "created_at": 1.0,
            "expires_at": 2.0 if number else 9e9,
        }
        for number in range(450)
    ]
    store._database.run(lambda connection: connection.execute(insert(trigger_keys), rows) and None)
    deleted = store.prune(
        "shop", dead_letters_before={}, history_before=None, history_max_bytes=None
    )
    assert deleted == 449
