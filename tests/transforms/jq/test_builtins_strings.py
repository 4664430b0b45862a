"""Text: searching, cutting, joining, code points."""

from __future__ import annotations

import pytest

from tests.transforms.jq.builtin_calls import Fails, Row, check, name_of

ROWS: list[Row] = [
    ("startswith", "abc", ["ab"], True),
    ("startswith", "abc", ["b"], False),
    ("startswith", 1, ["a"], Fails("startswith() requires string inputs")),
    ("endswith", "abc", ["bc"], True),
    ("endswith", "abc", [1], Fails("endswith() requires string inputs")),
    ("ltrimstr", "aab", ["a"], "ab"),
    ("ltrimstr", "aab", ["b"], "aab"),
    ("rtrimstr", "abb", ["b"], "ab"),
    ("rtrimstr", "abb", [""], "abb"),
    ("trimstr", "aba", ["a"], "b"),
    ("trimstr", "a", ["a"], ""),
    ("ltrimstr", 1, ["a"], Fails("startswith() requires string inputs")),
    ("trim", "\t a\u00a0\u3000", [], "a"),
    ("trim", "\x1ca", [], "\x1ca"),
    ("ltrim", " a ", [], "a "),
    ("rtrim", " a ", [], " a"),
    ("trim", [], [], Fails("trim input must be a string")),
    ("split", "a, b,c", [", "], ["a", "b,c"]),
    ("split", "", [","], []),
    ("split", "ab", [""], ["a", "b"]),
    ("split", "a", [None], Fails("split input and separator must be strings")),
    ("explode", "a😀", [], [97, 128512]),
    ("explode", None, [], Fails("explode input must be a string")),
    ("implode", [97, 233, 128512], [], "aé😀"),
    ("implode", [0xD800, 0x110000, -1, 65.9], [], "\ufffd\ufffd\ufffdA"),
    (
        "implode",
        ["a"],
        [],
        Fails('string ("a") can\'t be imploded, unicode codepoint needs to be numeric'),
    ),
    ("implode", "a", [], Fails("implode input must be an array")),
    ("ascii", 65, [], "A"),
    ("ascii_downcase", "AÉb", [], "aÉb"),
    ("ascii_upcase", "aéB", [], "AéB"),
    ("ascii_upcase", 1, [], Fails("explode input must be a string")),
    ("join", ["a", None, 1.0, False, "b"], ["-"], "a--1-false-b"),
    ("join", [], [","], ""),
    ("join", {"x": "a", "y": "b"}, ["+"], "a+b"),
    ("join", ["a", "b"], [None], "ab"),
    ("join", ["a"], [1], "a"),
    ("join", ["a", "b"], [1], Fails('string ("a") and number (1) cannot be added')),
    ("join", ["a", [1]], [","], Fails('string ("a,") and array ([1]) cannot be added')),
    ("join", "a", [","], Fails('Cannot iterate over string ("a")')),
    ("indices", "a😀b😀", ["😀"], [1, 3]),
    ("indices", "aaa", ["aa"], [0, 1]),
    ("indices", "abc", [""], []),
    ("indices", [1, 2, 1], [1], [0, 2]),
    ("indices", [1, 2, 1, 2], [[1, 2]], [0, 2]),
    ("indices", [1], [[]], []),
    ("indices", None, ["a"], None),
    ("indices", "abc", [1], Fails("Cannot index string with number (1)")),
    ("index", "abcb", ["b"], 1),
    ("index", "abc", ["x"], None),
    ("index", [0, 1, 1], [1], 1),
    ("rindex", "abcb", ["b"], 3),
    ("rindex", [1, 1, 0], [1], 1),
    ("rindex", [0], [1], None),
    ("_strindices", 123, ["abc"], Fails("number (123) cannot be searched, as it is not a string")),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_text(row):
    check(row)
