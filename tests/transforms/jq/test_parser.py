"""The grammar: what binds how tightly, and what a program that is none is told."""

from __future__ import annotations

import re

import pytest

from transforms.jq import compile_program
from transforms.jq.invalid import ExpressionError
from transforms.jq.parser import DEEPEST


@pytest.mark.parametrize(
    ("program", "outputs"),
    [
        ("1 + 2 * 3 - 4 / 2", [5]),
        ("1, 2 | . * 10", [10, 20]),
        ("1 + 2 as $x | $x * 2, $x", [6, 3]),
        ("null // false // 3", [3]),
        ("1 == 1 and 2 > 3 or true", [True]),
        ("try error(0) // 1", [1]),
        ("[-1 | -(.)]", [[1]]),
        ('{a: 1 + 1, "b": 2 | . + 1, (("c", "d")): null // 4}', [
            {"a": 2, "b": 3, "c": 4},
            {"a": 2, "b": 3, "d": 4},
        ]),
        ("def f: 1; def g: f + 1; f, g", [1, 2]),
        ("1, def f: 2; f, f | . + 1", [1, 3, 3]),
        ("{if: 1, then: 2} | {if, then} | .if + .then", [3]),
        ('"a\\("b" + "\\("c")")d"', ["abcd"]),
        ("[.[]?] # a comment", [[]]),
        (".a? // 1", [1]),
        ("reduce (1, 2) as $x (0; . + $x) | . * 2", [6]),
        (". as {a: $x} ?// [$x] | $x", [None]),
    ],
)  # fmt: skip
def test_operators_bind_as_in_jq(program, outputs):
    assert compile_program(program).outputs(None) == outputs


@pytest.mark.parametrize(
    ("program", "position", "said"),
    [
        (".a b", 3, "expected an operator or the end of the program, found b"),
        ("{a: 1", 0, "expected }, found the end of the program"),
        ("[1, 2)", 5, "expected ], found )"),
        ("1 )", 2, "nothing is open here"),
        ('"abc', 0, "no closing quote"),
        ('"a\\qc"', 2, "invalid escape \\q"),
        ('"a\\ud83d\\u0041"', 2, "half a surrogate pair"),
        ("if . then 1", 10, "expected elif, else or end"),
        ("1 == 2 == 3", 7, "needs parentheses"),
        (".a = 1 = 2", 7, "needs parentheses"),
        ("reduce .[] as $x (0)", 19, "expected ;, found )"),
        (". as [] | 1", 6, "expected $name, [ or {, found ]"),
        ("{1: 2}", 1, "expected an object's key, found 1"),
        ("{(1): 2}", 2, "key is a string"),
        ("f(1", 1, "expected ), found the end of the program"),
        ("def f: 1", 7, "expected ;, found the end of the program"),
        (".a.[1:]", 2, "a slice has no dot before it"),
        (". .[:1]?", 2, "a slice has no dot before it"),
        ("def f: 1;", 8, "nothing follows that could call them"),
        ("1 | def f: 1; # and that is all", 30, "nothing follows that could call them"),
        ('import "a" as a; 1', 0, "no modules"),
        (".a ~ 1", 3, "unexpected character '~'"),
        ("break $x", 0, "there is no label"),
        ("$x", 0, "is not defined"),
        ("@nope", 0, "no such format"),
        ("map(1; 2)", 0, "map takes 1 argument, this is 2 arguments"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(program, position, said):
    with pytest.raises(ExpressionError, match=re.escape(said)) as caught:
        compile_program(program)

    assert caught.value.position == position


@pytest.mark.parametrize(
    ("program", "hint"),
    [
        ("to_entires", "Did you mean to_entries?"),
        ("1 as $total | $totl", "Did you mean $total?"),
        (".steps.book-flight", '["book-flight"]'),
        (".a.", 'written ."name"'),
        ('{"a" + "b": 1}', ""),
        ("{1: 2}", "in parentheses"),
        (".a?//1", ".a? // 1"),
        (".a?//=1", ".a? // 1"),
    ],
)
def test_a_hint_says_what_to_write_instead(program, hint):
    with pytest.raises(ExpressionError) as caught:
        compile_program(program)

    assert hint in caught.value.hint


def nested(depth):
    return [
        "(" * depth + "." + ")" * depth,
        "[" * depth + "." + "]" * depth,
        "-" * depth + "1",
        "try " * depth + ".",
        "if . then " * depth + "1" + " end" * depth,
        ".[] as $x | " * depth + "$x",
        "map(" * depth + "." + ")" * depth,
        "path(" * depth + "." + ")" * depth,
        ".a" * depth,
        "|".join([".[]"] * depth),
        " + ".join([".a"] * depth),
        "def f: " * depth + "1" + "; f" * depth,
        ". as " + "[" * depth + "$x" + "]" * depth + " | $x",
    ]


@pytest.mark.parametrize("program", [*nested(40), *nested(DEEPEST + 50), *nested(3000)])
def test_nesting_of_any_depth_compiles_or_is_refused(program):
    try:
        position = len(compile_program(program).text) - 1
    except ExpressionError as error:
        position = error.position
    assert 0 <= position < len(program)


def test_functions_that_call_each_other_twice_do_not_explode():
    calls = "".join(f"def f{n}: f{n - 1} + f{n - 1}; " for n in range(1, 40))

    compiled = compile_program(f"def f0: 1; {calls} f5")

    assert compiled.outputs(None) == [32]
