"""Many dead letters: whatever is asked of them, and however it is looked up, the answer is the same."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product
from random import Random

import pytest

from flows.state import letter_groups, letter_store
from flows.state.letter_filter import LetterFilter
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
    monkeypatch.setattr(letter_groups, "MANY", 2)
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


def _tallied(store, edges, **asked):
    """Return (pipeline, step, code) → the histogram."""
    found = {}
    for tally in store.letters.tallies(LetterFilter(flow="shop", **asked), edges):
        group = tally.group
        name = (group.pipeline, group.step, group.error_code)
        before = found.get(name, [0] * len(tally.histogram))
        found[name] = [a + b for a, b in zip(before, tally.histogram, strict=True)]
    return found


@pytest.mark.parametrize("many", [200, 2], ids=["few groups", "many groups"])
def test_every_tally_counts_what_failed_there_between_the_edges(many, store, letters, monkeypatch):
    monkeypatch.setattr(letter_groups, "MANY", many)
    edges = [1000.0, 1015.0, 1030.0, 1045.0]
    for asked in _ASKED:
        expected = {}
        chosen = set(_expected(letters, asked))
        for each in letters:
            if each.id in chosen:
                name = (each.pipeline, each.step, each.error_code)
                expected.setdefault(name, [0, 0, 0])[int(each.last_failed_at - 1000) // 15] += 1
        assert _tallied(store, edges, **asked) == expected, asked


@pytest.mark.parametrize("many", [200, 2], ids=["few groups", "many groups"])
def test_the_newest_of_a_tally_is_the_one_before_when_that_is_gone(
    many, store, letters, monkeypatch
):
    monkeypatch.setattr(letter_groups, "MANY", many)
    wanted = LetterFilter(flow="shop", step="charge", event_type="odd[[]1]*")
    (tally,) = store.letters.tallies(wanted, [1000.0, 1020.0, 1040.0])
    for expected in _expected(letters, {"step": "charge", "event_type": "odd[[]1]*"}):
        assert store.letters.newest(wanted, tally).id == expected
        store.letters.remove("shop", [expected])
    assert store.letters.newest(wanted, tally) is None


def test_the_span_of_a_filter_is_from_its_first_to_its_last_failure(store, letters):
    times = {each.id: each.last_failed_at for each in letters}
    for asked in _ASKED:
        chosen = [times[each] for each in _expected(letters, asked)]
        expected = (min(chosen), max(chosen)) if chosen else None
        assert store.letters.span(LetterFilter(flow="shop", **asked)) == expected, asked


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
