from __future__ import annotations

import pytest

from backfill.shapes import rules_of, shape_of
from connectors.errors import FlowFileError

STEPS = ["shape", "price"]


def shape(left, right, *, ignore=(), tolerance=0.0, step="shape"):
    rules = rules_of(ignore, tolerance, STEPS)
    return shape_of(rules.differences(step, left, right))


@pytest.mark.parametrize(
    ("left", "right", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: number changed"]),
        ({"a": 1}, {"a": "1"}, ["a: number → text"]),
        ({"a": 1}, {"a": None}, ["a: number → null"]),
        ({"a": 1}, {}, ["a: removed"]),
        ({}, {"a": {"b": 1}}, ["a: added"]),
        ({"a": 1}, {"a": True}, ["a: number → boolean"]),
        ([{"p": 1}, {"p": 2}], [{"p": 3}, {"p": 4}], ["[].p: number changed"]),
        ({"l": [1, 2]}, {"l": [1]}, ["l[]: removed"]),
        (1, 2, [".: number changed"]),
    ],
)
def test_a_shape_names_each_place_once_and_what_happened_there(left, right, lines):
    assert shape(left, right) == lines


def test_what_is_ignored_counts_for_nothing_and_what_is_below_it_neither():
    left, right = {"at": 1, "m": {"x": 1}, "n": 1}, {"at": 2, "m": {"x": 2}, "n": 2}
    assert shape(left, right, ignore=[".at", ".m"]) == ["n: number changed"]
    assert shape(left, right, ignore=["shape.at"]) == ["m.x: number changed", "n: number changed"]
    assert "at: number changed" in shape(left, right, ignore=["price.at"])
    assert shape({"atom": 1}, {"atom": 2}, ignore=[".at"]) == ["atom: number changed"]


def test_numbers_within_the_tolerance_are_the_same():
    assert shape({"a": 100.0}, {"a": 100.001}, tolerance=0.0001) == []
    assert shape({"a": 100.0}, {"a": 100.1}, tolerance=0.0001) == ["a: number changed"]
    assert shape({"a": True}, {"a": 1}, tolerance=1.0) == ["a: boolean → number"]


def test_many_places_are_told_shortly():
    lines = shape({f"k{n:02}": 1 for n in range(30)}, {})
    assert len(lines) == 13
    assert lines[-1] == "… and 18 more places"


def test_a_place_of_a_step_that_is_not_there_is_refused():
    with pytest.raises(FlowFileError, match="shape, price"):
        rules_of(["ship.at"], 0.0, STEPS)
