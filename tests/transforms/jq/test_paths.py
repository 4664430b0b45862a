"""Reading, setting and deleting by key and by path."""

from __future__ import annotations

import math

import pytest

from transforms.jq.errors import JqError, TooLarge
from transforms.jq.paths import delete_paths, get_path, has, index, iterate, set_path, slice_of

NAN = math.nan

READ = [
    ({"a": 1}, "a", 1),
    ({"a": 1}, "b", None),
    (None, "a", None),
    (None, 3, None),
    (None, {"start": "x", "end": 1}, None),
    ([1, 2, 3], 0, 1),
    ([1, 2, 3], -1, 3),
    ([1, 2, 3], 3, None),
    ([1, 2, 3], -4, None),
    ([1, 2, 3], 1.9, 2),
    ([1, 2, 3], -1.9, 3),
    ([1, 2, 3], -0.5, 1),
    ([1, 2, 3], NAN, None),
    ([1, 2, 3], math.inf, None),
    ([1, 2, 3], 10**30, None),
    ([1, 2, 1, 2], [1, 2], [0, 2]),
    ([1, 1, 1], [1, 1], [0, 1]),
    ([1, 2], [], []),
    ([1, 2, 3], {"start": 1, "end": None}, [2, 3]),
    ("aé😀", {"start": 1, "end": 2}, "é"),
]


@pytest.mark.parametrize(("value", "key", "found"), READ)
def test_reading_by_key(value, key, found):
    assert index(value, key) == found


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (None, None, [0, 1, 2, 3]),
        (1, None, [1, 2, 3]),
        (None, -1, [0, 1, 2]),
        (-2, None, [2, 3]),
        (1, 2.1, [1, 2]),
        (1.9, 3, [1, 2]),
        (-10, 2, [0, 1]),
        (3, 1, []),
        (0, 10, [0, 1, 2, 3]),
        (NAN, NAN, [0, 1, 2, 3]),
        (-1.5, None, [2, 3]),
        (0, -10, []),
    ],
)
def test_a_slice_begins_rounded_down_and_ends_rounded_up(start, end, found):
    assert slice_of([0, 1, 2, 3], start, end) == found


UNREADABLE = [
    (1, "a", 'Cannot index number with string ("a")'),
    ("abc", 0, "Cannot index string with number (0)"),
    ({}, 0, "Cannot index object with number (0)"),
    ([], "a", 'Cannot index array with string ("a")'),
    ([], None, "Cannot index array with null (null)"),
    (None, [1], "Cannot index null with array ([1])"),
    (True, "x" * 40, 'Cannot index boolean with string ("xxxxxxxxxxxxxxxxxxxxxxxx...")'),
    ({}, {"start": 1}, 'Cannot index object with object ({"start":1})'),
    ([1], {"start": "a", "end": None}, "Array/string slice indices must be integers"),
    ([1], {"start": 0}, "Array/string slice indices must be integers"),
]


@pytest.mark.parametrize(("value", "key", "said"), UNREADABLE)
def test_a_key_that_does_not_fit_is_named(value, key, said):
    with pytest.raises(JqError) as failed:
        index(value, key)
    assert failed.value.value == said


def test_only_null_arrays_and_objects_have_keys():
    assert has({"a": None}, "a")
    assert has([1], 0.9)
    assert not has([1], -1)
    assert not has([1], NAN)
    assert not has(None, "a")
    with pytest.raises(JqError, match="Cannot check whether array has a string key"):
        has([], "a")


def test_only_arrays_and_objects_are_iterated_over():
    assert list(iterate({"a": 1, "b": 2})) == [1, 2]
    with pytest.raises(JqError) as failed:
        iterate(None)
    assert failed.value.value == "Cannot iterate over null (null)"


SET = [
    (None, [], 1, 1),
    (None, ["a", 1, "b"], 1, {"a": [None, {"b": 1}]}),
    ({"a": [1, 2]}, ["a", -1], 9, {"a": [1, 9]}),
    ([1], [3], 4, [1, None, None, 4]),
    ([1, 2, 3, 4], [{"start": 1, "end": 3}], ["x"], [1, "x", 4]),
    (None, [{"start": 2, "end": None}], [1], [1]),
    ([[1, 2, 3]], [0, {"start": 0, "end": 1}], [], [[2, 3]]),
    ([1, 2, 3], [{"start": 0, "end": 2}, 1], 9, [1, 9, 3]),
]


