from __future__ import annotations

import pytest

from backfill.conditions import compile_filter
from connectors.errors import FlowFileError
from tests.backfill.past import orders

# Events 0 to 19: price = n % 10 + 0.5, count = n % 7, customer = c0 … c4.


def taken(wanted, batch=None):
    batch = orders(0, 20) if batch is None else batch
    keep = compile_filter(wanted)
    found = None if keep is None else keep(batch)
    return list(range(batch.size)) if found is None else found


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (None, list(range(20))),
        ({}, list(range(20))),
        ({"event_type": "order.*"}, list(range(20))),
        ({"event_type": "order.shipped"}, []),
        ({"data.customer": "c3"}, [3, 8, 13, 18]),
        ({"data.price": {"$gte": 8.5}}, [8, 9, 18, 19]),
        ({"data.price": {"$gt": 8.5}}, [9, 19]),
        ({"data.n": {"$gte": 5, "$lt": 8}}, [5, 6, 7]),
        ({"data.n": {"$lte": 1}}, [0, 1]),
        ({"data.n": {"$in": [4, 17, 99]}}, [4, 17]),
        ({"data.customer": {"$nin": ["c0", "c1", "c2", "c3"]}}, [4, 9, 14, 19]),
        ({"data.customer": {"$ne": "c0"}, "data.n": {"$lt": 6}}, [1, 2, 3, 4]),
        ({"data.discount": {"$exists": False}}, list(range(20))),
        ({"data.discount": {"$exists": True}}, []),
        ({"data.discount": {"$ne": 3}}, list(range(20))),
        ({"data.discount": None, "data.n": {"$eq": 2}}, [2]),
        ({"key": "c2", "id": {"$in": ["order-2", "order-3"]}}, [2]),
        (".data.n > 17", [18, 19]),
        ('.type == "order.created" and .data.n == 1', [1]),
    ],
)
def test_a_filter_takes_the_events_that_have_all_of_it(wanted, numbers):
    assert taken(wanted) == numbers


def test_values_of_different_kinds_are_never_compared():
    assert taken({"data.customer": {"$gt": 1}}) == []
    assert taken({"data.n": {"$gt": "1"}}) == []
    assert taken({"data.ok": 1}, orders(0, 1, ok=True)) == []
    assert taken({"data.ok": {"$gte": 0}}, orders(0, 1, ok=True)) == []


def test_a_place_inside_of_data_may_be_in_a_list():
    batch = orders(0, 2, lines=[{"sku": "a"}, {"sku": "b"}])
    assert taken({"data.lines.1.sku": "b"}, batch) == [0, 1]
    assert taken({"data.lines.2.sku": {"$exists": True}}, batch) == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"data.n": {"$gtee": 1}}, "backfill_filter"),
        ({"data.n": {"$in": 1}}, "backfill_filter"),
        ({"data.n": {"$exists": 1}}, "backfill_filter"),
        ({"data.n": {"$gt": None}}, "backfill_filter"),
        ({"total.amount": 1}, "backfill_filter"),
        ({"data..n": 1}, "backfill_filter"),
        (".data.n >", "where_invalid"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(wanted, code):
    with pytest.raises(FlowFileError) as refused:
        compile_filter(wanted)
    assert refused.value.code == code


def test_a_misspelled_comparison_is_told_what_it_may_have_been():
    with pytest.raises(FlowFileError, match=r"\$gte"):
        compile_filter({"data.n": {"$gtee": 1}})
