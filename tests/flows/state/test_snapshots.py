"""Snapshots that were asked for: kept, changed by compare-and-set, listed (SQLite, PostgreSQL)."""

from __future__ import annotations


def test_what_is_asked_for_is_open_until_it_is_over_and_numbers_grow(store):
    first = store.snapshots.ask("shop", "orders", ["public.t"], "me")
    second = store.snapshots.ask("shop", "orders", [], "me")
    store.snapshots.ask("shop", "others", [], "me")
    assert first < second
    assert [(one.id, one.tables) for one in store.snapshots.open("shop", "orders")] == [
        (first, ("public.t",)),
        (second, ()),
    ]
    assert store.snapshots.change(first, ("waiting",), "running", rows=5, table="public.t")
    assert store.snapshots.change(first, ("running",), "done")
    assert [one.id for one in store.snapshots.open("shop", "orders")] == [second]
    assert [one.id for one in store.snapshots.newest("shop", "orders", 9)] == [second, first]
    assert store.snapshots.get(first).rows == 5
    assert store.snapshots.get(99) is None


def test_one_that_was_cancelled_meanwhile_stays_so(store):
    number = store.snapshots.ask("shop", "orders", [], "me")
    assert store.snapshots.change(number, ("waiting", "running", "paused"), "cancelled")
    assert not store.snapshots.change(number, ("waiting",), "running", rows=7)
    assert store.snapshots.get(number).status == "cancelled"
