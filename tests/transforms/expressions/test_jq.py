"""jq programs: what they give, what is refused, and what an error says."""

from __future__ import annotations

import orjson
import pytest

from connectors.batch import Batch
from connectors.errors import PermanentError
from transforms.executions import UNSET, Executions
from transforms.expressions import ExpressionError, compile_jq

CONTEXT = {
    "id": "e1",
    "data": {"total": 5, "big": 9007199254740993, "lines": [{"n": 2}, {"n": 3}], "name": "Ada"},
    "steps": {"shape": {"output": {"x": 1}}},
}


@pytest.mark.parametrize(
    ("program", "outputs"),
    [
        (".data.total", [5]),
        (".data.nothing.deeper", [None]),
        (".data.lines[1].n", [3]),
        (".data.lines[].n", [2, 3]),
        ("[.data.lines[].n] | add", [5]),
        (".data.lines | map(.n) | length", [2]),
        ("empty", []),
        ("{id, total: .data.total}", [{"id": "e1", "total": 5}]),
        (".data.total * 2 # doubled", [10]),
        ('"\\(.data.name)!"', ["Ada!"]),
        ('if .data.total > 3 then "big" else "small" end', ["big"]),
        (".data.nothing // 7", [7]),
        ("{env: 1, input: .id}", [{"env": 1, "input": "e1"}]),
        (".env", [None]),
        (". as {id: $env} | $env", ["e1"]),
        ('"env halt $ENV"', ["env halt $ENV"]),
        (".id # env", ["e1"]),
        (".id # a comment goes on behind a backslash \\\n| env", ["e1"]),
        ("[1e999999] | .[0]", [1.7976931348623157e308]),
    ],
)
def test_programs_give_all_their_outputs(program, outputs):
    assert compile_jq(program).run(CONTEXT) == outputs


def test_first_is_the_first_output_and_null_without_one():
    assert compile_jq(".data.lines[].n").first(CONTEXT) == 2
    assert compile_jq("empty").first(CONTEXT) is None


@pytest.mark.parametrize(
    "program",
    [".data.big", "[.data.big]", "{b: .data.big}", "[.data.big] | .[0]", ".data | {b: .big}"],
)
def test_integers_that_no_double_can_hold_stay_exact(program):
    assert "9007199254740993" in orjson.dumps(compile_jq(program).run(CONTEXT)).decode()


REFUSED = [
    ("env.HOME", 0),
    ("$ENV.HOME", 0),
    (".a | env", 5),
    ('"\\(env)"', 3),
    ('@base64 "x\\("\\($ENV)")"', 15),
    ("[1, env]", 4),
    ("{a: env}", 4),
    ("{(env | tostring): 1}", 2),
    ("[1] | .[0, halt:2]", 11),
    ("[1] | .[0,env:]", 10),
    ("input", 0),
    ("[inputs]", 1),
    ("debug", 0),
    ('debug("x")', 0),
    (".a | stderr", 5),
    ("input_filename", 0),
    ("input_line_number", 0),
    ("halt", 0),
    ('"x" | halt_error', 6),
    ("try halt_error catch .", 4),
    ('import "a" as a; 1', 0),
    ('include "a"; 1', 0),
    ('"a" | modulemeta', 6),
    ("get_search_list", 0),
    ('"\\(1 # )\n | env.PATH)"', 12),
    ('"\\(1 # "\n | env.PATH)"', 12),
]


@pytest.mark.parametrize(("program", "position"), REFUSED)
def test_what_reaches_outside_the_event_is_refused_at_its_place(program, position):
    with pytest.raises(ExpressionError) as caught:
        compile_jq(program)

    assert caught.value.position == position


@pytest.mark.parametrize(
    ("program", "position", "said"),
    [
        (".a b", 3, "expected an operator or the end of the program, found b"),
        ("foo(1)", 0, "foo/1 is not defined"),
        (".a |\n  bar", 7, "bar/0 is not defined"),
        ('.a == "x', 6, "string"),
        ("1) | (2", 1, "unexpected"),
        ("", 0, "nothing"),
        ("  # only this", 0, "nothing"),
        (".a\x00 | halt", 2, "character"),
    ],
)
def test_a_program_that_does_not_compile_says_where_and_why(program, position, said):
    with pytest.raises(ExpressionError, match=said) as caught:
        compile_jq(program)

    assert caught.value.position == position


@pytest.mark.parametrize(
    "program", [".data.name.first", ".data.lines | .[0] | .n | keys", 'error("no")', ".id[0] > 1"]
)
def test_a_runtime_error_names_program_and_reason(program):
    with pytest.raises(PermanentError) as caught:
        compile_jq(program).run(CONTEXT)

    assert caught.value.code == "jq_error"
    assert program in caught.value.message
    assert orjson.dumps(caught.value.context)


