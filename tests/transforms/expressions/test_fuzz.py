"""Whatever somebody writes, compiling it gives a program or an ExpressionError with its place."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.errors import PermanentError
from transforms.expressions import (
    ExpressionError,
    compile_jq,
    compile_template,
    compile_value,
    parse_path,
)

PIECES = st.sampled_from(
    [
        "{{", "}}", "{", "}", "[", "]", "(", ")", "|", ",", ":", ";", ".", "..", "?", "?//", "//",
        "=", "==", "|=", "+", "-", "*", "/", "%", '"', "`", "\\", '\\("', "\\(", "#", "\n", " ", "$",
        "$x", "@json", "@", ".a", ".b-c", ".steps", "as", "if", "then", "end", "reduce", "def", "and",
        "not", "env", "halt", "input", "import", "index", "json", "default", "now", "join", "0", "1e9",
        "-1", "9" * 20, "é", "\x00", "\ud800", "\u2028", "'", "~", "null", "true",
    ]
)  # fmt: skip
WRITTEN = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(PIECES, max_size=8).map(lambda pieces: "{{ " + "".join(pieces) + " }}"),
)
FUZZ = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def compiled(compile_it, text):
    try:
        return compile_it(text)
    except ExpressionError as error:
        refused = error
    assert refused.message
    assert 0 <= refused.position <= len(str(text))
    return None


@FUZZ
@given(text=WRITTEN)
@example(text="{{ }}")
@example(text='{{ "}}" }}')
def test_templates_and_values(text):
    template = compiled(compile_template, text)
    compiled(compile_value, {"a": [text]})
    if template is not None:
        try:
            template.render({"a": {"b-c": 1}})
        except PermanentError as error:
            assert error.code  # noqa: PT017 - both outcomes are fine


@FUZZ
@given(text=WRITTEN)
def test_paths(text):
    path = compiled(parse_path, text)
    if path is not None:
        try:
            path.get({"a": [1], "b-c": {}})
        except PermanentError as error:
            assert error.code == "jq_error"  # noqa: PT017 - both outcomes are fine


@FUZZ
@given(text=WRITTEN)
def test_jq_programs(text):
    compiled(compile_jq, text)


DEEP = {
    "parentheses": "(" * 50_000 + "1" + ")" * 50_000,
    "brackets": "[" * 20_000 + "]" * 20_000,
    "objects": "{a:" * 2_000 + "1" + "}" * 2_000,
    "nots": "1" + " | not" * 20_000,
    "ands": "1" + " and 1" * 20_000,
    "fields": ".a" * 20_000,
    "subscripts": ".a" + "[0]" * 20_000,
    "strings": '"\\(' * 5_000 + "1" + ')"' * 5_000,
    "minuses": "-" * 20_000 + "1",
    "digits": "1" * 100_000,
    "compared digits": ".a == " + "9" * 5_000,
    "subscript of many digits": ".a[" + "9" * 5_000 + "]",
    "conditions": "if 1 then " * 3_000 + "1" + " end" * 3_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_is_far_too_long_or_deep_is_refused_or_fails_its_event(text):
    for compile_it in (compile_jq, compile_template, parse_path):
        compiled(compile_it, text)
        compiled(compile_it, "{{ " + text + " }}")
    program = compiled(compile_jq, text)
    if program is not None:
        try:
            program.run({"a": [1]})
        except PermanentError as error:
            assert error.code == "jq_error"  # noqa: PT017 - both outcomes are fine
