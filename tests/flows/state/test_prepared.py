"""Outcomes that wait for the end of their transaction, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from connectors.errors import FatalError
from flows.state import migrations
from flows.state.records import Settlement
from tests.flows.state.samples import chunk, chunks, commit, letter, parked, settlement


def prepare(store, lease, settlements, name="t1", positions=None):
    store.prepared.prepare(
        lease,
        "orders",
        "v1/1",
        name=name,
        positions=positions or {"orders/0": "005"},
        settlements=settlements,
    )


def test_what_is_prepared_counts_for_nothing_and_comes_back_as_it_was(store, opening, lease):
    outcome = Settlement(
        "enrich",
        settlement(2, failed=1).counts,
        [letter(1)],
        chunk(b"\x00\xff\xfe"),
        {"files": {"path": "out/ä.jsonl"}},
        parked=[parked(1)],
        resumed=["a"],
    )
    prepare(store, lease, [outcome])
    after = opening()
    assert after.totals("shop") == []
    assert after.checkpoints("shop", "orders") == {}
    (found,) = after.prepared.of_source("shop", "orders")
    assert (found.shard, found.layout, found.name) == ("orders/0", "v1/1", "t1")
    assert found.positions == {"orders/0": "005"}
    assert found.settlements() == [outcome]
    assert after.prepared.of_source("shop", "others") == []


def test_settling_it_forgets_it_in_the_same_transaction(store, lease):
    outcome = settlement(3)
    prepare(store, lease, [outcome])
    store.commit(lease, "orders", [outcome], {"orders/0": "005"}, {}, prepared="t1")
    (found,) = store.prepared.of_source("shop", "orders")
    assert (found.name, found.settlements()) == ("", [])
    assert found.layout == "v1/1"
    assert store.totals("shop")[0].done == 3
    assert len(chunks(store)) <= 1


def test_a_later_one_takes_its_place_and_is_not_forgotten_with_the_earlier(store, lease):
    prepare(store, lease, [settlement(1)])
    prepare(store, lease, [settlement(2)], name="t2")
    store.commit(lease, "orders", [settlement(1)], {}, {}, prepared="t1")
    (found,) = store.prepared.of_source("shop", "orders")
    assert found.name == "t2"
    assert found.settlements()[0].counts.done == 2


def test_who_has_lost_the_lease_prepares_nothing(store, lease):
    store.release_lease(lease)
    other = store.acquire_lease("shop", "orders/0", "another", 60.0)
    for late in (
        lambda: prepare(store, lease, [settlement(1)]),
        lambda: store.prepared.enter(lease, "orders", "v2/1"),
        lambda: store.prepared.leave(lease),
    ):
        with pytest.raises(FatalError) as caught:
            late()
        assert caught.value.code == "lease_lost"
    assert store.prepared.of_source("shop", "orders") == []
    store.prepared.enter(other, "orders", "v2/1")
    assert [each.layout for each in store.prepared.of_source("shop", "orders")] == ["v2/1"]
    store.prepared.leave(other)
    assert store.prepared.of_source("shop", "orders") == []


def test_text_that_no_database_holds_is_prepared_all_the_same(store, lease):
    outcome = Settlement("enrich", settlement(1).counts, [letter(1, event_id="a\x00\ud800b")])
    prepare(store, lease, [outcome])
    (found,) = store.prepared.of_source("shop", "orders")
    (kept,) = found.settlements()[0].dead_letters
    assert kept.event_id.startswith("a\u2400")


def test_an_older_state_gets_the_table(store, opening, lease):
    commit(store, lease, [settlement(1)], {"orders/0": "001"})

    def age(connection):
        connection.execute(text("DROP TABLE penstock_prepared"))
        before = migrations.FIRST_VERSION + migrations.STEPS.index(migrations._add_prepared)
        connection.execute(text("UPDATE penstock_schema SET version = :v"), {"v": before})
        connection.commit()

    store._database.run(age)
    newer = opening()
    assert newer.prepared.of_source("shop", "orders") == []
    assert newer.checkpoints("shop", "orders") == {"orders/0": "001"}
