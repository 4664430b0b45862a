"""Sorting, grouping and extremes."""

from __future__ import annotations

import math

import pytest

from tests.transforms.jq.builtin_calls import Fails, Row, check, name_of
from transforms.jq.builtins.sorting import (
    group_by_keys,
    max_by_keys,
    min_by_keys,
    sort,
    sort_by_keys,
    unique_by_keys,
)

ROWS: list[Row] = [
    (
        "sort",
        [3, None, "b", [1], {}, True, "a", 1.5, False],
        [],
        [None, False, True, 1.5, 3, "a", "b", [1], {}],
    ),
    ("sort", ["b", "B", "é", "a"], [], ["B", "a", "b", "é"]),
    ("sort", [2**64, 2.0**64 * 2, 1], [], [1, 2**64, 2.0**64 * 2]),
    ("sort", [[2], [1, 5], [1]], [], [[1], [1, 5], [2]]),
    ("sort", {}, [], Fails("object ({}) cannot be sorted, as it is not an array")),
    ("unique", [2, 1, 2.0, "a", "a", True, 1], [], [True, 1, 2, "a"]),
    ("unique", ["b", "a", "b"], [], ["a", "b"]),
    ("unique", "a", [], Fails('string ("a") cannot be sorted, as it is not an array')),
    ("min", [3, 1, "a", None], [], None),
    ("max", [3, 1, "a", None], [], "a"),
    ("min", [], [], None),
    ("max", 1, [], Fails("number (1) and number (1) cannot be iterated over")),
    ("bsearch", [1, 2, 3], [2], 1),
    ("bsearch", [1, 2, 3], [0], -1),
    ("bsearch", [1, 2, 3], [2.5], -3),
    ("bsearch", [], [1], -1),
    ("bsearch", 1, [1], Fails("number (1) cannot be searched from")),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_sorting(row):
    check(row)


def test_equal_keys_keep_the_order_of_their_values():
    values = ["b1", "a1", "b2", "a2", "c1"]
    keys = [text[0] for text in values]
    assert sort_by_keys(values, keys) == ["a1", "a2", "b1", "b2", "c1"]
    assert group_by_keys(values, keys) == [["a1", "a2"], ["b1", "b2"], ["c1"]]
    assert unique_by_keys(values, keys) == ["a1", "b1", "c1"]


def test_the_first_of_the_least_and_the_last_of_the_greatest_are_taken():
    values = ["b1", "a1", "b2", "a2"]
    keys = [text[0] for text in values]
    assert min_by_keys(values, keys) == "a1"
    assert max_by_keys(values, keys) == "b2"
    assert min_by_keys([], []) is None


def test_no_two_nans_are_in_one_group():
    nan = math.nan
    assert group_by_keys(["x", "y", "z"], [nan, 1, nan]) == [["x"], ["z"], ["y"]]
    assert len(sort([nan, 1, nan, None])) == 4


def test_deeply_nested_values_sort_too():
    deep = []
    for _ in range(3000):
        deep = [deep]
    assert sort([[deep], deep, 1]) == [1, deep, [deep]]
