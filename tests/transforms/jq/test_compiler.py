"""Programs as Python: what runs, where it fails, and what it leaves alone."""

from __future__ import annotations

import pytest

from connectors.errors import PermanentError
from transforms.jq import compile_program

ORDER = {"id": 7, "lines": [{"n": 2, "p": 1.5}, {"n": 3, "p": 2}], "tags": {"a": None, "b": True}}


def run(program, value=None):
    return compile_program(program).outputs(value)


@pytest.mark.parametrize(
    ("program", "outputs"),
    [
        ("{id, sum: ([.lines[] | .n * .p] | add)}", [{"id": 7, "sum": 9}]),
        (".lines[].n", [2, 3]),
        ("[.lines[] | select(.p > 1.7) | .n]", [[3]]),
        (".lines | map(.n) | first, last", [2, 3]),
        (".tags | to_entries[] | select(.value) | .key", ["b"]),
        ("[paths | select(length == 3)] | length", [4]),
        ("[.. | numbers] | length", [5]),
        ("[limit(2; .lines[], 1, error)] | length", [2]),
        ("first(.lines[] | select(.n > 2)).n", [3]),
        ("any(.lines[]; .n == 3), all(.lines[]; .n > 2)", [True, False]),
        ("[foreach .lines[] as {$n} (0; . + $n)]", [[2, 5]]),
        ("(reduce 1 as $n (.; .missing)) as {id: $i, tags: $t} | [$i, $t]", [[None, None]]),
        ("reduce .lines[] as {n: $n} (1; . + $n, . * 10)", [100]),
        ("[.lines[] as {$n, $p} | $n - $p]", [[0.5, 1]]),
        ("[label $out | .lines[] | ., break $out] | length", [1]),
        ("def f: if . > 100 then . else . * 2 | f end; .id | f", [112]),
        ("def f(g): [g, g]; f(.lines[].n)", [[2, 3, 2, 3]]),
        (
            "def f(g): if . > 2 then [g] else . + 1 | f(g | g) end; 0 | [f(. + 1)] | .[0] | length",
            [1],
        ),
        ("[recurse(if . < 9 then . * 3 else empty end)?]", [[ORDER]]),
        ('"\\(.id): \\(.tags)"', ['7: {"a":null,"b":true}']),
        ('@csv "\\([.id, "x"])"', ['7,"x"']),
    ],
)
def test_outputs_in_order(program, outputs):
    assert run(program, ORDER) == outputs


@pytest.mark.parametrize(
    ("program", "changed"),
    [
        (".id += 1", {"id": 8}),
        (".lines[].n |= . * 10", {"lines": [{"n": 20, "p": 1.5}, {"n": 30, "p": 2}]}),
        (".lines |= map(.n)", {"lines": [2, 3]}),
        ("(.lines[] | select(.n > 2)).p = 0", {"lines": [{"n": 2, "p": 1.5}, {"n": 3, "p": 0}]}),
        (".lines[1:] |= map(.n)", {"lines": [{"n": 2, "p": 1.5}, 3]}),
        ("(.lines[] | select(.n == 2)) |= empty", {"lines": [{"n": 3, "p": 2}]}),
        (".tags.a //= 5", {"tags": {"a": 5, "b": True}}),
        (".new.deep[1] = 1", {"new": {"deep": [None, 1]}}),
        ("def at: .id; at |= . + 1", {"id": 8}),
    ],
)
def test_an_assignment_changes_its_place_and_not_the_event(program, changed):
    before = repr(ORDER)

    assert run(program, ORDER) == [{**ORDER, **changed}]
    assert repr(ORDER) == before


@pytest.mark.parametrize(
    ("program", "line", "column", "said"),
    [
        (".id.x", 1, 4, 'Cannot index number with string \\("x"\\): the value is 7'),
        ("[.lines[]\n  | .n.deep]", 2, 7, "Cannot index number"),
        ("{a: .id,\n b: (.tags | keys + 1)}", 2, 19, "cannot be added"),
        (".id | error", 1, 7, "error\\(7\\)"),
        ('error("no stock")', 1, 1, "no stock"),
        ("def f: .id | keys; f", 1, 14, "has no keys"),
        ("path(.id | tostring)", 1, 1, "Invalid path expression"),
    ],
)
def test_an_error_has_its_place_in_the_program(program, line, column, said):
    with pytest.raises(PermanentError, match=said) as caught:
        run(program, ORDER)

    assert (caught.value.context["line"], caught.value.context["column"]) == (line, column)


@pytest.mark.parametrize(
    ("program", "outputs"),
    [
        ("[.[] | try . catch 0] | error?", []),
        ("try (1, error(2), 3) catch .", [1, 2]),
        ("[.[] | (tonumber? // 0)]", [[1, 0]]),
        ("try (try . catch 1 | error(2)) catch .", [2]),
        ("(.[] | try . catch 1) | try error catch .", ["1", "x"]),
        ("try error(null) catch .", [None]),
        ("label $f | try (break $f) catch 1", [1]),
    ],
)
def test_try_catches_what_its_body_raises_and_nothing_downstream(program, outputs):
    assert run(program, ["1", "x"]) == outputs


def test_a_long_tail_recursion_is_a_loop():
    assert run("def down: if . == 0 then . else . - 1 | down end; 50000 | down") == [0]
    assert run("[limit(3; def up: ., (. + 1 | up); 0 | up)]") == [[0, 1, 2]]
    assert run("last(def up: if . < 20000 then ., (. + 1 | up) else empty end; 0 | up)") == [19999]


def test_a_number_beyond_doubles_that_meets_a_double_is_the_largest_double():
    assert run(". * 1.5", 10**400) == [1.7976931348623157e308]
    assert run(". * 2", 10**30) == [2 * 10**30]


def test_constants_that_look_like_names_of_generated_code_stay_constants():
    assert run('[.[] | {"v1": ., "s2 = 3": "r0 \\u0001 \\"quoted\\" {x}"}] | .[0]', [1]) == [
        {"v1": 1, "s2 = 3": 'r0 \x01 "quoted" {x}'}
    ]


def test_a_context_is_read_place_by_place():
    compiled = compile_program("{a: .trigger.total, b: .steps.x.output, c: .data.n}", context=True)

    assert compiled.reads == (("trigger", "total"), ("steps", "x", "output"), ("data",))
    assert compiled.over(1, 2, {"n": 3}) == [{"a": 1, "b": 2, "c": 3}]
    assert "def column(" in compiled.source


def test_a_program_is_compiled_once():
    assert compile_program(".a") is compile_program(".a")
