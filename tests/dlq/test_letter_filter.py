"""Filters of dead letters, each on both databases."""

from __future__ import annotations

import pytest

from dlq.selection import Selection, count, pages
from flows.state.letter_filter import LetterFilter
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    url = f"sqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("state_database")
    opened = open_store(url)
    lease = opened.acquire_lease("shop", "orders/0", "me", 60.0)
    letters = [
        letter(1),
        letter(2, pipeline="audit", step=None, error_code="schema_invalid"),
        letter(3, event_type="public.orders.insert", tenant="acme"),
        letter(4, event_type="public.Orders.update"),
        letter(5, event='{"specversion":"1.0","id":"e","source":"/s","type":"t","data":{"n":5}}'),
    ]
    commit(opened, lease, [settlement(letters=letters)])
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {1, 2, 3, 4, 5}),
        ({"flow": "shop"}, {1, 2, 3, 4, 5}),
        ({"flow": "bank"}, set()),
        ({"pipeline": "audit"}, {2}),
        ({"step": "charge"}, {1, 3, 4, 5}),
        ({"error_code": "schema_invalid"}, {2}),
        ({"event_type": "order.created"}, {1, 2, 5}),
        ({"event_type": "public.*"}, {3, 4}),
        ({"event_type": "public.orders.*"}, {3}),
        ({"event_type": "public.[oO]rders.?????[!z]"}, {3, 4}),
        ({"event_type": "order_created*"}, set()),
        ({"tenant": "acme"}, {3}),
        ({"since": 1002.0, "until": 1004.0}, {2, 3}),
        ({"ids": (letter(4).id, letter(1).id)}, {1, 4}),
        ({"status": "waiting", "step": "charge", "tenant": "default"}, {1, 4, 5}),
        ({"status": "replaying"}, set()),
    ],
)
def test_a_filter_finds_what_has_all_that_it_asks_for(store, asked, found):
    wanted = LetterFilter(**asked)
    assert {int(each.event_id[6:]) for each in store.letters.page(wanted, 10)} == found
    assert store.letters.count(wanted) == len(found)
    assert LetterFilter.of_dict(wanted.as_dict()) == wanted


def test_jq_chooses_among_them_by_the_event(store):
    selection = Selection(
        LetterFilter(flow="shop"), where=".data.n == 5 or .type == 'x'".replace("'", '"')
    )
    assert [each.event_id for found, _ in pages(store, selection) for each in found] == ["event-5"]
    assert count(store, selection) == 1
    assert Selection.of_text(selection.text()) == selection


def test_an_event_for_which_the_jq_fails_does_not_match(store):
    assert count(store, Selection(LetterFilter(), where=".data.n - 1 > 0")) == 1
