"""Replays in the state store: who gets a dead letter, what came of it, each on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert

from connectors.errors import FatalError
from flows.state import migrations, tables
from flows.state.records import Replayed
from flows.state.replays import Chosen
from flows.state.sagas import Saga
from tests.flows.state.samples import commit, letter, settlement


def begin(store, letters, **options):
    number = store.replays.begin("shop", by="ann@host", selection="{}", **options)
    taken = store.replays.add(store.replays.get(number), [Chosen(each) for each in letters], "c")
    store.replays.start(number)
    return number, taken


def fill(store, lease, count, **changes):
    letters = [letter(number, **changes) for number in range(1, count + 1)]
    commit(store, lease, [settlement(letters=letters)])
    return letters


def fill_more(store, lease, number, **changes):
    letters = [letter(number, **changes)]
    commit(store, lease, [settlement(letters=letters)])
    return letters


def take(store, limit=100, by="w1", owns=lambda _: True):
    return store.replays.take("shop", "orders", by, owns, limit)


def outcome(taken, outcome, **more):
    return Replayed(
        taken.replay, taken.letter.id, outcome, taken_by=taken.by, execution="e", **more
    )


def settle(store, lease, *outcomes, letters=()):
    settled = settlement(letters=letters)
    settled.replayed.extend(outcomes)
    commit(store, lease, [settled])


def stored(store, number=1):
    (found,) = store.dead_letter("shop", letter(number).id) or [None]
    return found


def test_of_two_replays_that_want_a_dead_letter_one_gets_it(store, opening, lease):
    letters = fill(store, lease, 6)
    other = opening()
    _, first = begin(store, letters[:4])
    number, second = begin(other, letters[2:])
    assert (first, second) == (4, 2)
    assert other.replays.get(number).total == 2
    assert stored(store, 3).status == "replaying"
    assert len(take(store)) == 6


def test_entries_are_taken_once_in_the_order_of_their_events(store, lease):
    letters = fill(store, lease, 5)
    begin(store, list(reversed(letters)))
    taken = take(store, 3)
    assert [each.letter.event_id for each in taken] == ["event-1", "event-2", "event-3"]
    assert [each.letter for each in take(store, 9, by="w2")] == [
        stored(store, number) for number in (4, 5)
    ]
    assert take(store, by="w3") == []


def test_a_worker_takes_its_partitions_only(store, lease):
    commit(
        store,
        lease,
        [settlement(letters=[letter(n, partition=f"orders/{n % 3}") for n in range(1, 10)])],
    )
    begin(store, store.dead_letters("shop", pipeline=None, limit=99, after=None))
    taken = take(store, owns=lambda partition: partition == "orders/2")
    assert [each.letter.event_id for each in taken] == ["event-2", "event-5", "event-8"]


def test_nothing_is_taken_while_the_selection_is_open(store, lease):
    letters = fill(store, lease, 1)
    number = store.replays.begin("shop", by="ann", selection="{}")
    store.replays.add(store.replays.get(number), [Chosen(each) for each in letters], None)
    assert take(store) == []
    store.replays.start(number)
    assert len(take(store)) == 1


def test_a_selection_of_nothing_is_done_at_once(store, lease):
    number, _ = begin(store, [])
    assert store.replays.get(number).status == "done"


def test_success_removes_the_dead_letter_and_ends_the_replay(store, lease):
    number, _ = begin(store, fill(store, lease, 2))
    first, second = take(store)
    settle(store, lease, outcome(first, "running"), outcome(second, "running"))
    assert stored(store).status == "replaying"
    settle(store, lease, replace(outcome(first, "done"), taken_by=None))
    assert stored(store) is None
    assert store.replays.get(number).status == "running"
    assert store.replays.open_sources(number) == ["orders"]
    settle(store, lease, replace(outcome(second, "skipped"), taken_by=None))
    replay = store.replays.get(number)
    assert (replay.status, replay.done, replay.skipped, replay.ended) == ("done", 1, 1, 2)
    assert replay.finished_at
    assert store.replays.open_sources(number) == []


def test_a_replay_that_fails_updates_the_entry_and_keeps_the_event(store, lease):
    begin(store, fill(store, lease, 1))
    (taken,) = take(store)
    again = letter(
        1, event="{}", error_code="other", last_failed_at=9999.0, replay=taken.replay, key="x"
    )
    settle(store, lease, outcome(taken, "failed", error_code="other"), letters=[again])
    found = stored(store)
    assert (found.error_code, found.attempts, found.replays) == ("other", 2, 1)
    assert (found.status, found.replay) == ("waiting", None)
    assert (found.event, found.first_failed_at) == (letter(1).event, 1001.0)
    assert store.totals("shop")[0].dead_letters == 1
    (entry,) = store.replays.entries(taken.replay, 10)
    assert (entry.status, entry.error_code, entry.execution) == ("failed", "other", "e")


def test_a_live_failure_of_an_event_that_is_being_replayed_leaves_it_to_the_replay(store, lease):
    begin(store, fill(store, lease, 1))
    commit(store, lease, [settlement(letters=[letter(1, error_code="again")])])
    found = stored(store)
    assert (found.status, found.error_code, found.attempts) == ("replaying", "again", 2)


def test_an_entry_that_another_worker_has_taken_can_not_be_settled(store, opening, lease):
    begin(store, fill(store, lease, 1))
    (first,) = take(store, by="w1")
    store.replays.release("shop", "orders", lambda _: True)
    (second,) = take(store, by="w2")
    with pytest.raises(FatalError) as caught:
        settle(store, lease, outcome(first, "running"))
    assert caught.value.code == "lease_lost"
    settle(opening(), lease, outcome(second, "running"))
    assert store.totals("shop")[0].done == 2  # the first commit's was not stored


def test_what_was_returned_waits_as_before(store, lease):
    number, _ = begin(store, fill(store, lease, 2))
    first, second = take(store)
    store.replays.give_back(number, [first.letter.id], "not_replayable", "no.")
    settle(store, lease, outcome(second, "returned"))
    assert [stored(store, n).status for n in (1, 2)] == ["waiting", "waiting"]
    assert (store.replays.get(number).status, store.replays.get(number).returned) == ("done", 2)
    assert begin(store, [stored(store)])[1] == 1


def test_a_cancelled_replay_gives_back_what_no_worker_has(store, lease):
    number, _ = begin(store, fill(store, lease, 1200))
    (taken,) = take(store, 1)
    store.replays.cancel(number)
    replay = store.replays.get(number)
    assert (replay.status, replay.returned, replay.total) == ("cancelling", 1199, 1200)
    settle(store, lease, outcome(taken, "running"))
    settle(store, lease, replace(outcome(taken, "done"), taken_by=None))
    assert store.replays.get(number).status == "cancelled"
    assert stored(store, 700).status == "waiting"


def test_a_selection_that_was_cancelled_or_completed_meanwhile_takes_nothing_more(store, lease):
    letters = fill(store, lease, 2)
    number = store.replays.begin("shop", by="ann", selection="{}")
    replay = store.replays.get(number)
    assert store.replays.add(replay, [Chosen(letters[0])], "c") == 1
    store.replays.cancel(number)
    assert store.replays.add(replay, [Chosen(letters[1])], "c") is None
    assert store.replays.get(number).status == "cancelled"
    assert [stored(store, n).status for n in (1, 2)] == ["waiting", "waiting"]


def test_sources_with_something_left_are_told(store, lease):
    number, _ = begin(
        store,
        [
            *fill(store, lease, 2),
            *fill_more(store, lease, 3, source="audit"),
            *fill_more(store, lease, 4, source="zoo"),
        ],
    )
    assert store.replays.open_sources(number) == ["audit", "orders", "zoo"]
    store.replays.give_back_source(number, "orders", "source_gone", "no.")
    assert store.replays.open_sources(number) == ["audit", "zoo"]


def test_dead_letters_whose_sagas_are_not_undone_are_told(store, lease):
    fill(store, lease, 4)

    def saga(number, status, of=None):
        return Saga(
            id=letter(number).id,
            pipeline="enrich",
            source="orders",
            partition="orders/0",
            lane=None,
            event_id="e",
            event_type="t",
            started_at=1.0,
            deadline=None,
            status=status,
            updated_at=1.0,
            letter=of,
        )

    store.sagas.save(
        lease,
        [
            saga(1, "compensated"),
            saga(2, "compensation_failed"),
            saga(3, "resolved"),
            saga(9, "retrying", of=letter(4).id),
        ],
    )
    ids = [letter(number).id for number in range(1, 5)]
    assert store.replays.half_undone("shop", ids) == {letter(2).id, letter(4).id}
    assert store.replays.half_undone("bank", ids) == set()


def test_a_rate_holds_over_all_workers(store, opening, lease):
    begin(store, fill(store, lease, 50), rate=10.0)
    other = opening()
    found = [len(take(each)) for each in (store, other, store, other)]
    assert found[0] == 10
    assert sum(found) < 15


def test_a_discarded_dead_letter_does_not_hold_up_its_replay(store, lease):
    number, _ = begin(store, fill(store, lease, 2))
    store._database.run(
        lambda c: c.exec_driver_sql(
            f"DELETE FROM penstock_dead_letters WHERE id = '{letter(1).id}'"
        )
    )
    assert [each.letter.event_id for each in take(store)] == ["event-2"]
    assert store.replays.get(number).returned == 1


def test_what_is_being_replayed_is_not_pruned(store, lease):
    letters = fill(store, lease, 2)
    begin(store, letters[:1])
    deleted = store.prune(
        "shop",
        dead_letters_before={"enrich": 1e12},
        history_before=None,
        history_max_bytes=None,
    )
    assert deleted == 1
    assert stored(store).status == "replaying"


def test_replays_are_forgotten_when_dead_letters_of_their_time_would_be(store, lease):
    number, _ = begin(store, fill(store, lease, 450))
    store.replays.cancel(number)
    last = store.replays.get(number).finished_at

    def prune(before):
        return store.prune(
            "shop",
            dead_letters_before={"none": before},
            history_before=None,
            history_max_bytes=None,
        )

    assert prune(last - 1) == 0
    assert prune(last + 1) == 450 + 1
    assert store.replays.get(number) is None
    assert store.replays.entries(number, 5) == []
    assert begin(store, [])[0] > number  # a number is part of executions' ids


def test_only_a_living_lease_serves_a_source(store, lease):
    assert store.replays.served_sources("shop") == {"orders"}
    store.release_lease(lease)
    assert store.replays.served_sources("shop") == set()


def test_replays_are_listed_newest_first(store, lease):
    begin(store, fill(store, lease, 1), edit=".", rate=5.0, from_step=True)
    begin(store, [])
    newest, first = store.replays.newest("shop", 5)
    assert (newest.id, first.id) == (2, 1)
    assert (first.edit, first.rate, first.from_step, first.created_by) == (".", 5.0, 1, "ann@host")


def test_a_state_of_the_first_version_gets_what_replays_need(url, opening):
    store = opening()
    columns = [c.name for c in tables.dead_letters.columns][:23]

    def go_back(connection):
        first = {
            "schema",
            "checkpoints",
            "sink_states",
            "history_chunks",
            "pipeline_totals",
            "leases",
        }
        for name in tables.metadata.tables:
            if name.removeprefix("penstock_") not in first:
                connection.exec_driver_sql(f"DROP TABLE {name}")
        old = ", ".join(
            f"{name} text" if name != "attempts" else "attempts integer" for name in columns
        )
        connection.exec_driver_sql(
            f"CREATE TABLE penstock_dead_letters ({old}, PRIMARY KEY (flow, id))"
        )
        connection.exec_driver_sql(
            "INSERT INTO penstock_dead_letters (flow, id, pipeline) VALUES ('shop', 'x', 'enrich')"
        )
        connection.exec_driver_sql("UPDATE penstock_schema SET version = 1")

    store._database.run(go_back)
    store.close()
    newer = opening()
    assert newer._database.run(migrations.version_of) == migrations.current_version()
    rows = newer._database.run(
        lambda c: c.exec_driver_sql(
            "SELECT status, replays, replay FROM penstock_dead_letters"
        ).all()
    )
    assert [tuple(row) for row in rows] == [("waiting", 0, None)]
    newer._database.run(
        lambda c: c.execute(
            insert(tables.replay_entries).values(
                replay=1,
                letter="x",
                pipeline="p",
                source="s",
                partition="",
                position="",
                event_id="",
                status="waiting",
            )
        )
    )
