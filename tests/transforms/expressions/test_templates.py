"""Templates: every form that flow files use, what text they render to, and what is an error."""

from __future__ import annotations

import re

import pytest

from connectors.errors import PermanentError
from transforms.expressions import (
    ExpressionError,
    compile_template,
    compile_value,
    parse_path,
)

CONTEXT = {
    "id": "e1",
    "type": "order",
    "operation": "INSERT",
    "urgency": None,
    "total": 12.5,
    "data": {
        "name": "Hello World",
        "big": 9007199254740993,
        "none": None,
        "no": False,
        "numbers": [1, 2, 3],
        "lines": [{"n": 1, "r": "north"}, {"n": 2, "r": "south"}, {"n": 2, "r": "north"}],
        "nested": [[1], [2, [3]]],
    },
    "headers": {"X-Request-Id": "r-7"},
    "trigger": {"destination": "Rome"},
    "steps": {
        "book-flight": {"output": {"booking_id": 9}},
        "parse-request": {"path_params": {"id": "42"}},
    },
    "x-1": "a name",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ .id }}", "e1"),
        ("{{.id}}", "e1"),
        ("{{ .steps.book-flight.output.booking_id }}", 9),
        ("{{ .steps.book-flight.output | json }}", '{"booking_id":9}'),
        ("{{ .headers.X-Request-Id }}", "r-7"),
        ("{{ .x-1 }}", "a name"),
        ("{{ .operation | lower }}", "insert"),
        ('{{index .steps "parse-request" "path_params" "id"}}', "42"),
        ('{{ index .data.lines 1 "n" }}', 2),
        ("{{ (index .data.lines 1).r }}", "south"),
        ("{{ .data.lines[0].n }}", 1),
        ('{{ trigger "destination" }}', "Rome"),
        ('{{ .urgency | default "normal" }}', "normal"),
        ('{{ .missing.deep | default "normal" | upper }}', "NORMAL"),
        ('{{ json (pluck .data.lines "n") }}', "[1,2,2]"),
        ('{{ json (unique (pluck .data.lines "r")) }}', '["north","south"]'),
        ('{{ json (groupBy .data.lines "n") }}', '{"1":[{"n":1,"r":"north"}],"2":[{"n":2,"r":"south"},{"n":2,"r":"north"}]}'),
        ('{{ sum .data.lines "n" }}', 5),
        ("{{ sum .data.numbers }}", 6),
        ("{{ min .data.numbers }}", 1),
        ('{{ max .data.lines "n" }}', 2),
        ('{{ sortBy .data.lines "r" | first | json }}', '{"n":1,"r":"north"}'),
        ("{{ flatten .data.nested }}", [1, 2, 3]),
        ("{{ last .data.numbers }}", 3),
        ("{{ len .data.numbers }}", 3),
        ("{{ length .data.name }}", 11),
        ('{{ .data.numbers | join "-" }}', "1-2-3"),
        ('{{ split "," "a,b" }}', ["a", "b"]),
        ('{{ replace "l" "L" .data.name }}', "HeLLo WorLd"),
        ('{{ contains "World" .data.name }}', True),
        ('{{ hasPrefix "He" .data.name }}', True),
        ('{{ hasSuffix "He" .data.name }}', False),
        ('{{ trimPrefix "He" .data.name }}', "llo World"),
        ('{{ trimSuffix "d" .data.name }}', "Hello Worl"),
        ('{{ trimSpace "  a " }}', "a"),
        ('{{ title "ada lovelace" }}', "Ada Lovelace"),
        ('{{ urlEncode "a b/c?é" }}', "a%20b%2Fc%3F%C3%A9"),
        ('{{ b64 "é" }}', "w6k="),
        ('{{ coalesce .missing .data.none "z" }}', "z"),
        ("{{ add 1 2 }}", 3),
        ("{{ sub 1 2 }}", -1),
        ("{{ mul 2 1.5 }}", 3.0),
        ("{{ div 6 3 }}", 2),
        ('{{ toInt "12" }}', 12),
        ("{{ toInt 3.9 }}", 3),
        ('{{ toFloat "1.5" }}', 1.5),
        ("{{ toString 12 }}", "12"),
        ('{{ eq .type "order" }}', True),
        ('{{ and (eq .type "order") (gt .total 12) }}', True),
        ("{{ not .data.no }}", True),
        ("{{ eq .id .id }}", True),
        ("{{ eq .id .type }}", False),
        ("{{ eq .type .id .data.name }}", False),
        ("{{ add .total .data.lines[0].n }}", 13.5),
        ("{{ coalesce .urgency .data.none .type }}", "order"),
        ("{{ .data .name }}", "Hello World"),
        ('{{ print .id 1 2 "x" }}', "e11 2x"),
        ("{{ println .id 1 }}", "e1 1\n"),
        ('{{ html "<a href=\\"x\\">" }}', "&lt;a href=&#34;x&#34;&gt;"),
        ('{{ js "it\'s <b>" }}', "it\\'s \\u003Cb\\u003E"),
        ("{{ slice .data.name 6 }}", "World"),
        ("{{ slice .data.numbers 1 2 }}", [2]),
        ('{{ printf "%s-%05d|%6.2f|%-4s|%q|%x|%t|%v%%" .id 42 .total .id .id 255 true .data.lines[0] }}', 'e1-00042| 12.50|e1  |"e1"|ff|true|{"n":1,"r":"north"}%'),
        ('{{ .data.big | printf "%d %.1f" 7 }}', "7 9007199254740993.0"),
        ("{{ .data.no }}", False),
        ("{{ .data.numbers }}", [1, 2, 3]),
        ("{{ .data.big }}", 9007199254740993),
        ("{{ .total > 12 }}", True),
        ("{{ .total + 1 }}", 13.5),
        ("{{ .data.numbers | map(. + 1) }}", [2, 3, 4]),
        ('{{ .data.numbers | map(tostring) | join("+") }}', "1+2+3"),
        ('{{ if .total > 3 then "big" else "small" end }}', "big"),
        ("{{ {a: {b: .id}} }}", {"a": {"b": "e1"}}),
        ("{{ {a: {b: .id}}}}", {"a": {"b": "e1"}}),
        ('{{ "}}" }}', "}}"),
        ("{{ `raw` }}", "raw"),
        ("{{ true }}", True),
        ("{{ .missing }}", None),
    ],
)  # fmt: skip
def test_a_single_expression_keeps_its_values_type(text, value):
    template = compile_template(text)

    found = template.render_value(CONTEXT)

    assert template.is_single
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("nothing to do", "nothing to do"),
        ("", ""),
        ("order {{ .id }}", "order e1"),
        ("responder-{{ .urgency }}-01", "responder--01"),
        ("cost: ${{ .total }}", "cost: $12.5"),
        ("{{ .id }}{{ .type }}", "e1order"),
        ("{{ 1e6 }}!", "1000000!"),
        ("{{ 1000000.0 }}!", "1000000!"),
        ("{{ 1e21 }}!", "1000000000000000000000!"),
        ("{{ 1e-7 }}!", "0.0000001!"),
        ("{{ -0.5 }}!", "-0.5!"),
        ("{{ .data.big }}!", "9007199254740993!"),
        ("{{ .data.no }}!", "false!"),
        ("{{ .data.none }}!", "!"),
        ("{{ .missing.deep }}!", "!"),
        ("{{ .data.numbers }}!", "[1,2,3]!"),
        ("{{ .steps.book-flight }}!", '{"output":{"booking_id":9}}!'),
        ("a }} b", "a }} b"),
    ],
)
def test_text_renders_values_as_people_write_them(text, rendered):
    assert compile_template(text).render(CONTEXT) == rendered


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http://x/{{ .data.customer_id }}", ".data.customer_id"),
        ("{{ .data.none }}", ".data.none"),
        ("{{ .id }}/{{ .steps.a-b.output }}", ".steps.a-b.output"),
    ],
)
def test_what_is_missing_is_an_error_where_the_field_needs_it(text, path):
    template = compile_template(text)

    with pytest.raises(PermanentError) as caught:
        template.render(CONTEXT, required=True)

    assert caught.value.code == "missing_value"
    assert path in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ .data.name.first }}", "Cannot index string"),
        ("{{ add .type 1 }}", "add expects a number"),
        ('{{ join "," .data.name }}', "join expects an array"),
        ("{{ div 1 (len .data.none) }}", "division by zero"),
        ('{{ printf "%d" .data.name }}', "%d is for whole numbers, found string"),
        ("{{ slice .data.name 3 99 }}", "there is no 3:99 in a length of 11"),
    ],
)
def test_a_value_that_does_not_fit_is_the_events_error_and_names_the_expression(text, said):
    with pytest.raises(PermanentError, match=said) as caught:
        compile_template(text).render(CONTEXT)

    assert text[3:-3] in caught.value.message


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("abc {{ .id", 4),
        ("abc {{ }}", 6),
        ("abc {{ foo }}", 7),
        ("abc {{ .a | bar }}", 12),
        ("abc {{ env.HOME }}", 7),
        ("{{ .id }} {{ $ENV }}", 13),
        ('{{ "never closed }}', 0),
    ],
)
def test_a_template_that_does_not_compile_says_where(text, position):
    with pytest.raises(ExpressionError) as caught:
        compile_template(text)

    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "position", "said", "hint"),
    [
        ("a {{ lower .a .b }}", 5, "lower takes 1 value, and is given 2", "parentheses"),
        ("a {{ .x | join }}", 10, "join takes 2 values, and is given 1", "comes last"),
        ("{{ min }}, {{ index }}", 14, "index takes at least 1 value, and is given 0", ""),
        ('{{ now "2006" "x" }}', 3, "now takes 0 to 1 values, and is given 2", ""),
        ('{{ toInt "abc" }}', 3, 'toInt expects a number, found string "abc"', ""),
        ("{{ .a }}{{ div 1 0 }}", 11, "division by zero", ""),
        ('{{ printf "%d %s" .a }}', 3, "a layout with 2 of %… is given 1 values", ""),
        ('{{ printf "%z" .a }}', 3, "%z is none of its verbs", ""),
        ("{{ upperr .x }}", 3, "upperr/0 is not defined", "Did you mean upper?"),
        ("{{ .a | lower | foo }}", 16, "foo/0 is not defined", ""),
        ("{{ .items | map(lower) }}", 16, "lower/0 is not defined", "a function of templates"),
        ("{{ if .x }}", 7, "", "if .total > 3 then"),
        ("{{ range .items }}", 3, "", "join"),
        ('{{ config "key" }}', 10, "", "${NAME}"),
        ('{{ env "KEY" }}', 7, "", "${NAME}"),
    ],
)
def test_a_function_that_is_unknown_or_given_other_values_is_told_at_load(
    text, position, said, hint
):
    with pytest.raises(ExpressionError) as caught:
        compile_template(text)

    assert said in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.position == position


