"""`timeout:` of a step: kept by those that wait, refused for those that can't be interrupted."""

from __future__ import annotations

import threading

import pytest

from connectors.errors import RetryableError
from flows.plan import FlowErrors
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.inside import foreach, jq, places, step


@pytest.fixture
def server():
    with serving() as found:
        yield found


def call(server, name="call", **more):
    return step(name, "http_call", {"url": f"{server.url}/{{{{ .data.n }}}}"}, **more)


def slow_for(server, *paths):
    def answer(seen):
        if seen.path in paths:
            return Answer(wait=threading.Event())  # until the test is over
        return as_json(seen.path)

    server.answer = answer


def test_an_event_that_overruns_fails_alone_and_may_be_tried_again(steps, executions, server):
    slow_for(server, "/2")
    found = steps(call(server, timeout="300ms")).run(executions({"n": 1}, {"n": 2}, {"n": 3}))
    assert places(found) == {1: ("call", "step_timeout")}
    error = found.ended[1].error
    assert isinstance(error, RetryableError)
    assert "step call overran its timeout of 0.3s" in error.message
    assert error.context["cause"] == "http_timeout"
    assert "may have taken effect" in error.hint
    assert [found.outputs["call"][k] for k in (0, 2)] == ["/1", "/3"]


def test_a_longer_one_leaves_the_steps_own_in_place(steps, executions, server):
    slow_for(server, "/2")
    one = call(server, timeout="30s")
    one["config"]["timeout"] = "300ms"
    assert places(steps(one).run(executions({"n": 2}))) == {0: ("call", "http_timeout")}


def test_inside_a_loop_it_is_per_item(steps, executions, server):
    slow_for(server, "/b")
    one = step("call", "http_call", {"url": f"{server.url}/{{{{ .item }}}}"}, timeout="300ms")
    run = steps(foreach(one, error_strategy="collect_errors", concurrency=3))
    output = run.run(executions({"items": ["a", "b", "c"]})).outputs["lines"][0]
    assert output["results"] == ["/a", None, "/c"]
    assert [(e["index"], e["code"]) for e in output["errors"]] == [(1, "step_timeout")]


def test_a_step_module_keeps_the_timeout_of_the_step_that_uses_it(steps, executions, server):
    slow_for(server, "/2")
    module = {"name": "pay", "type": "step.http_call", "config": {"timeout": "20s"}}
    used = {"name": "charge", "use": "pay", "timeout": "300ms"}
    used["config"] = {"url": f"{server.url}/{{{{ .data.n }}}}"}
    run = steps(used, foreach(used | {"name": "again"}, collection="data.list"), modules=[module])
    found = run.run(executions({"n": 1, "list": [1]}, {"n": 2}))
    assert places(found) == {1: ("charge", "step_timeout")}
    assert found.outputs["lines"][0]["results"] == ["/1"]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (jq("a", "."), "step.jq computes"),
        (step("a", "python", {"function": "m:f"}), "Python can't be interrupted"),
        (step("a", "publish"), "nobody could tell"),
        (foreach(jq("b", "."), name="a"), "in the middle of the steps inside"),
        (foreach(jq("a", ".", timeout="1s")), "step.jq computes"),
    ],
)
def test_a_step_that_cannot_be_given_up_on_is_refused_with_the_reason(steps, one, why):
    given = one if one["name"] != "a" else one | {"timeout": "1s"}
    with pytest.raises(FlowErrors) as caught:
        steps(given)
    (problem,) = caught.value.problems
    assert problem.code == "timeout_unsupported"
    assert problem.message.startswith("a can't have a timeout: ")
    assert why in problem.message
    assert problem.excerpt.strip().startswith('"timeout"')


def test_no_time_at_all_is_refused(steps, server):
    with pytest.raises(FlowErrors, match="at least"):
        steps(call(server, timeout=0))
