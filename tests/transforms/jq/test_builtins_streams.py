"""Walks over a value, and its events."""

from __future__ import annotations

import pytest

from tests.transforms.jq.builtin_calls import Many, Row, check, name_of
from transforms.jq.builtins.streams import descend, from_stream, tostream, truncated
from transforms.jq.errors import JqError

ROWS: list[Row] = [
    ("paths", {"a": [1, {"b": []}]}, [], Many([["a"], ["a", 0], ["a", 1], ["a", 1, "b"]])),
    ("paths", 1, [], Many([])),
    (
        "tostream",
        [1, [2, {"a": []}]],
        [],
        Many([[[0], 1], [[1, 0], 2], [[1, 1, "a"], []], [[1, 1, "a"]], [[1, 1]], [[1]]]),
    ),
    ("tostream", "a", [], Many([[[], "a"]])),
    ("tostream", {}, [], Many([[[], {}]])),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_streams(row):
    check(row)


VALUES = [None, [], {}, [[]], [1, [2, {"a": {}, "b": [3]}]], {"a": {"b": [None, False]}, "c": "x"}]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_back_from_its_events(value):
    assert list(from_stream(tostream(value))) == [value]


def test_several_values_come_back_one_by_one():
    events = [event for value in VALUES for event in tostream(value)]
    assert list(from_stream(events)) == VALUES


def test_events_that_no_value_has_follow_the_rules_of_paths():
    assert list(from_stream([[["a"], [1]], [["a", 0], 2], [["a"]]])) == [{"a": [2]}]
    assert list(from_stream([[[3], 1], [[3]]])) == [[None, None, None, 1]]
    with pytest.raises(JqError, match="Cannot index number"):
        list(from_stream([[["a"], 1], [["a", "b"], 2]]))


def test_leaves_of_a_stream_stay_as_they_were():
    leaf = {}
    built = list(from_stream([[["a"], leaf], [["a", "b"], 1], [["a"]]]))
    assert (built, leaf) == ([{"a": {"b": 1}}], {})


def test_truncated_events_lose_the_outermost_keys():
    events = [[[0], 1], [[1, 0], 2], [[1, 0]], [[1]]]
    assert [one for event in events for one in truncated(1, event)] == [[[0], 2], [[0]]]


def test_everything_in_a_value_outermost_first():
    assert list(descend([1, {"a": [2]}])) == [[1, {"a": [2]}], 1, {"a": [2]}, [2], 2]
