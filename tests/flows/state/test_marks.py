"""Marks of a cluster's processes in the state store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from connectors.errors import FatalError
from flows.state.marks import owner_name, share_of_owner

HERE = owner_name("orders", "a:b", "0/2:00c0ffee")
THERE = owner_name("orders", "a:b", "1/2:00c0ffee")
OTHER = owner_name("orders_2", "a:b", "1/2:00c0ffee")


def commit(store, lease, checkpoint=None, source="orders", **more):
    store.commit(lease, source, [], checkpoint or {}, {}, **more)


def test_marks_are_told_of_a_source_and_are_no_checkpoints_of_it(store, lease):
    commit(store, lease, {"p": "10"}, marks={HERE: {"p": "12", "q": "5"}, THERE: {"p": "14"}})
    commit(store, lease, source="orders_2", marks={OTHER: {"p": "20"}})
    assert store.marks.of("shop", "orders") == {HERE: {"p": "12", "q": "5"}, THERE: {"p": "14"}}
    assert store.marks.of("shop", "orders_2") == {OTHER: {"p": "20"}}
    assert store.checkpoints("shop", "orders") == {"p": "10"}
    assert share_of_owner(HERE) == ("a:b", "0/2:00c0ffee")


def test_marks_that_the_checkpoint_has_passed_are_forgotten(store, lease):
    commit(store, lease, {"p": "12"}, marks={HERE: {"p": "12", "q": "5"}, THERE: {"p": "14"}})
    store.marks.forget_passed(lease, "orders", store.checkpoints("shop", "orders"))
    assert store.marks.of("shop", "orders") == {HERE: {"q": "5"}, THERE: {"p": "14"}}


def test_marks_of_partitions_that_have_gone_back_are_forgotten_with_the_new_checkpoint(
    store, lease
):
    commit(store, lease, {"p": "12"}, marks={HERE: {"p": "12", "q": "5"}, THERE: {"p": "14"}})
    commit(store, lease, source="orders_2", marks={OTHER: {"p": "20"}})
    commit(store, lease, {"p": "1"}, gone_back=["p"])
    assert store.marks.of("shop", "orders") == {HERE: {"q": "5"}}
    assert store.marks.of("shop", "orders_2") == {OTHER: {"p": "20"}}


def test_who_was_taken_over_from_forgets_nothing(store, lease):
    commit(store, lease, {"p": "12"}, marks={HERE: {"p": "12"}})
    assert store.acquire_lease("shop", "orders/0", "me", 60.0)
    with pytest.raises(FatalError) as caught:
        store.marks.forget_passed(lease, "orders", {"p": "12"})
    assert caught.value.code == "lease_lost"
    assert store.marks.of("shop", "orders") == {HERE: {"p": "12"}}


def test_versions_of_a_flow_are_told_the_newest_first(store):
    for at, version in enumerate(["one", "two", "one"]):
        store.chunks.save_version("shop", version, {"pipelines": {}, "is": f"{version} {at}"}, at)
    assert [each["is"] for each in store.chunks.versions("shop")] == ["one 2", "two 1"]
    assert list(store.chunks.versions("other")) == []
