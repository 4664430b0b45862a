"""Numbers pass a program as they came: integers of any size to the digit, doubles as in jq."""

from __future__ import annotations

import json
import math

import pytest

from tests.transforms.jq.comparison import read
from transforms.jq import compile_program

FORTY = 1234567890123456789012345678901234567890
WHOLE = [9007199254740993, 18446744073709551615, -9223372036854775809, FORTY, 0, -1]


def outputs(program, value):
    return compile_program(program).outputs(value)


@pytest.mark.parametrize("number", WHOLE)
def test_an_integer_keeps_its_digits(number):
    assert outputs(".", number) == [number]
    assert outputs("{a: .a}", {"a": number}) == [{"a": number}]
    assert outputs(".a += 1", {"a": number}) == [{"a": number + 1}]
    assert outputs("[., . - 1, . * 2, -.]", number) == [[number, number - 1, number * 2, -number]]
    assert outputs("tojson, tostring, @text, @json", number) == [str(number)] * 4
    assert outputs("tojson | fromjson", number) == [number]
    assert outputs("tostring | tonumber", number) == [number]
    assert outputs(f". == {number}, . == {number + 1}, . < {number + 1}", number) == [
        True,
        False,
        True,
    ]
    assert all(type(found) is int for found in outputs("., . + 1", number))


@pytest.mark.parametrize("number", WHOLE)
def test_an_integer_in_the_program_keeps_its_digits(number):
    assert outputs(f"{number}", None) == [number]
    assert outputs(f"[{number}, {{a: {number}}}]", None) == [[number, {"a": number}]]


def test_neighbours_beyond_doubles_are_told_apart():
    pair = [9007199254740993, 9007199254740992]

    assert outputs("sort, unique, min, max", pair) == [pair[::-1], pair[::-1], pair[1], pair[0]]
    assert outputs("group_by(.) | length", pair) == [2]
    assert outputs("index(9007199254740993)", pair) == [0]
    assert outputs("add", pair) == [18014398509481985]
    assert outputs(".[0] - .[1]", pair) == [1]


def test_what_no_double_holds_is_the_largest_double():
    largest = 1.7976931348623157e308

    assert outputs("1e400", None) == [largest]
    assert outputs(".", read("1e400")) == [largest]
    assert outputs("{a: .a}", read('{"a": 1e400}')) == [{"a": largest}]
    assert outputs(".a += 1", read('{"a": -1e400}')) == [{"a": -largest}]
    assert outputs("infinite, -infinite, [1e308 * 10]", None) == [largest, -largest, [largest]]
    assert outputs("[infinite | tojson]", None) == [["1.7976931348623157e+308"]]


def test_nan_is_null_once_it_leaves():
    assert outputs("nan, [nan], {a: nan}", None) == [None, [None], {"a": None}]
    assert outputs("nan | isnan", None) == [True]


def test_minus_zero_keeps_its_sign():
    for program, value in ((".", -0.0), ("{a: .a} | .a", {"a": -0.0}), ("-0.0", None)):
        (found,) = outputs(program, value)
        assert found == 0
        assert math.copysign(1, found) == -1, program
    assert outputs(".a += 1", {"a": -0.0}) == [{"a": 1}]
    assert outputs("tojson", -0.0) == ["-0"]


def test_whole_results_of_doubles_are_written_as_integers():
    found = outputs("[0.5 + 0.5, 1.5 * 2, 7 / 2 * 2, 1e3, 10 / 5]", None)

    assert json.dumps(found) == "[[1, 3, 7, 1000, 2]]"