@pytest.mark.parametrize(("value", "path", "new", "result"), SET)
def test_setting_by_path_makes_what_is_missing(value, path, new, result):
    assert set_path(value, path, new) == result


UNSETTABLE = [
    ({}, [0], "Cannot index object with number (0)"),
    ([], ["a"], 'Cannot index array with string ("a")'),
    (1, ["a"], 'Cannot index number with string ("a")'),
    ([1], [[1]], "Cannot update field at array index of array"),
    ([1], [-5], "Out of bounds negative array index"),
    ([1], [2**29], "Array index too large"),
    ([1], [NAN], "Cannot set array element at NaN index"),
    ("abc", [{"start": 0, "end": 1}], "Cannot update string slices"),
    ([1], [{"start": 0, "end": 1}], "A slice of an array can only be assigned another array"),
    (None, "a", "Path must be specified as an array"),
    ({"a": 1}, ["a", "b"], 'Cannot index number with string ("b")'),
]


@pytest.mark.parametrize(("value", "path", "said"), UNSETTABLE)
def test_a_path_that_cannot_be_set_is_named(value, path, said):
    with pytest.raises(JqError) as failed:
        set_path(value, path, "new")
    assert failed.value.value == said


def test_an_array_is_not_padded_beyond_ten_million_elements():
    with pytest.raises(TooLarge):
        set_path([], [10_000_000], 1)


DELETED = [
    ([0, 1, 2, 3, 4], [[0], [{"start": 0, "end": 2}], [-1]], [2, 3]),
    ({"a": {"b": 1, "c": 2}, "d": 3}, [["a", "b"], ["d"]], {"a": {"c": 2}}),
    ({"a": 1}, [["b"], ["c", "d"]], {"a": 1}),
    ([1, 2], [], [1, 2]),
    ([1, 2], [[], [0]], None),
    (None, [["a", "b"]], None),
    ([1, 2, 3], [[NAN], [7], [-7]], [1, 2, 3]),
    ([[1, 2], [3, 4]], [[0, 0], [1, -1]], [[2], [3]]),
    ([[1, 2, 3]], [[0, {"start": 1, "end": None}]], [[1]]),
    ({"a": [1, {"b": 2, "c": 3}]}, [["a", 1, "b"], ["a", 1, "c"], ["a", 0]], {"a": [{}]}),
]


@pytest.mark.parametrize(("value", "paths", "result"), DELETED)
def test_paths_are_deleted_as_they_were_before_any_deletion(value, paths, result):
    assert delete_paths(value, paths) == result


UNDELETABLE = [
    ({}, [[0]], "Cannot delete number field of object"),
    ([], [["a"]], "Cannot delete string element of array"),
    (1, [["a"]], "Cannot delete fields from number"),
    (1, [[1, "a"]], "Cannot index number with number (1)"),
    ({}, "a", "Paths must be specified as an array"),
    ({}, ["a"], "Path must be specified as array, not string"),
]


@pytest.mark.parametrize(("value", "paths", "said"), UNDELETABLE)
def test_paths_that_cannot_be_deleted_are_named(value, paths, said):
    with pytest.raises(JqError) as failed:
        delete_paths(value, paths)
    assert failed.value.value == said


def test_the_value_that_is_changed_stays_as_it_was_and_shares_the_rest():
    value = {"a": [1, {"b": 2}], "c": {"d": []}}
    changed = set_path(value, ["a", 1, "b"], 3)
    assert value == {"a": [1, {"b": 2}], "c": {"d": []}}
    assert changed == {"a": [1, {"b": 3}], "c": {"d": []}}
    assert changed["c"] is value["c"]
    assert delete_paths(value, [["a", 0], ["c", "d"]]) == {"a": [{"b": 2}], "c": {}}
    assert value == {"a": [1, {"b": 2}], "c": {"d": []}}


def test_paths_are_ten_thousand_keys_long_and_no_longer():
    path = [0] * 10_000
    assert get_path(set_path(None, path, 7), path) == 7
    assert get_path(delete_paths(set_path(None, path, 7), [path]), path) is None
    for call in (get_path, lambda value, path: set_path(value, path, 1)):
        with pytest.raises(JqError, match="Path too deep"):
            call(None, [0] * 10_001)
