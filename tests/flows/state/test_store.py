"""The state store, each promise on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from connectors.contracts import Lag
from connectors.errors import FatalError, FlowFileError
from flows.state.records import Settlement
from flows.state.rows import cursor
from tests.flows.state.samples import chunk, chunks, commit, letter, parked, settlement


def _letters(store, flow="shop", pipeline=None, limit=100, after=None):
    return store.dead_letters(flow, pipeline=pipeline, limit=limit, after=after)


def test_a_commit_is_there_for_whoever_opens_the_store_next(store, opening, lease):
    settled = Settlement(
        "enrich",
        settlement(2, failed=1, skipped=3).counts,
        [letter(1)],
        chunk(b"\x00\xff"),
        {"files": {"path": "out/ä.jsonl", "length": "42"}},
    )
    commit(
        store,
        lease,
        [settled],
        {"orders/0": "005", "orders/1": "007"},
        {"orders/0": Lag(1, 2, 0.5)},
    )
    after = opening()
    assert after.checkpoints("shop", "orders") == {"orders/0": "005", "orders/1": "007"}
    assert after.checkpoints("shop", "others") == {}
    assert after.sink_states("shop", "orders/0") == {
        "files": {"path": "out/ä.jsonl", "length": "42"}
    }
    assert after.sink_states("shop", "orders/1") == {}
    assert _letters(after) == [letter(1)]
    (total,) = after.totals("shop")
    assert (total.pipeline, total.done, total.failed, total.skipped) == ("enrich", 2, 1, 3)
    assert total.dead_letters == 1
    assert after.flows() == ["shop"]
    assert [size for _, size in chunks(after)] == [2]
    first, second = after.partitions("shop")
    assert (first.source, first.partition, first.position) == ("orders", "orders/0", "005")
    assert (first.lag_events, first.lag_bytes, first.lag_seconds) == (1, 2, 0.5)
    assert (second.lag_events, second.lag_bytes, second.lag_seconds) == (None, None, None)


def test_a_checkpoint_moves_and_counts_add_up(store, lease):
    for number in range(1, 6):
        commit(store, lease, [settlement(number)], {"orders/0": f"{number:03}"})
    assert store.checkpoints("shop", "orders") == {"orders/0": "005"}
    assert store.totals("shop")[0].done == 15


def test_a_checkpoint_without_settlements_moves_too(store, lease):
    commit(store, lease, [], {"orders/0": "009"})
    assert store.checkpoints("shop", "orders") == {"orders/0": "009"}


def test_workers_of_one_pipeline_add_to_the_same_totals(store, lease):
    other = store.acquire_lease("shop", "orders/1", "me", 60.0)
    commit(store, lease, [settlement(2)])
    commit(store, other, [settlement(3)])
    assert [total.done for total in store.totals("shop")] == [5]


def test_several_settlements_of_a_pipeline_in_one_commit_all_count(store, lease):
    commit(store, lease, [settlement(1), settlement(2), settlement(4, pipeline="audit")])
    assert {total.pipeline: total.done for total in store.totals("shop")} == {
        "audit": 4,
        "enrich": 3,
    }


def test_a_failure_settled_again_is_one_entry_with_the_newest_error_and_all_attempts(store, lease):
    commit(store, lease, [settlement(letters=[letter(1)])])
    again = letter(
        1, error_code="timeout", error_message="no answer.", last_failed_at=2000.0, attempts=2
    )
    commit(store, lease, [settlement(letters=[again])])
    (found,) = _letters(store)
    assert (found.error_code, found.error_message) == ("timeout", "no answer.")
    assert (found.first_failed_at, found.last_failed_at, found.attempts) == (1001.0, 2000.0, 3)


def test_the_same_failure_twice_in_one_commit_is_one_entry(store, lease):
    commit(store, lease, [settlement(letters=[letter(1)]), settlement(letters=[letter(1)])])
    assert len(_letters(store)) == 1


def test_text_that_a_database_cannot_hold_does_not_stop_the_flow(store, lease):
    odd = letter(1, event_id="a\x00b", error_message="lone \ud800 surrogate, ä", wire=b"\x00\xff")
    commit(store, lease, [settlement(letters=[odd])])
    (found,) = _letters(store)
    assert found.event_id == "a␀b"
    assert found.error_message == "lone \ufffd surrogate, ä"
    assert found.wire == b"\x00\xff"


def test_what_is_parked_is_there_whole_and_in_the_order_of_its_turns(store, lease):
    settled = settlement()
    settled.parked += [parked(2, lane=None, step=None), parked(1)]
    commit(store, lease, [settled])
    assert store.parked_places("shop", "orders") == [parked(1).place, parked(2, lane=None).place]
    assert store.parked_places("shop", "others") == store.parked_places("others", "orders") == []
    ids = [parked(n).place.id for n in (1, 2, 3)]
    found = {each.place.turn: each for each in store.parked("shop", "enrich", ids)}
    assert found == {1: parked(1), 2: parked(2, lane=None, step=None)}
    assert store.last_turn("shop") == 2
    assert store.last_turn("others") == 0
    assert store.totals("shop")[0].parked == 2


def test_what_is_parked_again_keeps_the_time_it_was_first_parked(store, lease):
    for attempt in (1, 2):
        settled = settlement(done=0)
        settled.parked.append(parked(1, attempts=attempt, due_at=attempt, parked_at=attempt))
        commit(store, lease, [settled])
    (again,) = store.parked_next("shop", 10)
    assert (again.place.attempts, again.place.due_at, again.parked_at) == (2, 2.0, 1.0)


def test_what_has_ended_waits_no_more(store, lease):
    settled = settlement()
    settled.parked += [parked(1), parked(2, due_at=5.0)]
    commit(store, lease, [settled])
    ended = settlement()
    ended.resumed.append(parked(1).place.id)
    commit(store, lease, [ended])
    assert store.parked_next("shop", 10) == [parked(2, due_at=5.0)]


def test_dead_letters_come_newest_first_a_page_at_a_time(store, lease):
    same = [letter(number, last_failed_at=5000.0) for number in (1, 2, 3)]
    rest = [letter(number) for number in (4, 5, 6, 7)]
    commit(store, lease, [settlement(letters=same + rest)])
    everything = _letters(store)
    assert [found.event_id for found in everything] == [
        f"event-{number}" for number in (3, 2, 1, 7, 6, 5, 4)
    ]
    paged, after = [], None
    while page := _letters(store, limit=2, after=after):
        paged += page
        after = cursor(page[-1])
    assert paged == everything


def test_dead_letters_are_found_by_flow_and_pipeline(store, lease):
    other = store.acquire_lease("bank", "orders/0", "me", 60.0)
    commit(store, lease, [settlement(letters=[letter(1), letter(2, pipeline="audit")])])
    commit(store, other, [settlement(letters=[letter(3, flow="bank")])])
    assert [found.event_id for found in _letters(store, None)] == ["event-3", "event-2", "event-1"]
    assert [found.event_id for found in _letters(store, "bank")] == ["event-3"]
    assert [found.event_id for found in _letters(store, "shop", "audit")] == ["event-2"]


def test_a_dead_letter_is_found_by_the_start_of_its_id(store, lease):
    commit(store, lease, [settlement(letters=[letter(10), letter(11), letter(20)])])
    prefix = "019A0000-0000-7000-8000-00000000001"
    assert {found.event_id for found in store.dead_letter("shop", prefix)} == {
        "event-10",
        "event-11",
    }
    assert [found.event_id for found in store.dead_letter(None, letter(20).id)] == ["event-20"]
    assert store.dead_letter("bank", prefix) == []
    assert store.dead_letter(None, "%") == []


def test_a_cursor_that_is_none_is_refused_with_what_to_do(store):
    with pytest.raises(FlowFileError, match="not a cursor") as caught:
        _letters(store, after="yesterday")
    assert caught.value.code == "cursor_unknown"


def test_a_second_worker_waits_until_the_lease_is_given_back(store, opening, lease):
    standby = opening()
    assert standby.acquire_lease("shop", "orders/0", "standby", 60.0) is None
    assert standby.acquire_lease("shop", "orders/1", "standby", 60.0) is not None
    store.release_lease(lease)
    taken = standby.acquire_lease("shop", "orders/0", "standby", 60.0)
    assert taken.fence > lease.fence


def test_an_expired_lease_is_taken_over_and_its_old_holder_can_store_nothing(store, opening):
    old = store.acquire_lease("shop", "orders/0", "old", 0.0)
    commit(store, old, [settlement(1)], {"orders/0": "001"})
    standby = opening()
    new = standby.acquire_lease("shop", "orders/0", "standby", 60.0)
    assert new.fence > old.fence
    assert new.taken_from == "old"
    with pytest.raises(FatalError, match="taken over orders/0 of flow shop") as caught:
        commit(store, old, [settlement(1, letters=[letter(1)])], {"orders/0": "002"})
    assert caught.value.code == "lease_lost"
    assert not store.renew_lease(old, 60.0)
    store.release_lease(old)
    commit(standby, new, [settlement(1)], {"orders/0": "003"})
    assert standby.checkpoints("shop", "orders") == {"orders/0": "003"}
    assert standby.totals("shop")[0].done == 2
    assert _letters(standby) == []
    assert standby.renew_lease(new, 60.0)


def test_whom_a_lease_was_taken_from_is_known_over_restarts_until_it_is_forgotten(store, opening):
    store.acquire_lease("shop", "orders/0", "old", 0.0)
    standby = opening()
    assert standby.acquire_lease("shop", "orders/0", "new", 60.0).taken_from == "old"
    again = opening().acquire_lease("shop", "orders/0", "new", 60.0)
    assert again.taken_from == "old"
    standby.release_lease(again)
    after = standby.acquire_lease("shop", "orders/0", "newer", 0.0)
    assert after.taken_from == "old"
    last = standby.acquire_lease("shop", "orders/0", "newest", 60.0)
    assert last.taken_from == "newer"
    standby.forget_former_holder(last)
    assert standby.acquire_lease("shop", "orders/0", "newest", 60.0).taken_from == ""


def test_a_renewed_lease_is_not_free(store, opening):
    lease = store.acquire_lease("shop", "orders/0", "me", 0.0)
    assert store.renew_lease(lease, 60.0)
    assert opening().acquire_lease("shop", "orders/0", "standby", 60.0) is None


def test_a_restarted_holder_takes_its_own_lease_at_once_and_fences_its_former_self(store, opening):
    before = store.acquire_lease("shop", "orders/0", "me", 60.0)
    after = opening().acquire_lease("shop", "orders/0", "me", 60.0)
    assert after.fence > before.fence
    assert after.taken_from == ""
    with pytest.raises(FatalError) as caught:
        commit(store, before, [settlement(1)])
    assert caught.value.code == "lease_lost"


def test_a_lease_that_was_given_back_stores_nothing(store, lease):
    store.release_lease(lease)
    with pytest.raises(FatalError) as caught:
        commit(store, lease, [settlement(1)])
    assert caught.value.code == "lease_lost"


def test_what_is_past_its_retention_is_deleted_and_the_rest_stays(store, lease):
    letters = [letter(n) for n in range(1, 1001)] + [letter(2000, pipeline="audit")]
    commit(store, lease, [settlement(letters=letters)])
    for at in range(5):
        commit(store, lease, [settlement(history=chunk(b"x" * 100, recorded_at=float(at)))])
    deleted = store.prune(
        "shop",
        dead_letters_before={"enrich": 1000.0 + 998},
        history_before=2.0,
        history_max_bytes=None,
    )
    assert deleted == 997 + 2
    assert sorted(found.event_id for found in _letters(store)) == [
        "event-1000",
        "event-2000",
        "event-998",
        "event-999",
    ]
    assert [at for at, _ in chunks(store)] == [2.0, 3.0, 4.0]


def test_history_that_is_too_large_loses_its_oldest_first(store, lease):
    for at in range(450):
        commit(store, lease, [settlement(history=chunk(b"x" * 10, recorded_at=float(at)))])
    other = store.acquire_lease("bank", "orders/0", "me", 60.0)
    commit(store, other, [settlement(history=chunk(b"x" * 10, flow="bank"))])
    limits = {"dead_letters_before": {}, "history_before": None}
    assert store.prune("shop", **limits, history_max_bytes=35) == 447
    assert [at for at, _ in chunks(store)] == [447.0, 448.0, 449.0]
    assert store.prune("shop", **limits, history_max_bytes=35) == 0
    assert len(chunks(store, "bank")) == 1


def test_a_store_that_is_only_read_is_not_made(opening, url, tmp_path):
    with pytest.raises(FatalError, match="there is no state at") as caught:
        opening(create=False)
    assert caught.value.code == "state_missing"
    assert list(tmp_path.iterdir()) == []
    opening()
    assert opening(create=False).flows() == []


def test_a_commit_is_on_the_disk_when_it_returns_whatever_the_servers_default(url, opening):
    store = opening()
    if url.startswith("sqlite"):
        asked = {"journal_mode": "wal", "synchronous": 2}
        ask = "PRAGMA {}"
    else:
        name = url.rpartition("/")[2]
        store._database.run(
            lambda c: c.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        )
        store = opening()
        asked, ask = {"synchronous_commit": "on"}, "SHOW {}"
    for name, expected in asked.items():
        found = store._database.run(
            lambda c, name=name: c.exec_driver_sql(ask.format(name)).scalar()
        )
        assert found == expected


def test_a_worker_whose_clock_is_wrong_takes_no_lease_before_its_time(store, opening, monkeypatch):
    store.acquire_lease("shop", "orders/0", "me", 60.0)
    monkeypatch.setattr("time.time", lambda: 9e9)
    assert opening().acquire_lease("shop", "orders/0", "standby", 60.0) is None


def test_the_writers_of_all_shards_are_known_until_they_are_forgotten(store, lease, opening):
    commit(store, lease, [Settlement("p", settlement(1).counts, sink_states={"a": {"x": "1"}})], {})
    second = store.acquire_lease("shop", "orders/1", "me", 10.0)
    store.save_sink_states(second, {"a": {"x": "2"}, "b": {"y": "3"}})
    assert store.sink_writers("shop") == {"orders/0": ["a"], "orders/1": ["a", "b"]}
    assert store.sink_writers("another") == {}
    store.forget_sink_states(second, ["a"])
    assert opening().sink_writers("shop") == {"orders/0": ["a"], "orders/1": ["b"]}
    assert store.sink_states("shop", "orders/1") == {"b": {"y": "3"}}


def test_only_the_holder_of_a_writers_lease_changes_what_is_kept_for_it(store, lease):
    store.save_sink_states(lease, {"a": {"x": "1"}})
    store.release_lease(lease)
    assert store.acquire_lease("shop", lease.shard, "another", 10.0)
    for change in (
        lambda: store.save_sink_states(lease, {"a": {"x": "2"}}),
        lambda: store.forget_sink_states(lease, ["a"]),
    ):
        with pytest.raises(FatalError) as caught:
            change()
        assert caught.value.code == "lease_lost"
    assert store.sink_states("shop", lease.shard) == {"a": {"x": "1"}}
