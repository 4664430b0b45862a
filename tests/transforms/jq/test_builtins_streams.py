"""Walks over a value, and its events."""

from __future__ import annotations

import pytest

from tests.transforms.jq.builtin_calls import Many, Row, check, name_of
from tests.transforms.jq.engine import run
from transforms.jq.builtins.streams import descend

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
    assert run("fromstream(tostream)", value).outputs == [value]


def test_several_values_come_back_one_by_one():
    assert run("fromstream(.[] | tostream)", VALUES).outputs == VALUES


def test_events_that_no_value_has_follow_the_rules_of_paths():
    program = "[fromstream(.[])]"
    assert run(program, [[["a"], [1]], [["a", 0], 2], [["a"]]]).outputs == [[{"a": [2]}]]
    assert run(program, [[[3], 1], [[3]]]).outputs == [[[None, None, None, 1]]]
    failed = run(program, [[["a"], 1], [["a", "b"], 2]]).error
    assert "Cannot index number" in failed.message


def test_leaves_of_a_stream_stay_as_they_were():
    leaf = {}
    built = run("fromstream(.[])", [[["a"], leaf], [["a", "b"], 1], [["a"]]]).outputs
    assert (built, leaf) == ([{"a": {"b": 1}}], {})


def test_truncated_events_lose_the_outermost_keys():
    events = [[[0], 1], [[1, 0], 2], [[1, 0]], [[1]]]
    assert run(". as $events | 1 | [truncate_stream($events[])]", events).outputs == [
        [[[0], 2], [[0]]]
    ]


def test_everything_in_a_value_outermost_first():
    assert list(descend([1, {"a": [2]}])) == [[1, {"a": [2]}], 1, {"a": [2]}, [2], 2]
