"""The rules of sagas, as tables: what may run again, what may have happened, what is undone."""

from __future__ import annotations

import pytest

from connectors.errors import PermanentError, RetryableError
from flows.plan import load_flow
from flows.runtime.saga_rules import (
    after_crash,
    is_tracked,
    may_have_acted,
    may_run_again,
    to_undo,
    turn_of,
)
from flows.state.sagas import Saga, StepProgress, Undoing, steps_of, steps_text

STEPS = {
    "get": "{type: step.http_call, config: {url: 'http://h/'}}",
    "post": "{type: step.http_call, config: {url: 'http://h/', method: POST}}",
    "put": "{type: step.http_call, config: {url: 'http://h/', method: PUT}}",
    "delete": "{type: step.http_call, config: {url: 'http://h/', method: DELETE}}",
    "keyed": "{type: step.http_call, config: {url: 'http://h/', method: POST, idempotency_key: k}}",
    "publish": "{type: step.publish, config: {sink: out}}",
    "exec": "{type: step.db_exec, config: {database: 'sqlite:///x', query: 'DELETE FROM t'}}",
    "query": "{type: step.db_query, config: {database: 'sqlite:///x', query: 'SELECT 1'}}",
    "shape": "{type: step.set, config: {values: {a: 1}}}",
    "python": "{type: step.python, config: {function: 'm:f', effect: true}}",
    "loop": "{type: step.foreach, config: {collection: .data, steps: ["
    "{type: step.http_call, config: {url: 'http://h/', method: POST}}]}}",
    "reading-loop": "{type: step.foreach, config: {collection: .data, steps: ["
    "{type: step.http_call, config: {url: 'http://h/'}}]}}",
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    lines = [f"      - {{name: {name}, {text[1:]}" for name, text in STEPS.items()]
    file = tmp_path_factory.mktemp("rules") / "flow.yaml"
    file.write_text(
        "modules:\n"
        "  - {name: jobs, type: source.kafka, config: {brokers: 'b:1', topic: t}}\n"
        "  - {name: out, type: sink.stdout}\n"
        "pipelines:\n  p:\n    trigger: {source: jobs}\n    saga: {enabled: true}\n    steps:\n"
        + "\n".join(lines)
    )
    return {step.name: step for step in load_flow([file], {}).pipeline("p").steps}


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("get", True),
        ("post", False),
        ("put", True),
        ("delete", True),
        ("keyed", True),
        ("publish", True),
        ("exec", False),
        ("query", True),
        ("shape", True),
        ("python", False),
        ("loop", False),
        ("reading-loop", True),
    ],
)
def test_a_step_whose_repeat_does_no_harm_may_run_again(steps, name, again):
    assert may_run_again(steps[name]) is again


@pytest.mark.parametrize(
    ("name", "tracked"),
    [("get", False), ("post", True), ("publish", True), ("shape", False), ("loop", True)],
)
def test_a_step_that_changes_something_is_tracked(steps, name, tracked):
    assert is_tracked(steps[name]) is tracked


def _http(code, **context):
    return RetryableError("no", code=code, **context)


@pytest.mark.parametrize(
    ("name", "error", "acted"),
    [
        ("post", _http("http_timeout"), True),
        ("post", _http("http_timeout", effect="none"), False),
        ("post", _http("http_unreachable"), True),
        ("post", _http("http_unreachable", effect="none"), False),
        ("post", _http("http_status", status=422), False),
        ("post", _http("http_status", status=500), False),
        ("post", _http("http_status", status=503), False),
        ("post", _http("http_status", status=504), True),
        ("post", _http("http_status", status=502), True),
        ("post", _http("http_response"), True),
        ("post", PermanentError("no", code="http_request"), False),
        ("post", PermanentError("no", code="internal_error"), True),
        ("post", PermanentError("no", code="step_interrupted"), True),
        ("get", _http("http_timeout"), False),
        ("exec", _http("db_timeout"), False),
        ("exec", _http("db_unavailable"), True),
        ("exec", _http("db_unavailable", effect="none"), False),
        ("exec", PermanentError("no", code="db_constraint"), False),
        ("python", PermanentError("no", code="python_error", type="ValueError"), False),
        ("python", PermanentError("no", code="python_error", type="TimeoutError"), True),
        ("python", PermanentError("no", code="bank_timeout"), True),
        ("loop", _http("http_status", status=422), True),
        ("reading-loop", _http("http_status", status=422), False),
    ],
)
def test_a_step_that_failed_may_have_acted_when_nobody_knows(steps, name, error, acted):
    assert may_have_acted(steps[name], error) is acted


@pytest.mark.parametrize(
    ("progress", "turn"),
    [
        (None, "run"),
        ("started", "run"),
        ("again", "run"),
        ("failed", "run"),
        ("done", "use"),
        ("interrupted", "refuse"),
    ],
)
def test_what_is_done_with_a_step_follows_from_how_far_it_is(progress, turn):
    assert turn_of(progress) == turn


@pytest.mark.parametrize(
    ("progress", "again", "then"),
    [
        ("started", True, "again"),
        ("started", False, "interrupted"),
        ("failed", True, "again"),
        ("failed", False, "interrupted"),
        ("done", False, "done"),
        ("again", False, "again"),
        ("interrupted", True, "interrupted"),
    ],
)
def test_what_was_under_way_at_a_crash_runs_again_only_if_it_may(progress, again, then):
    assert after_crash(progress, again=again) == then


def _saga(**steps):
    return Saga("1", "p", "s", "0", None, "e", "t", 0.0, None, steps=steps)


def test_done_and_doubtful_steps_are_undone_in_order_and_each_once(steps):
    order = [steps[name] for name in ("put", "post", "exec", "keyed", "delete")]
    saga = _saga(
        put=StepProgress("done"),
        post=StepProgress("failed", unsure=True),
        exec=StepProgress("failed"),
        keyed=StepProgress("done", undoing=Undoing("done")),
    )
    names = [step.name for step in order]
    assert [step.name for step in to_undo(saga, order, names)] == ["put", "post"]


def test_progress_is_kept_to_the_last_digit():
    big = 12345678901234567890123
    steps = {
        "a": StepProgress("done", at=1.5, output={"n": big}, detail={"status": 201}),
        "b": StepProgress("started", unsure=True),
        "c": StepProgress("done", output=None, undoing=Undoing("again", 2, 3.0, {"code": "x"})),
        "d": StepProgress("done", undoing=Undoing("done", 1, 4.0, None, big)),
    }
    assert steps_of(steps_text(_saga(**steps))) == steps
