"""Kinds of values and conversions between them."""

from __future__ import annotations

import math

import pytest

from tests.transforms.jq.builtin_calls import Fails, Many, Row, check, name_of

ROWS: list[Row] = [
    ("length", "aé😀", [], 3),
    ("length", {"a": 1}, [], 1),
    ("length", [1, 2], [], 2),
    ("length", None, [], 0),
    ("length", -5, [], 5),
    ("length", True, [], Fails("boolean (true) has no length")),
    ("utf8bytelength", "aé😀", [], 7),
    ("utf8bytelength", 1, [], Fails("number (1) only strings have UTF-8 byte length")),
    ("not", None, [], True),
    ("not", 0, [], False),
    ("type", [], [], "array"),
    ("tostring", "a", [], "a"),
    ("tostring", [1, "a"], [], '[1,"a"]'),
    ("tonumber", "12.50", [], 12.5),
    ("tonumber", "9007199254740993", [], 9007199254740993),
    ("tonumber", 7, [], 7),
    ("tonumber", "", [], Fails('string ("") cannot be parsed as a number')),
    ("tonumber", None, [], Fails("null (null) cannot be parsed as a number")),
    ("toboolean", "true", [], True),
    ("toboolean", False, [], False),
    ("toboolean", "True", [], Fails('string ("True") cannot be parsed as a boolean')),
    ("toarray", [1], [], [1]),
    ("toarray", None, [], [None]),
    ("tojson", {"a": [1.0, None]}, [], '{"a":[1,null]}'),
    ("fromjson", "[1, 18446744073709551616]", [], [1, 18446744073709551616]),
    ("fromjson", 1, [], Fails("number (1) only strings can be parsed")),
    ("abs", -2.5, [], 2.5),
    ("abs", -(10**30), [], 10**30),
    ("abs", "a", [], "a"),
    ("abs", None, [], Fails("null (null) cannot be negated")),
    ("isnormal", 1, [], True),
    ("isnormal", 1e-310, [], False),
    ("isnormal", 0, [], False),
    ("isnormal", "a", [], False),
    ("isinfinite", -math.inf, [], True),
    ("isnan", math.nan, [], True),
    ("isnan", None, [], False),
    ("isfinite", math.inf, [], False),
    ("isfinite", 3, [], True),
    ("infinite", None, [], math.inf),
    ("nan", None, [], math.nan),
    ("have_decnum", None, [], True),
    ("have_literal_numbers", None, [], True),
    ("range", None, [3], Many([0, 1, 2])),
    ("range", None, [1.5], Many([0, 1])),
    ("range", None, [0.5, 3], Many([0.5, 1.5, 2.5])),
    ("range", None, [0, 10, 4], Many([0, 4, 8])),
    ("range", None, [5, 0, -2], Many([5, 3, 1])),
    ("range", None, [0, 1, 0.25], Many([0, 0.25, 0.5, 0.75])),
    ("range", None, [0, 10, 0], Many([])),
    ("range", None, [0, 10, -1], Many([])),
    ("range", None, ["", "aaa", "a"], Many(["", "a", "aa"])),
    ("range", None, [0, "a"], Fails("Range bounds must be numeric")),
    ("range", None, [2**64, 2**64 + 2], Many([2**64, 2**64 + 1])),
    ("normals", 0, [], Many([])),
    ("finites", math.inf, [], Many([])),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_kinds_and_conversions(row):
    check(row)
