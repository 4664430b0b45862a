"""Arrays and objects: keys, members, entries."""

from __future__ import annotations

import pytest

from tests.transforms.jq.builtin_calls import Fails, Many, Row, check, name_of

ROWS: list[Row] = [
    ("keys", {"b": 1, "a": 2, "é": 3, "Z": 4}, [], ["Z", "a", "b", "é"]),
    ("keys", ["x", "y"], [], [0, 1]),
    ("keys", None, [], Fails("null (null) has no keys")),
    ("keys_unsorted", {"b": 1, "a": 2}, [], ["b", "a"]),
    ("has", {"a": None}, ["a"], True),
    ("has", [1], [1], False),
    ("has", {}, [0], Fails("Cannot check whether object has a number key")),
    ("in", "a", [{"a": 1}], True),
    ("contains", "foobar", ["bar"], True),
    ("contains", ["foobar", "baz"], [["bar"]], True),
    ("contains", {"a": [1, {"b": 2, "c": 3}]}, [{"a": [{"b": 2}]}], True),
    ("contains", {"a": 1}, [{"b": 1}], False),
    ("contains", [1, True], [[True]], True),
    ("contains", 1, [1.0], True),
    (
        "contains",
        "a",
        [1],
        Fails('string ("a") and number (1) cannot have their containment checked'),
    ),
    (
        "contains",
        True,
        [False],
        Fails("boolean (true) and boolean (false) cannot have their containment checked"),
    ),
    ("inside", "bar", ["foobar"], True),
    ("add", [1, 2, 3.5], [], 6.5),
    ("add", ["a", "b"], [], "ab"),
    ("add", [[1], [2, [3]]], [], [1, 2, [3]]),
    ("add", [{"a": 1}, {"a": 2, "b": 3}], [], {"a": 2, "b": 3}),
    ("add", {"x": 1, "y": 2}, [], 3),
    ("add", [], [], None),
    ("add", [True], [], True),
    ("add", [None, 1, None], [], 1),
    ("add", [True, False], [], Fails("boolean (true) and boolean (false) cannot be added")),
    ("any", [None, 0], [], True),
    ("all", [], [], True),
    ("all", {"a": False}, [], False),
    ("flatten", [1, [2, [3, [[4]]]]], [], [1, 2, 3, 4]),
    ("flatten", [1, [2, [3]]], [1], [1, 2, [3]]),
    ("flatten", [[1]], [0], [[1]]),
    ("flatten", {"a": [1], "b": [[2]]}, [], [1, 2]),
    ("flatten", [1], [-1], Fails("flatten depth must not be negative")),
    ("flatten", [1], [None], Fails("flatten depth must not be negative")),
    ("flatten", 1, [], Fails("Cannot iterate over number (1)")),
    ("reverse", [1, 2, 3], [], [3, 2, 1]),
    ("reverse", "", [], []),
    ("reverse", None, [], []),
    ("reverse", "ab", [], Fails("Cannot index string with number (1)")),
    ("first", [1, 2], [], 1),
    ("last", [1, 2], [], 2),
    ("last", [], [], None),
    ("nth", [1, 2], [1], 2),
    (
        "to_entries",
        {"a": 1, "b": None},
        [],
        [{"key": "a", "value": 1}, {"key": "b", "value": None}],
    ),
    ("to_entries", ["x"], [], [{"key": 0, "value": "x"}]),
    (
        "from_entries",
        [{"key": "a", "value": 1}, {"Name": "b", "Value": 2}, {"name": "c"}],
        [],
        {"a": 1, "b": 2, "c": None},
    ),
    ("from_entries", [{"key": False, "name": "x", "value": False}], [], {"x": False}),
    ("from_entries", [], [], {}),
    ("from_entries", [{"key": 1}], [], Fails("Cannot use number (1) as object key")),
    ("from_entries", [{"value": 1}], [], Fails("Cannot use null (null) as object key")),
    ("from_entries", [["a", 1]], [], Fails('Cannot index array with string ("key")')),
    ("transpose", [[1, 2, 3], [4]], [], [[1, 4], [2, None], [3, None]]),
    ("transpose", [], [], []),
    ("transpose", [None, [1]], [], [[None, 1]]),
    ("combinations", [[1, 2], [3, 4]], [], Many([[1, 3], [1, 4], [2, 3], [2, 4]])),
    ("combinations", [], [], Many([[]])),
    ("combinations", [[1], []], [], Many([])),
    ("combinations", [[1], 2], [], Fails("Cannot iterate over number (2)")),
    ("getpath", {"a": [{"b": 5}]}, [["a", 0, "b"]], 5),
    ("getpath", None, [["a", "b"]], None),
    ("setpath", None, [["a", 0], 1], {"a": [1]}),
    ("delpaths", {"a": 1, "b": 2}, [[["a"]]], {"b": 2}),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_arrays_and_objects(row):
    check(row)
