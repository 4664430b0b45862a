"""Kinds, equality and order of jq's values."""

from __future__ import annotations

import math

import pytest

from transforms.jq.errors import JqError
from transforms.jq.values import compare, equal, kind_of, sort_key, truthy

ASCENDING = [
    None,
    False,
    True,
    math.nan,
    -math.inf,
    -1,
    0,
    0.5,
    1,
    9007199254740992,
    9007199254740993,
    math.inf,
    "",
    "A",
    "a",
    "é",
    "😀",
    [],
    [None],
    [0, [1]],
    [1],
    {},
    {"a": 2},
    {"a": 1, "b": 0},
    {"a": 1, "b": 1},
    {"b": 0},
]


def test_all_kinds_have_names():
    assert [kind_of(value) for value in (None, False, 1, 1.5, "", [], {})] == [
        "null",
        "boolean",
        "number",
        "number",
        "string",
        "array",
        "object",
    ]


def test_only_null_and_false_are_not_true():
    assert [value for value in (None, False, True, 0, "", [], {}) if not truthy(value)] == [
        None,
        False,
    ]


def test_values_are_ordered_by_kind_and_then_by_content():
    for at, left in enumerate(ASCENDING):
        for other, right in enumerate(ASCENDING):
            if at != other:
                assert compare(left, right) == (-1 if at < other else 1), (left, right)
                assert (sort_key(left) < sort_key(right)) is (at < other), (left, right)


def test_nan_is_less_than_itself_and_equals_nothing():
    assert compare(math.nan, math.nan) == -1
    assert not equal(math.nan, math.nan)
    assert not equal([math.nan], [math.nan])
    assert sort_key(math.nan) != sort_key(math.nan)


def test_booleans_are_no_numbers():
    assert not equal(True, 1)
    assert not equal([0, [False]], [0, [0]])
    assert not equal({"a": [1]}, {"a": [True]})
    assert equal({"a": [1, True]}, {"a": [1.0, True]})


def test_integers_and_doubles_compare_exactly():
    assert equal(2**53, 2.0**53)
    assert not equal(2**53 + 1, 2.0**53)
    assert compare(2**53 + 1, 2.0**53) == 1


def nested(levels, wrap):
    value = []
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_values_compare_ten_thousand_levels_deep_and_no_deeper(wrap):
    deep, same = nested(10_000, wrap), nested(10_000, wrap)
    assert equal(deep, same)
    assert compare(deep, same) == 0
    deep, same = nested(10_001, wrap), nested(10_001, wrap)
    with pytest.raises(JqError, match="Equality check too deep"):
        equal(deep, same)
    with pytest.raises(JqError, match="Comparison too deep"):
        compare(deep, same)
