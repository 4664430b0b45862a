"""Regular expressions in Oniguruma's syntax."""

from __future__ import annotations

import pytest

from tests.transforms.jq.builtin_calls import Fails, Many, Row, check, name_of
from transforms.jq.builtins.regex import edits, match, matches, substituted
from transforms.jq.errors import JqError, TooLarge


def found(text, pattern, flags="g"):
    """Return offset and text of all matches."""
    return [(one["offset"], one["string"]) for one in match(text, pattern, flags)]


ROWS: list[Row] = [
    ("test", "abc", ["B"], False),
    ("test", "abc", [["B", "i"]], True),
    ("test", "abc", ["a.c", "x"], True),
    (
        "match",
        "xéyz",
        ["(?<n>é)(y)?(q)?"],
        Many(
            [
                {
                    "offset": 1,
                    "length": 2,
                    "string": "éy",
                    "captures": [
                        {"offset": 1, "length": 1, "string": "é", "name": "n"},
                        {"offset": 2, "length": 1, "string": "y", "name": None},
                        {"offset": -1, "string": None, "length": 0, "name": None},
                    ],
                }
            ]
        ),
    ),
    (
        "capture",
        "ab12",
        ["(?<l>[a-z]+)(?<d>\\d+)(?<x>z)?"],
        Many([{"l": "ab", "d": "12", "x": None}]),
    ),
    ("capture", "a1b2", ["(?<l>[a-z])\\d", "g"], Many([{"l": "a"}, {"l": "b"}])),
    ("scan", "abAB", ["b", "i"], Many(["b", "B"])),
    ("scan", "a1b2", ["([a-z])(\\d)"], Many([["a", "1"], ["b", "2"]])),
    ("split", "a1b22c", ["\\d+", None], ["a", "b", "c"]),
    ("split", "abc", ["", None], ["", "a", "b", "c", ""]),
    ("splits", "aXbxc", ["x", "i"], Many(["a", "b", "c"])),
    ("splits", "", [","], Many([""])),
    ("test", 1, ["a"], Fails("number (1) cannot be matched, as it is not a string")),
    ("test", "a", [1], Fails("number not a string or array")),
    ("test", "a", [[]], Fails("array not a string or array")),
    ("test", "a", [["a", 1]], Fails("number (1) is not a string")),
    ("test", "a", ["a", "q"], Fails("q is not a valid modifier string")),
    ("scan", "a", ["a", 1], Fails('string ("g") and number (1) cannot be added')),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_regular_expressions(row):
    check(row)


SEMANTICS = [
    ("a\nb", "^b", "g", []),
    ("a\nb", "(?m)^b", "g", [(2, "b")]),
    ("a\n", "a$", "g", [(0, "a")]),
    ("a\n", "a\\z", "g", []),
    ("a\n", "(?m)^", "g", [(0, "")]),
    ("a\nb", "a.b", "g", []),
    ("a\nb", "a.b", "gp", [(0, "a\nb")]),
    ("a\nb", "(?s)a.b", "g", [(0, "a\nb")]),
    ("aab", "a*", "g", [(0, "aa"), (2, ""), (3, "")]),
    ("aab", "a*", "gn", [(0, "aa")]),
    ("xab", "a|b*|x", "gn", [(0, "x"), (1, "a"), (2, "b")]),
    ("abab", "(a)?(?:b|\\1)*", "n", [(0, "abab")]),
    ("ab abc abcd", "ab|abc|abcd", "l", [(7, "abcd")]),
    ("éé", "", "g", [(0, ""), (1, ""), (2, "")]),
    ("foobar", "foo\\Kbar", "g", [(3, "bar")]),
    ("a-b", "\\Qa-b\\E", "g", [(0, "a-b")]),
    ("aaab", "a++ab|b", "g", [(3, "b")]),
    ("aaa", "a{2}?", "g", [(0, "aa")]),
    ("a{,2}", "a{,2}", "g", [(0, "a{,2}")]),
    ("vh", "\\v|\\h", "g", [(0, "v"), (1, "h")]),
    ("[&", "[[&&]", "g", [(0, "["), (1, "&")]),
    ("a]-", "[]-]", "g", [(1, "]"), (2, "-")]),
    ("((a))", "(?<p>\\((?:a|\\g<p>)\\))", "g", [(0, "((a))")]),
    ("abba", "(?<x>a)|(?<x>b)\\k<x>", "g", [(0, "a"), (1, "bb"), (3, "a")]),
    ("é1_-", "\\w", "g", [(0, "é"), (1, "1"), (2, "_")]),
    ("aß", "SS", "gi", [(1, "ß")]),
    ("aB", "a(?i)b", "g", [(0, "aB")]),
    ("aB", "(?i)a(?-i)b", "g", []),
    ("a b", "a b # comment", "gx", []),
    ("a b", "a\\ b # comment", "gx", [(0, "a b")]),
    ("$x", "[[:punct:]]|\\p{Punct}", "g", [(0, "$")]),
    ("x1 ", "[[:^alpha:]]", "g", [(1, "1"), (2, " ")]),
    ("日a", "\\p{Han}|\\P{^Alpha}", "g", [(0, "日"), (1, "a")]),
    ("aé", "\\xC3\\xA9|\\141", "g", [(0, "a"), (1, "é")]),
    ("\r\n", "\\R", "g", [(0, "\r\n")]),
    ("xxabc", "(?~abc)", "", [(0, "xx")]),
    ("abc", "(a)?b(?(1)c|d)", "", [(0, "abc")]),
    ("a**", "a**", "", [(0, "a")]),
    ("x", "(*FAIL)|x", "", [(0, "x")]),
    ("a\0b", "\\0", "", [(1, "\0")]),
]


@pytest.mark.parametrize(("text", "pattern", "flags", "wanted"), SEMANTICS)
def test_patterns_mean_what_they_mean_to_oniguruma(text, pattern, flags, wanted):
    assert found(text, pattern, flags) == wanted


WRONG = [
    ("(a", "end pattern with unmatched parenthesis"),
    ("a)", "unmatched close parenthesis"),
    ("[a", "premature end of char-class"),
    ("[]", "empty char-class"),
    ("[b-a]", "empty range in char class"),
    ("[a-\\d]", "char-class value at end of range"),
    ("[[:nope:]]", "invalid POSIX bracket type"),
    ("*a", "target of repeat operator is not specified"),
    ("^*", "target of repeat operator is invalid"),
    ("a{2,1}", "upper is smaller than lower in repeat range"),
    ("a{100001}", "too big number for repeat range"),
    ("\\", "end pattern at escape"),
    ("(?", "end pattern in group"),
    ("(?P<x>a)", "undefined group option"),
    ("(?<>a)", "group name is empty"),
    ("(?<1>a)", "invalid group name <1>"),
    ("\\1", "invalid backref number/name"),
    ("\\k<x>", "undefined name <x> reference"),
    ("\\p{Nope}", "invalid character property name {Nope}"),
    ("(?<x>\\g<x>?a)", "never ending recursion"),
    ("(" * 5000, "parse depth limit over"),
]


@pytest.mark.parametrize(("pattern", "said"), WRONG, ids=[pattern[:20] for pattern, _ in WRONG])
def test_a_wrong_pattern_is_said_in_oniguruma_s_words(pattern, said):
    with pytest.raises(JqError) as failed:
        match("abc", pattern)
    assert failed.value.value == f"Regex failure: {said}"


@pytest.mark.parametrize("pattern", ["\\y", "(?{code})", "(*MAX{1})", "(?~|a|b)"])
def test_what_is_not_supported_is_refused(pattern):
    with pytest.raises(JqError, match="not supported"):
        matches("abc", pattern)


def test_a_search_that_does_not_end_is_given_up_and_not_caught(monkeypatch):
    monkeypatch.setattr("transforms.jq.builtins.regex.MATCH_SECONDS", 0.05)
    with pytest.raises(TooLarge, match=r"more than 0\.05 s"):
        matches("ab" * 40 + "c", "^(?:(a|b|ab)+)+\\1$")


def test_the_captures_of_an_empty_match_are_shown_empty():
    (one,) = match("xa", "(?=(a))")
    assert one["captures"] == [{"offset": 1, "length": 0, "string": "", "name": None}]


def test_substitution_joins_the_text_between_with_each_replacement():
    one = edits("a1b2c", "(?<d>\\d)", "g")
    assert (one.gaps, one.captures, one.rest) == (["a", "b"], [{"d": "1"}, {"d": "2"}], "c")
    assert substituted("a1b2c", one, [["<1>"], ["<2>"]]) == ["a<1>b<2>c"]
    assert substituted("a1b2c", one, [["x", "y"], ["z"]]) == ["axbzc", "ayc"]
    assert substituted("a1b2c", one, [[], []]) == ["a1b2c"]
    assert substituted("abc", edits("abc", "x"), []) == ["abc"]
    with pytest.raises(JqError, match="cannot be added"):
        substituted("a1b2c", one, [[1], []])
