"""C's mathematical functions."""

from __future__ import annotations

import math

import pytest

from tests.transforms.jq.builtin_calls import Fails, Row, check, name_of
from transforms.jq.builtins import FUNCTIONS

ROWS: list[Row] = [
    ("floor", -1.5, [], -2),
    ("floor", 10**30, [], 10**30),
    ("floor", 1e300, [], 1e300),
    ("ceil", 1.2, [], 2),
    ("ceil", -0.5, [], -0.0),
    ("round", 2.5, [], 3),
    ("round", -2.5, [], -3),
    ("rint", 2.5, [], 2),
    ("nearbyint", 3.5, [], 4),
    ("trunc", -2.9, [], -2),
    ("fabs", -(10**20), [], 10**20),
    ("sqrt", 9, [], 3),
    ("sqrt", -1, [], math.nan),
    ("pow", None, [2, 10], 1024),
    ("pow", None, [2, 0.5], 1.4142135623730951),
    ("pow", None, [0, -1], math.inf),
    ("log", 0, [], -math.inf),
    ("log2", 8, [], 3),
    ("log10", 1000, [], 3),
    ("exp10", 0, [], 1),
    ("exp2", 3, [], 8),
    ("exp", 1000, [], math.inf),
    ("expm1", 0, [], 0),
    ("log1p", 0, [], 0),
    ("logb", 10, [], 3),
    ("cbrt", 0, [], 0),
    ("significand", 10, [], 1.25),
    ("significand", 0, [], 0),
    ("gamma", 1, [], 0),
    ("lgamma", 2, [], 0),
    ("tgamma", 5, [], 24),
    ("lgamma_r", 1, [], [0, 1]),
    ("frexp", 10, [], [0.625, 4]),
    ("frexp", math.inf, [], [math.inf, 0]),
    ("modf", -3.25, [], [-0.25, -3]),
    ("modf", math.inf, [], [0, math.inf]),
    ("ldexp", None, [3, 4], 48),
    ("scalb", None, [3, 4], 48),
    ("scalbln", None, [3, 1e30], math.inf),
    ("drem", None, [10, 3], 1),
    ("remainder", None, [5, 3], -1),
    ("fmod", None, [5, 3], 2),
    ("fmod", None, [5, 0], math.nan),
    ("fmin", None, [1, math.nan], 1),
    ("fmax", None, [1, 2], 2),
    ("fdim", None, [5, 3], 2),
    ("fma", None, [2, 3, 4], 10),
    ("hypot", None, [3, 4], 5),
    ("atan2", None, [0, 1], 0),
    ("copysign", None, [1, -2], -1),
    ("nextafter", None, [1, 2], 1.0000000000000002),
    ("nexttoward", None, [1, 2], 1.0000000000000002),
    ("sin", 0, [], 0),
    ("cosh", 0, [], 1),
    ("erf", 0, [], 0),
    ("j0", 0, [], 1),
    ("jn", None, [2, 0], 0),
    ("y0", 0, [], -math.inf),
    ("floor", "a", [], Fails('string ("a") number required')),
    ("pow", None, ["a", 1], Fails('string ("a") number required')),
    ("fma", None, [1, 2, None], Fails("null (null) number required")),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_mathematics(row):
    check(row)


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("exp10", 3, 1000),
        ("cbrt", 27, 3),
        ("gamma", 5, math.log(24)),
        ("acosh", 1.5, 0.9624236501192069),
    ],
)
def test_what_c_libraries_round_differently_is_nearly_right(name, value, result):
    assert FUNCTIONS[name, 0].call(value) == pytest.approx(result)


def test_the_sign_of_the_gamma_function_comes_second():
    assert FUNCTIONS["lgamma_r", 0].call(-0.5)[1] == -1
