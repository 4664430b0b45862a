"""Many dead letters: whatever is asked of them, and however it is looked up, the answer is the same."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product
from random import Random

import pytest

from flows.state import letter_store
from flows.state.letter_filter import LetterFilter
from flows.state.letter_store import LetterGroup
from flows.state.letters import shortened
from flows.state.replays import Chosen
from flows.state.rows import cursor
from tests.flows.state.samples import commit, letter, settlement

_PLACES = [
    ("enrich", "customer", "http_status"),
    ("enrich", "shape", "jq_failed"),
    ("enrich", None, "schema_invalid"),
    ("billing", "charge", "http_status"),
    ("billing", None, "schema_invalid"),
]
_TYPES = ["public.orders.insert", "public.orders.delete", "public.parcels.insert", "odd[1]*"]
_TENANTS = ["acme", "umbrella", "default"]


def _many():
    return [
        letter(
            number,
            pipeline=place[0],
            step=place[1],
            error_code=place[2],
            event_type=event_type,
            tenant=tenant,
            last_failed_at=1000.0 + number * 7 % 40,  # some at the same time
        )
        for number, (place, event_type, tenant) in enumerate(product(_PLACES, _TYPES, _TENANTS))
    ]


@pytest.fixture
def letters(store, lease):
    made = _many()
    commit(store, lease, [settlement(letters=made)])
    other = store.acquire_lease("bank", "orders/0", "me", 60.0)
    commit(store, other, [settlement(letters=[letter(1, flow="bank")])])
    return made


def _expected(letters, asked):
    asked = dict(asked)
    glob = asked.pop("event_type", None)
    since, until = asked.pop("since", 0.0), asked.pop("until", 1e12)
    found = [
        each
        for each in letters
        if all(getattr(each, name) == value for name, value in asked.items())
        and (glob is None or fnmatchcase(each.event_type, glob))
        and since <= each.last_failed_at < until
    ]
    return [e.id for e in sorted(found, key=lambda e: (e.last_failed_at, e.id), reverse=True)]


_ASKED = [
    dict(part for part in parts if part[1] is not None)
    for parts in product(
        [("pipeline", None), ("pipeline", "billing"), ("pipeline", "audit")],
        [("step", None), ("step", "customer")],
        [("error_code", None), ("error_code", "http_status"), ("error_code", "schema_invalid")],
        [("event_type", None), ("event_type", "public.*.insert"), ("event_type", "private.*")],
        [("tenant", None), ("tenant", "acme")],
        [("since", None), ("since", 1020.0)],
    )
]


@pytest.mark.parametrize("few", [3_000, 0], ids=["few of a tenant", "many of a tenant"])
def test_every_filter_gives_what_it_asks_for_newest_first(few, store, letters, monkeypatch):
    monkeypatch.setattr(letter_store, "_FEW", few)
    for asked in _ASKED:
        wanted = LetterFilter(flow="shop", **asked)
        expected = _expected(letters, asked)
        assert [each.id for each in store.letters.page(wanted, 1000)] == expected, asked
        assert store.letters.count(wanted) == len(expected), asked


def test_with_too_many_groups_one_query_gives_the_same(store, letters, monkeypatch):
    monkeypatch.setattr(letter_store, "_MANY", 2)
    for asked in _ASKED[::7]:
        found = store.letters.page(LetterFilter(flow="shop", **asked), 1000)
        assert [each.id for each in found] == _expected(letters, asked), asked


def test_pages_of_a_filter_follow_each_other_without_a_gap(store, letters):
    asked = {"error_code": "http_status", "event_type": "public.*"}
    seen, after = [], None
    while found := store.letters.page(LetterFilter(flow="shop", **asked), 4, after):
        seen += [each.id for each in found]
        after = cursor(found[-1])
    assert seen == _expected(letters, asked)


def test_a_type_that_looks_like_a_glob_is_found_by_one(store, letters):
    found = store.letters.page(LetterFilter(flow="shop", event_type="odd*"), 1000)
    assert len(found) == 15
    assert {each.event_type for each in found} == {"odd[1]*"}


def test_groups_are_what_failed_where(store, letters):
    found = store.letters.groups(LetterFilter(flow="shop"))
    assert {(each.pipeline, each.step, each.error_code) for each in found} == set(_PLACES)
    found = store.letters.groups(LetterFilter(flow="shop", error_code="schema_invalid"))
    assert found == [
        LetterGroup("billing", None, "schema_invalid"),
        LetterGroup("enrich", None, "schema_invalid"),
    ]


def test_the_depth_of_each_pipeline_is_exact(store, letters):
    assert store.letters.depths("shop") == {"enrich": 36, "billing": 24}
    store.letters.remove("shop", [letters[0].id, letters[-1].id])
    assert store.letters.depths("shop") == {"enrich": 35, "billing": 23}
    assert store.letters.depths("nothing") == {}


def test_what_a_replay_has_is_not_removed(store, letters):
    number = store.replays.begin("shop", by="me", selection="{}")
    store.replays.add(store.replays.get(number), [Chosen(letters[0])], None)
    assert store.letters.remove("shop", [letters[0].id, letters[1].id]) == [letters[1].id]


def test_a_tenant_or_type_of_any_length_is_stored(store, lease):
    """PostgreSQL refuses a row whose entry in an index is longer than 2.7 kB."""
    noise = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FFF), k=5000)))
    made = letter(1, tenant=shortened(noise, 100), event_type=shortened(noise, 250))
    commit(store, lease, [settlement(letters=[made])])
    assert store.letters.count(LetterFilter(flow="shop")) == 1