def test_an_output_that_no_event_can_hold_is_an_error_of_its_event():
    with pytest.raises(PermanentError, match="nested too deeply") as caught:
        compile_jq("[range(2000)] | reduce .[] as $x (1; [.])").run({})

    assert caught.value.code == "jq_limit"


def test_a_hyphenated_step_name_is_told_how_to_be_written():
    with pytest.raises(ExpressionError) as caught:
        compile_jq(".steps.book-flight.output")

    assert '["book-flight"]' in caught.value.hint
    context = {"steps": {"book-flight": {"output": 1}}}
    assert compile_jq('.steps["book-flight"].output').run(context) == [1]


def test_long_programs_and_values_are_shortened_in_errors():
    program = "{" + ", ".join(f"key{number}: .id" for number in range(100)) + "} | .key1.deeper"

    with pytest.raises(PermanentError) as caught:
        compile_jq(program).run({"id": "long " * 1000})

    assert len(caught.value.message) < 1000


def executions_of(data):
    size = len(data)
    return Executions(
        events=Batch(
            size,
            {
                "raw": [orjson.dumps(value) for value in data],
                "id": [f"e{number}" for number in range(size)],
                "source": ["/shop"] * size,
                "type": ["order"] * size,
                "partition": ["0"] * size,
                "position": [f"{number:020}" for number in range(size)],
            },
            after={},
        ),
        pipeline="orders",
    )


@pytest.mark.parametrize(
    "program",
    [
        ".data.total",
        ".data.total > 3",
        "{total, id, type, of: .trigger.data.total}",
        ".steps.shape.output.x",
        ".steps.shape",
        "[.steps.shape.output.x, .data.total] | add",
        ".data | keys",
        ".trigger.total",
        ".event.data.total",
        ".meta.flow",
        "keys",
        "[.. | numbers] | length",
        "select(.total > 3) | .id",
        "to_entries | map(.key) | sort",
        ". as $all | $all.data.total",
        'if .total > 3 then . else "small" end | type',
        ".total as $t | {t: $t, keys: (.data | keys)}",
        "reduce .steps.shape as $s (0; . + ($s.output.x // 0))",
        '"\\(.id) \\(.data.total)"',
        "try error(.data) catch .total",
        "{id, (.type): .data.total}",
        ".steps[.type]",
        '.["data"]["total"]',
        'has("data")',
        "path(..)|select(length==1)|.[0]",
        'getpath(["data","total"])',
        "[paths] | length",
        ".data.total |= . + 1 | .data.total",
        "del(.event) | keys",
        "def f: .data; f.total",
        "label $out | (.data.total, break $out)",
        ". as {data: {total: $t}} | $t",
        ".data | .total, ($__loc__ | .line)",
        "[.data, .steps] | length",
    ],
)
def test_a_column_gives_what_the_program_gives_for_each_context(program):
    executions = executions_of([{"total": 5}, {"total": 1}, {"total": 7, "id": "own"}])
    executions.outputs["shape"] = [{"x": 1}, UNSET, {"x": None}]
    executions.details["shape"] = [{"status": 200}, None, None]
    executions.base_meta = {"flow": "shop"}
    compiled = compile_jq(program)

    values, errors = compiled.column(executions, [0, 1, 2])

    assert not errors
    assert values == [compiled.first(executions.context(index)) for index in range(3)]


def test_a_column_keeps_each_events_error_apart():
    executions = executions_of([{"n": {"x": 1}}, {"n": "text"}, {"n": None}])
    for program in (".data.n.x", "{a: .data.n.x}", "[.data.n.x] | .[0]"):
        values, errors = compile_jq(program).column(executions, [0, 1, 2])

        assert list(errors) == [1]
        assert errors[1].code == "jq_error"
        assert len(values) == 3
        assert "1" in str(values[0])


def test_only_the_events_asked_for_are_evaluated():
    executions = executions_of([{"n": 1}, {"n": 2}, {"n": 3}])

    assert compile_jq(".data.n").column(executions, [2, 0])[0] == [3, 1]
    assert compile_jq("[.data.n] | add").column(executions, [2])[0] == [3]


@pytest.mark.parametrize("program", ["def f: f; f", "[range(1e12)]", "repeat(1)", "def f: [f]; f"])
def test_a_program_without_an_end_is_an_error_of_its_event(program):
    executions = executions_of([{"n": 1}])

    values, errors = compile_jq(program).column(executions, [0])

    assert values == [None]
    assert errors[0].code == "jq_limit"


def test_an_error_says_where_in_the_program_and_over_which_value():
    with pytest.raises(PermanentError) as caught:
        compile_jq(".data |\n  [.lines[] | .n.x]").run(CONTEXT)

    assert caught.value.context["line"] == 2
    assert caught.value.context["column"] == 17
    assert caught.value.context["value"] == "2"


def test_the_python_that_runs_can_be_read():
    assert "def column(" in compile_jq("{id, n: (.data.total + 1)}").source
