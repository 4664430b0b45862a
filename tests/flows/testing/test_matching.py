"""Differences of two values: where they are, and what counts as the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.testing.matching import ABSENT, differences, path_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def found(expected, value, **more):
    return [(one.path, one.expected, one.found) for one in differences(expected, value, **more)]


@given(JSON)
def test_a_value_does_not_differ_from_itself(value):
    assert found(value, value) == []
    assert found(value, value, contains=True) == []


@given(st.dictionaries(st.text(), JSON, max_size=4), st.text(), JSON)
def test_an_object_contains_what_has_a_key_less(value, key, more):
    assert found(value, {key: more} | value, contains=True) == []


@pytest.mark.parametrize(
    ("expected", "value", "difference"),
    [
        (1, 2, ((), 1, 2)),
        (True, 1, ((), True, 1)),
        (None, False, ((), None, False)),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, (("a", "b"), 1, 2)),
        ({"a": 1}, {}, (("a",), 1, ABSENT)),
        ({}, {"a": 1}, (("a",), ABSENT, 1)),
        ([1], [1, 2], ((1,), ABSENT, 2)),
        ([1, 2], [1], ((1,), 2, ABSENT)),
        ({"a": []}, {"a": {}}, (("a",), [], {})),
    ],
)
def test_a_difference_is_at_its_path(expected, value, difference):
    assert found(expected, value) == [difference]


def test_numbers_are_equal_as_in_json():
    assert found([1, 2.0, 2**70], [1.0, 2, 2**70]) == []


def test_what_contains_may_have_more_keys_at_every_depth_and_no_more_items():
    assert found({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3}, contains=True) == []
    assert found({"a": [1]}, {"a": [1, 2]}, contains=True) == [(("a", 1), ABSENT, 2)]


def test_a_path_reads_as_in_jq():
    assert path_text(("published", 0, "data", "a-b", "c")) == 'published[0].data["a-b"].c'
