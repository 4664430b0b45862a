"""`step.js` on the real engine: what goes in and comes out, what fails, what stays behind."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from pydantic import ValidationError

from connectors.batch import Batch, Change
from connectors.errors import FlowFileError, PermanentError
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.steps.js import JS


def function(body):
    return f"function transform(ctx) {{ {body} }}"


def executions_of(data, **columns):
    size = len(data)
    fixed = {
        "data": data,
        "id": [f"e{number}" for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order"] * size,
        "partition": ["0"] * size,
        "position": [str(number) for number in range(size)],
    }
    return Executions(events=Batch(size, fixed | columns, after={}), pipeline="orders")


@pytest.fixture
def make(tmp_path):
    steps = []

    def made(**config):
        env = StepEnvironment(
            flow="shop", pipeline="orders", name="shape", number=0, folder=tmp_path
        )
        steps.append(JS.make(JS.settings.model_validate(config), env))
        return steps[-1]

    yield made
    for step in steps:
        step.close()


@pytest.fixture
def run(make):
    def ran(code, data, **config):
        executions = executions_of(data)
        return make(code=code, **config).run(executions, range(len(data))), executions.failures

    return ran


def sandboxes():
    return [
        child
        for child in psutil.Process().children()
        if any("js_sandbox" in part for part in child.cmdline())
    ]


def test_the_function_sees_the_context_that_expressions_see(make):
    executions = executions_of([{"total": 7, "id": "mine"}])
    executions.outputs["book-flight"] = [{"seat": "1A"}]
    executions.details["book-flight"] = [{"status": 201}]
    executions.base_meta["flow"] = "shop"
    step = make(
        code=function(
            """return {
              whole: ctx.data, field: ctx.total, id: ctx.id, type: ctx.type,
              trigger: ctx.trigger.data.total, envelope: ctx.event.id,
              step: ctx.steps["book-flight"].output.seat, status: ctx.steps["book-flight"].status,
              flow: ctx.meta.flow, none: "before" in ctx,
            };"""
        )
    )

    assert step.run(executions, [0]) == [
        {
            "whole": {"total": 7, "id": "mine"},
            "field": 7,
            "id": "mine",
            "type": "order",
            "trigger": 7,
            "envelope": "e0",
            "step": "1A",
            "status": 201,
            "flow": "shop",
            "none": False,
        }
    ]


def test_the_context_is_the_one_of_jq_key_by_key(make):
    executions = executions_of([{"total": 7, "data": 1, "type": "shadowed"}])
    executions.outputs["a"] = [[1]]

    (seen,) = make(code=function("return ctx")).run(executions, [0])

    assert seen == executions.context(0)


def test_a_change_shows_before_after_and_operation(make):
    change = Change("UPDATE", {"a": 1}, {"a": 2})
    executions = executions_of([{"a": 2}], change=[change])

    found = make(code=function("return [ctx.operation, ctx.before.a, ctx.trigger.after.a]")).run(
        executions, [0]
    )

    assert found == [["UPDATE", 1, 2]]


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**63 - 1, 2**64, 10**39 + 1])
def test_integers_too_long_for_a_number_are_bigints_and_lose_no_digit(run, number):
    found, failures = run(
        function("return {same: ctx.data.n, more: ctx.data.n + 1n, kind: typeof ctx.data.n}"),
        [{"n": number}],
    )

    assert failures == {}
    assert found == [{"same": number, "more": number + 1, "kind": "bigint"}]


def test_a_bigint_mixed_with_a_number_is_an_error_and_not_a_rounded_one(run):
    _, failures = run(function("return ctx.data.n + 1"), [{"n": 2**60}])

    assert failures[0].code == "js_error"
    assert "BigInt" in failures[0].message


def test_values_come_out_as_json_would_have_them(run):
    found, failures = run(
        function(
            "return [undefined, null, 0.1, -7, 'é\\u2028', [[]], new Date(0), {a: undefined, b: 2n}]"
        ),
        [{}],
    )

    assert failures == {}
    assert found == [
        [None, None, 0.1, -7, "é\u2028", [[]], "1970-01-01T00:00:00.000Z", {"b": 2}],
    ]
    assert run(function(""), [{}])[0] == [None]


@pytest.mark.parametrize(
    ("body", "said", "line"),
    [
        ("\n\nreturn ctx.data.no.more", "cannot read property 'more' of undefined", 3),
        ("\nthrow new RangeError('too much')", "RangeError: too much", 2),
        ("const e = new Error('mine'); e.name = 'Mine'; throw e", "Mine: mine", 1),
        ("throw {why: 1}", 'it threw {"why":1}', None),
        ("leaked = 1", "leaked is not defined", 1),
        ("return transform(ctx)", "call stack", 1),
        ("const a = {}; a.a = a; return a", "circular", None),
        ("return (async () => 1)()", "Promise", None),
    ],
)
def test_what_it_throws_fails_its_event_with_the_line(run, body, said, line):
    found, failures = run(function(body), [{}])

    assert found == [UNSET]
    assert isinstance(failures[0], PermanentError)
    assert failures[0].code == "js_error"
    assert said in failures[0].message
    assert failures[0].context["line"] == line


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("while (true) {}", "js_timeout"),
        ("try { while (true) {} } catch { return 1 } finally { while (true) {} }", "js_timeout"),
        ("return /(a+)+$/.test('a'.repeat(40) + 'b')", "js_timeout"),
        ("(async () => { await 1; while (true) {} })()", "js_timeout"),
        ("const all = []; for (;;) all.push('x'.repeat(1000) + all.length)", "js_memory"),
        ("return 'x'.repeat(2 ** 29)", "js_memory"),
        ("return new Array(1e9).fill(0)", "js_memory"),
    ],
)
def test_a_runaway_is_its_events_failure_and_the_next_event_is_fine(run, body, code):
    found, failures = run(
        function(f"if (ctx.data) {{ {body} }} return 'fine'"),
        [False, True, False],
        timeout="200ms",
        memory_limit="16MB",
    )

    assert [found[0], found[2]] == ["fine", "fine"]
    assert {index: error.code for index, error in failures.items()} == {1: code}
    assert isinstance(failures[1], PermanentError)


def test_nothing_of_one_event_is_there_for_the_next(run):
    code = """
      let calls = 0;
      class Counter { static count = 0 }
      function tried(what) { try { what(); return "left" } catch { return "refused" } }
      function transform(ctx) {
        calls += 1;
        Counter.count += 1;
        return [
          calls, Counter.count,
          tried(() => { globalThis.mine = 1 }), tried(() => { Array.prototype.mine = 1 }),
          tried(() => { JSON.parse = null }), tried(() => { Math.mine = 1 }),
          tried(() => { Object.getPrototypeOf(function* () {}).mine = 1 }),
          tried(() => { Object.prototype.toString = null }),
          tried(() => { eval("1") }), tried(() => { new Function("mine = 1")(); mine }),
        ];
      }"""

    found, failures = run(code, [1, 2])

    assert failures == {}
    assert found == [[1, 1] + ["refused"] * 8] * 2


def test_objects_of_its_own_may_still_have_what_their_prototypes_have(run):
    found, failures = run(
        function(
            """const it = {}; it.toString = () => "mine"; it.constructor = 1;
            class Wrong extends Error { constructor() { super("x"); this.name = "Wrong"; this.message = "y" } }
            return [String(it), new Wrong().name, new Wrong().message, `${new Wrong()}`]"""
        ),
        [{}],
    )

    assert failures == {}
    assert found == [["mine", "Wrong", "y", "Wrong: y"]]


def test_nothing_outside_can_be_reached(run):
    names = ["std", "os", "require", "process", "fetch", "setTimeout", "print", "Deno", "load"]
    listed = ", ".join(f"typeof {name}" for name in names)

    found, _ = run(function(f"return [{listed}]"), [{}])

    assert found == [["undefined"] * len(names)]
    assert run(function("import('os')"), [{}])[0] in ([None], [UNSET])


def test_an_engine_that_crashes_fails_one_event_and_is_replaced(make):
    step = make(code=function("return ctx.data"))
    assert step.run(executions_of([1]), [0]) == [1]
    (before,) = sandboxes()
    os.kill(before.pid, signal.SIGKILL)
    executions = executions_of([1, 2, 3])

    found = step.run(executions, range(3))

    assert found == [UNSET, 2, 3]
    assert executions.failures[0].code == "js_crashed"
    assert [child.pid for child in sandboxes()] != [before.pid]


def test_the_process_ends_with_its_step_and_not_with_the_signals_of_a_stop(make):
    step = make(code=function("return ctx.data"))
    step.run(executions_of([1]), [0])
    (child,) = sandboxes()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)

    assert step.run(executions_of([2]), [0]) == [2]
    step.close()

    assert sandboxes() == []


def test_the_code_may_stand_in_a_file_beside_the_flow(make, tmp_path):
    (tmp_path / "shape.js").write_text(function("return ctx.data + 1"))

    assert make(file="shape.js").run(executions_of([1]), [0]) == [2]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [(None, "js_file", "shape.js"), ("function transform() { return 1 +; }", "js_code", "line 1")],
)
def test_a_file_that_cannot_be_used_is_named(make, tmp_path, text, code, said):
    if text is not None:
        (tmp_path / "shape.js").write_text(text)

    with pytest.raises(FlowFileError, match=said) as caught:
        make(file="shape.js")

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "code or file"),
        ({"code": function(""), "file": "x.js"}, "code or file"),
        ({"code": "return 1"}, "function transform"),
        ({"code": "function transform(ctx) {\n  return 1 +;\n}"}, "line 2"),
        ({"code": function(""), "memory_limit": "1kB"}, "greater than or equal"),
    ],
)
def test_what_could_not_run_is_refused_at_load(config, said):
    with pytest.raises(ValidationError, match=said):
        JS.settings.model_validate(config)
