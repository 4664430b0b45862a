"""jq's operators over values."""

from __future__ import annotations

import math

import pytest

from transforms.jq.arithmetic import add, divide, modulo, multiply, negate, subtract
from transforms.jq.errors import JqError, TooLarge
from transforms.jq.json_text import to_json

RESULTS = [
    (add, 1, 2, "3"),
    (add, 0.1, 0.2, "0.30000000000000004"),
    (add, 1.5, 1.5, "3"),
    (add, 9007199254740993, 1, "9007199254740994"),
    (add, 10**40, 1, "1" + "0" * 39 + "1"),
    (add, None, "a", '"a"'),
    (add, [1], None, "[1]"),
    (add, "a", "b", '"ab"'),
    (add, [1], [1], "[1,1]"),
    (add, {"a": 1, "b": 1}, {"b": 2}, '{"a":1,"b":2}'),
    (add, 1e308, 1e308, "1.7976931348623157e+308"),
    (subtract, 1, 2, "-1"),
    (subtract, [1, 2, 1, True, [1]], [1, [1]], "[2,true]"),
    (subtract, ["a", "b", "a"], ["a"], '["b"]'),
    (subtract, [1, True], [1.0], "[true]"),
    (subtract, [], [1], "[]"),
    (multiply, 3, 1.5, "4.5"),
    (multiply, 10**20, 10**20, str(10**40)),
    (multiply, "ab", 2.9, '"abab"'),
    (multiply, 2, "ab", '"abab"'),
    (multiply, "ab", 0, '""'),
    (multiply, "ab", -1, "null"),
    (multiply, "ab", math.nan, "null"),
    (
        multiply,
        {"a": {"b": 1, "c": 1}, "d": 1},
        {"a": {"b": 2}, "d": {}},
        '{"a":{"b":2,"c":1},"d":{}}',
    ),
    (multiply, 0, math.inf, "null"),
    (divide, 6, 3, "2"),
    (divide, 1, 3, "0.3333333333333333"),
    (divide, 10**40, 10**20, str(10**20)),
    (divide, 10**400 + 1, 10**390, "10000000000"),
    (divide, 1.5, 0.5, "3"),
    (divide, "a,b", ",", '["a","b"]'),
    (divide, "", ",", "[]"),
    (divide, "abc", "", '["a","b","c"]'),
    (divide, ",a,", ",", '["","a",""]'),
    (modulo, 5, 3, "2"),
    (modulo, -5, 3, "-2"),
    (modulo, 5, -3, "2"),
    (modulo, 5.9, 2.9, "1"),
    (modulo, math.inf, 3, "1"),
    (modulo, 5, math.inf, "5"),
    (modulo, 1, math.nan, "null"),
    (modulo, 10**40 + 7, 10, "7"),
]


@pytest.mark.parametrize(
    ("operator", "left", "right", "result"),
    RESULTS,
    ids=[f"{op.__name__}-{left!r:.20}-{right!r:.20}" for op, left, right, _ in RESULTS],
)
def test_operators_give_what_jq_gives_with_all_digits(operator, left, right, result):
    assert to_json(operator(left, right)) == result


ERRORS = [
    (add, "a", 1, 'string ("a") and number (1) cannot be added'),
    (add, {}, [], "object ({}) and array ([]) cannot be added"),
    (add, True, True, "boolean (true) and boolean (true) cannot be added"),
    (subtract, "a", "b", 'string ("a") and string ("b") cannot be subtracted'),
    (subtract, None, 1, "null (null) and number (1) cannot be subtracted"),
    (multiply, [], 2, "array ([]) and number (2) cannot be multiplied"),
    (multiply, "a", 3e9, "Repeat string result too long"),
    (divide, 1, 0, "number (1) and number (0) cannot be divided because the divisor is zero"),
    (divide, {}, 1, "object ({}) and number (1) cannot be divided"),
    (
        modulo,
        5,
        0.5,
        "number (5) and number (0.5) cannot be divided (remainder) because the divisor is zero",
    ),
    (modulo, "a", 1, 'string ("a") and number (1) cannot be divided (remainder)'),
]


@pytest.mark.parametrize(
    ("operator", "left", "right", "said"), ERRORS, ids=[said for *_, said in ERRORS]
)
def test_operators_name_the_values_that_do_not_fit(operator, left, right, said):
    with pytest.raises(JqError) as failed:
        operator(left, right)
    assert failed.value.value == said


def test_negation_is_of_numbers():
    assert negate(5) == -5
    assert to_json(negate(0)) == "0"
    assert to_json(negate(0.0)) == "-0"
    with pytest.raises(JqError) as failed:
        negate("x")
    assert failed.value.value == 'string ("x") cannot be negated'


def test_operands_are_left_as_they_were():
    left, right = {"a": {"b": 1}}, {"a": {"c": [1]}}
    merged = multiply(left, right)
    assert merged == {"a": {"b": 1, "c": [1]}}
    assert (left, right) == ({"a": {"b": 1}}, {"a": {"c": [1]}})
    add(left, right)
    assert left == {"a": {"b": 1}}


def test_an_integer_that_grows_without_end_becomes_infinite():
    value = 2
    for _ in range(60):
        value = multiply(value, value)
    assert value == math.inf


def test_results_too_large_for_a_worker_are_refused_and_not_caught():
    with pytest.raises(TooLarge):
        multiply("a" * 1000, 10**6)
    with pytest.raises(TooLarge):
        add([0] * 6_000_000, [0] * 6_000_000)
    assert not issubclass(TooLarge, JqError)


def test_objects_merge_ten_thousand_levels_deep_and_no_deeper():
    deep = {}
    for _ in range(10_000):
        deep = {"a": deep}
    assert len(multiply(deep, deep)) == 1
    with pytest.raises(JqError, match="Object merge too deep"):
        multiply({"a": deep}, {"a": deep})
