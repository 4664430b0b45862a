"""`map(… * …) | add` is written as a loop of its own, and is still what jq says that it is."""

from __future__ import annotations

from itertools import product

import pytest

from tests.transforms.jq.engine import run
from transforms.jq import compile_program
from transforms.jq.json_text import to_json

SUMMANDS = [
    ".a + .b",
    ".a - .b",
    ".a * .b",
    ".a * 0.5",
    ".b + 1",
    "{t: (.a * .b), u: (.b * 0.1)} | .t + .u",
    "{t: (.a * .b), u: (.b * 0.1)} | .t - .u",
    "{t: (.a * .b), u: (.b * 0.1)} | .t * .u",
    "{t: (.a + .b)} | .t + .t",
    ".a as $x | $x * .b",
    "(.a * .b) * 0.5",
    "try (.a * .b) catch 7",
]
VALUES = [
    0, 1, -3, 2.5, 0.1, -0.0, 9007199254740993, 10**40, 1e308, 10**320,
    None, True, False, "", "ab", [], [1], {}, {"x": 1},
]  # fmt: skip
PAIRS = [{"a": a, "b": b} for a, b in product(VALUES, VALUES)]
ARRAYS = [
    *([pair, {"a": 2.5, "b": 3}, {"a": 4, "b": 5}] for pair in PAIRS),
    *([{"a": 2.5, "b": 3}, pair, pair] for pair in PAIRS),
    *([one, other] for one, other in zip(PAIRS[::7], PAIRS[3::11], strict=False)),
    [],
    [{"a": 1, "b": -1}, {"a": -1, "b": 1}],
    [{"a": -0.0, "b": 1}],
    [{"a": 1, "b": 2}, 7],
    {"first": {"a": 1, "b": 2}, "second": {"a": 2.5, "b": 3}},
    None,
    "text",
]


def outcome(program, value):
    found = run(program, value)
    return [to_json(one) for one in found.outputs], to_json(found.thrown)


@pytest.mark.parametrize("summand", SUMMANDS)
@pytest.mark.parametrize("form", ["map({0}) | add", "[.[] | {0}] | add"])
def test_a_sum_is_what_adding_the_elements_of_the_array_gives(form, summand):
    program = form.format(summand)
    one_by_one = f"map({summand}) | reduce .[] as $x (null; . + $x)"
    for array in ARRAYS:
        assert outcome(program, array) == outcome(one_by_one, array), array


def test_a_sum_of_arithmetic_makes_no_array():
    body = compile_program("map(.a * .b) | add").source.partition("def outputs")[2]
    assert body.count(".append(") == 1  # of the output


MADE = "map({t: (.a * .b), u: (.b * 0.1), n: 2, o: .a})"
OVER_WHAT_WAS_MADE = [
    # A program with @ for a sum, and what is summed up.
    ("MADE | {items: ., total: @}", ".t + .u"),
    ("MADE | {total: @, items: .}", ".t - .u"),
    ("MADE | [@, length, @]", ".u + .n"),
    ("MADE | [@]", ".t + .o"),
    ("MADE | [@]", ".t + .missing"),
    ("MADE | [@]", "(.t * .u) + .t"),
    ("MADE | if length > 1 then @ else 0 end", ".t + .u"),
    ("MADE | . as $made | .[0].t = 5 | [@, ($made | @)]", ".t + .u"),
    ("MADE | [.[] | .t] as $ts | [$ts[] as $t | $t, @]", ".t + .u"),
    ("MADE | def total: @; [total, .[0].t]", ".t + .u"),
    ("MADE | [.[], @] | .[-1]", ".t + .u"),
    ("MADE | try @ catch .", ".t + .u"),
    ("[., .] | [.[] | MADE | @]", ".t + .u"),
    (
        "[.[] | if .a == null then {t: 1, u: 2.5} else {t: (.a * 1), u: (.b * 1)} end] | @",
        ".t + .u",
    ),
    ("[limit(2; .[]) | {t: (.a * .b), u: (.b * 0.1)}] | [@, .]", ".t + .u"),
]


@pytest.mark.parametrize(("program", "summand"), OVER_WHAT_WAS_MADE)
def test_a_sum_over_objects_that_were_made_just_now_is_the_sum_over_those_objects(program, summand):
    program = program.replace("MADE", MADE)
    added = program.replace("@", f"(map({summand}) | add)")
    one_by_one = program.replace("@", f"(map({summand}) | reduce .[] as $x (null; . + $x))")
    for array in ARRAYS:
        assert outcome(added, array) == outcome(one_by_one, array), array


def test_what_is_put_into_objects_is_added_up_where_they_are_made():
    program = f"{MADE} | {{items: ., total: (map(.t + .u) | add), rest: (map(.t - .u) | add)}}"
    body = compile_program(program).source.partition("def outputs")[2]
    assert body.count("for ") == 1


def test_a_function_of_the_programs_own_that_is_named_add_is_not_ours():
    assert run("def add: length; map(.a * 2) | add", [{"a": 1}, {"a": 2}]).outputs == [2]
    assert run("def map(f): [f]; {a: 3} | map(.a * 2) | add", None).outputs == [6]


def test_the_first_element_that_fails_is_the_one_that_is_named():
    value = [{"a": 1, "b": 1}, {"a": 1, "b": []}, 7]
    error = run("map(.a * .b) | add", value).error
    assert error.message.startswith("number (1) and array ([]) cannot be multiplied")