def test_now_and_uuid_are_made_anew_for_each_event():
    now, uuid = compile_template("{{ now }}"), compile_template("{{ uuid }}")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now.render({}))
    assert re.fullmatch(r"\d{4}-\d\d", compile_template('{{ now "2006-01" }}').render({}))
    assert uuid.render({}) != uuid.render({})


def test_a_yaml_value_is_rendered_through_all_its_lists_and_mappings():
    template = compile_value(
        {"n": "{{ .data.big }}", "list": ["{{ .id }}", 1, None], "deep": {"text": "id {{ .id }}"}}
    )

    assert template.render(CONTEXT) == {
        "n": 9007199254740993,
        "list": ["e1", 1, None],
        "deep": {"text": "id e1"},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps.book-flight.output.booking_id", 9),
        (".steps.book-flight.output.booking_id", 9),
        ('steps["book-flight"].output', {"booking_id": 9}),
        ("data.lines[1].r", "south"),
        ("data.lines[-1].n", 2),
        ("trigger", {"destination": "Rome"}),
        ("missing.deep", None),
        (".", CONTEXT),
    ],
)
def test_paths_lead_to_values_with_or_without_a_leading_dot(text, value):
    assert parse_path(text).get(CONTEXT) == value


@pytest.mark.parametrize("text", ["", "a..b", "a b", "[0]", "a[", "a[x]", "a.", "1a", "a | b"])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ExpressionError):
        parse_path(text)
