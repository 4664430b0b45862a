"""Values as JSON text, as jq writes and reads them."""

from __future__ import annotations

import math

import pytest

from transforms.jq.errors import JqError
from transforms.jq.json_text import from_json, number_from_text, number_text, shortened, to_json

WRITTEN = [
    (None, "null"),
    (True, "true"),
    (0, "0"),
    (-0.0, "-0"),
    (3.0, "3"),
    (2.5, "2.5"),
    (1e-5, "1e-05"),
    (0.0001, "0.0001"),
    (1e16, "1e+16"),
    (1.2e16, "12000000000000000"),
    (123456789012345680.0, "123456789012345680"),
    (-1.5e300, "-1.5e+300"),
    (5e-324, "5e-324"),
    (math.nan, "null"),
    (math.inf, "1.7976931348623157e+308"),
    (-math.inf, "-1.7976931348623157e+308"),
    (10**40 + 1, "1" + "0" * 39 + "1"),
    ('é"\\\n\x01\x7f😀', '"é\\"\\\\\\n\\u0001\\u007f😀"'),
    ([1, [2.0, "a"], {}], '[1,[2,"a"],{}]'),
    ({"b": 1, "a": [None, False]}, '{"b":1,"a":[null,false]}'),
    (["x.0", 1.05, 1e17], '["x.0",1.05,1e+17]'),
    ([{"a": 1.0}, {"b\x7f": []}], '[{"a":1},{"b\\u007f":[]}]'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_a_value_is_written_as_jq_writes_it(value, text):
    assert to_json(value) == text


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_ten_thousand_levels_are_written_and_deeper_ones_said_to_be_skipped():
    assert "skipped" not in to_json(nested(10_000))
    assert to_json(nested(10_001)).count("<skipped: too deep>") == 1


def test_a_wide_array_of_objects_is_not_taken_for_a_deep_one():
    value = [{"id": number} for number in range(10_050)]
    assert from_json(to_json(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        ("twenty-eight characters here", '"twenty-eight characters ..."'),
        (list(range(20)), "[0,1,2,3,4,5,6,7,8,9,10,1...]"),
        ({"key": "a value that is long"}, '{"key":"a value that is l...}'),
        (12345678901234567890123456789012, "12345678901234567890123456..."),
        ("日本語日本語日本語日本語", '"日本語日本語日本..."'),
        ([[]] * 3, "[[],[],[]]"),
    ],
)
def test_an_error_shows_at_most_29_bytes_of_a_value(value, shown):
    assert shortened(value) == shown


def test_showing_a_large_value_does_not_write_all_of_it():
    endless = []
    endless.append(endless)
    assert shortened(endless) == "[" * 25 + "...]"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("+1", 1),
        ("-7", -7),
        (".5", 0.5),
        ("5.", 5),
        ("1e2", 100),
        ("1.5E-1", 0.15),
        ("00012", 12),
        ("9" * 40, 10**40 - 1),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
        ("1e1000", math.inf),
    ],
)
def test_text_of_a_number(text, number):
    assert number_from_text(text) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "0x10", "1_000", "1e", "-", "e5", "\uff11", "NaN1", "1,5"]
)
def test_text_that_is_no_number(text):
    assert number_from_text(text) is None


def test_minus_zero_and_nan_have_names_too():
    assert number_text(number_from_text("-0")) == "-0"
    assert math.isnan(number_from_text("NaN"))


def test_an_integer_of_more_than_4300_digits_becomes_a_double():
    assert number_from_text("1" * 4300) == int("1" * 4300)
    assert number_from_text("1" * 4301) == math.inf


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1,2.5,null]}', {"a": [1, 2.5, None]}),
        ("  true ", True),
        ("18446744073709551617", 18446744073709551617),
        ("[9007199254740993]", [9007199254740993]),
        ('"\\ud83d\\ude00 \\u00e9"', "😀 é"),
        ('[1234567890123456,"\\ud83d\\ude00"]', [1234567890123456, "😀"]),
        ('"\\udc00"', "\ufffd"),
        ("01", 1),
        ("[+1,.5]", [1, 0.5]),
        ("\ufeff[1]", [1]),
    ],
)
def test_json_is_read_with_all_digits(text, value):
    assert from_json(text) == value


WRONG = [
    ("", "Expected JSON value"),
    ("[1,2", "Unfinished JSON term at EOF at line 1, column 4"),
    ('"abc', "Unfinished string at EOF at line 1, column 4"),
    ('{"a" 1}', "Expected separator between values at line 1, column 7"),
    ("{1:2}", "Object keys must be strings at line 1, column 3"),
    ("]", "Unmatched ']' at line 1, column 1"),
    ("}", "Unmatched '}' at line 1, column 1"),
    ("[1,]", "Expected another array element at line 1, column 4"),
    ('{"a":1,}', "Expected another key-value pair at line 1, column 8"),
    ('{"a"}', "Objects must consist of key:value pairs at line 1, column 5"),
    ("[,]", "Expected value before ',' at line 1, column 2"),
    ("1,2", "Expected value before ',' at line 1, column 2"),
    (":", "Expected string key before ':' at line 1, column 1"),
    ("[1,\n2x]", "Invalid numeric literal at line 2, column 3"),
    ("tru", "Invalid literal at EOF at line 1, column 3"),
    ("1 2", "Unexpected extra JSON values"),
    ("1 }", "Unmatched '}' at line 1, column 3"),
    ('"\\x"', "Invalid escape at line 1, column 4"),
    ('"\\u12"', "Invalid \\uXXXX escape at line 1, column 6"),
    ('"\\u12zz"', "Invalid characters in \\uXXXX escape at line 1, column 8"),
    ('"\\ud800"', "Invalid \\uXXXX\\uXXXX surrogate pair escape at line 1, column 8"),
    (
        '[1234567890123456,"\\ud800"]',
        "Invalid \\uXXXX\\uXXXX surrogate pair escape at line 1, column 26",
    ),
    (
        '"\t"',
        "Invalid string: control characters from U+0000 through U+001F must be escaped at line 1, column 3",
    ),
    ("{'a':1}", "Invalid string literal; expected \", but got ' at line 1, column 5"),
    ('"é" x', "Invalid numeric literal at EOF at line 1, column 6"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[repr(text) for text, _ in WRONG])
def test_what_is_no_json_is_said_with_its_place(text, said):
    with pytest.raises(JqError) as failed:
        from_json(text)
    assert failed.value.value == f"{said} (while parsing '{text}')"


def test_json_is_read_ten_thousand_levels_deep_and_no_deeper():
    assert to_json(from_json("[" * 10_000 + "]" * 10_000)).count("[") == 10_000
    with pytest.raises(JqError, match="Exceeds depth limit for parsing at line 1, column 10001"):
        from_json("[" * 10_001 + "]" * 10_001)
