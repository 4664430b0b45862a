"""The formats behind `@`."""

from __future__ import annotations

import math

import pytest

from tests.transforms.jq.builtin_calls import Fails, Row, check, name_of
from transforms.jq.builtins import FORMATS

ROWS: list[Row] = [
    ("format", [1, "a"], ["text"], '[1,"a"]'),
    ("format", "a", ["json"], '"a"'),
    ("format", [1, 'a"b', None, True, 2.50], ["csv"], '1,"a""b",,true,2.5'),
    ("format", [math.nan, math.inf], ["csv"], ",1.7976931348623157e+308"),
    (
        "format",
        ["a\tb", "c\\d", "e\nf\r", False, None],
        ["tsv"],
        "a\\tb\tc\\\\d\te\\nf\\r\tfalse\t",
    ),
    ("format", 1, ["csv"], Fails("number (1) cannot be csv-formatted, only array")),
    ("format", {}, ["tsv"], Fails("object ({}) cannot be tsv-formatted, only array")),
    ("format", [[1]], ["tsv"], Fails("array ([1]) is not valid in a csv row")),
    ("format", "<&'\">", ["html"], "&lt;&amp;&apos;&quot;&gt;"),
    ("format", "é ü-_.~!*'()/", ["uri"], "%C3%A9%20%C3%BC-_.~%21%2A%27%28%29%2F"),
    ("format", "%C3%A9+%20%41", ["urid"], "é+ A"),
    ("format", "%C3", ["urid"], Fails('string ("%C3") is not a valid uri encoding')),
    ("format", "%4", ["urid"], Fails('string ("%4") is not a valid uri encoding')),
    ("format", "it's", ["sh"], "'it'\\''s'"),
    ("format", [1, "a b", None], ["sh"], "1 'a b' null"),
    ("format", [[1]], ["sh"], Fails("array ([1]) can not be escaped for shell")),
    ("format", "é", ["base64"], "w6k="),
    ("format", 12, ["base64"], "MTI="),
    ("format", "w6k=", ["base64d"], "é"),
    ("format", "w6k", ["base64d"], "é"),
    ("format", "YWJj=junk", ["base64d"], "abc"),
    ("format", "gICA", ["base64d"], "\ufffd\ufffd\ufffd"),
    ("format", "4oI=", ["base64d"], "\ufffd"),
    ("format", "!", ["base64d"], Fails('string ("!") is not valid base64 data')),
    ("format", "a", ["base64d"], Fails('string ("a") trailing base64 byte found')),
    ("format", "abc", ["base32"], "MFRGG==="),
    ("format", "MFRGG===", ["base32d"], "abc"),
    ("format", "1", ["base32d"], Fails('string ("1") is not valid base32 data')),
    ("format", "a\0b", ["html"], "a\\0b"),
    ("format", "a", ["nope"], Fails("nope is not a valid format")),
    ("format", "a", [1], Fails("number (1) is not a valid format")),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_formats(row):
    check(row)


def test_formats_have_inverses():
    for text in ("", "a", "aé😀\n", "x" * 100):
        for name, inverse in (("base64", "base64d"), ("base32", "base32d"), ("uri", "urid")):
            assert FORMATS[inverse](FORMATS[name](text)) == text
