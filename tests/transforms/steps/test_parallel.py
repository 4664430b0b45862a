"""`step.parallel`: steps side by side, at the same time where they wait for servers."""

from __future__ import annotations

import threading

import pytest

from connectors.errors import FatalError
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.inside import Kept, foreach, jq, places, step


@pytest.fixture
def server():
    with serving() as found:
        yield found


def parallel(*steps, name="both", **config):
    return step(name, "parallel", {"steps": list(steps), **config})


def call(server, name, **config):
    return step(name, "http_call", {"url": f"{server.url}/{name}/{{{{ .id }}}}", **config})


def test_each_steps_output_stands_under_its_name(steps, executions):
    run = steps(
        parallel(jq("double", ".data.n * 2"), jq("half", ".data.n / 2")),
        jq("sum", ".steps.both.output.results | .double + .half"),
    )
    found = run.run(executions({"n": 2}, {"n": 4}))
    assert found.outputs["both"] == [
        {"results": {"double": 4, "half": 1}, "completed": 2},
        {"results": {"double": 8, "half": 2}, "completed": 2},
    ]
    assert found.outputs["sum"] == [5, 10]
    assert list(found.outputs) == ["both", "sum"]


def test_no_step_sees_another_and_all_see_what_came_before(steps, executions):
    look = {"values": {"one": '{{ .steps | has("one") }}', "before": "{{ .steps.before.output }}"}}
    run = steps(jq("before", "7"), parallel(jq("one", "1"), step("two", "set", look)))
    results = run.run(executions({})).outputs["both"][0]["results"]
    assert results["two"] == {"one": False, "before": 7}


def test_steps_that_wait_for_servers_wait_at_the_same_time(steps, executions, server):
    both = threading.Event()

    def answer(seen):
        if server.under_way >= 2:
            both.set()
        assert both.wait(10)
        return as_json(seen.path)

    server.answer = answer
    run = steps(parallel(call(server, "a"), jq("id", ".id"), call(server, "b")))
    found = run.run(executions({"id": 1}))
    assert found.outputs["both"][0]["results"] == {"a": "/a/1", "id": 1, "b": "/b/1"}


def test_status_and_headers_of_a_call_are_there_too(steps, executions, server):
    server.answer = lambda seen: Answer(404 if seen.path == "/a/1" else 200)
    run = steps(
        parallel(call(server, "a", error_on_status=False), call(server, "b")),
        jq("status", "[.steps.both.details | .a.status, .b.status]"),
    )
    found = run.run(executions({"id": 1}, {"id": 2}))
    assert found.outputs["status"] == [[404, 200], [200, 200]]


def test_the_first_listed_failure_fails_the_event_and_no_other_event(steps, executions, server):
    server.answer = lambda seen: Answer(400 if seen.path == "/a/1" else 204)
    sink = Kept()
    run = steps(
        parallel(
            jq("shape", ".id / 1"),
            call(server, "a"),
            step("send", "publish", {"data_from": "data"}),
        ),
        sinks={"out": sink},
    )
    found = run.run(executions({"id": 1}, {"id": "x"}, {"id": 3}))
    assert places(found) == {0: ("both.a", "http_status"), 1: ("both.shape", "jq_error")}
    assert found.outputs["both"][2] == {"results": {"shape": 3, "a": None}, "completed": 3}
    assert [value["id"] for value in sink.values] == [1, 3]  # what failed was not begun any more


def test_collected_errors_name_their_steps_and_all_steps_run(steps, executions):
    run = steps(
        parallel(
            jq("bad", ".data.n / 2"),
            jq("good", ".data.n"),
            jq("worse", ".data.n / 3"),
            error_strategy="collect_errors",
        )
    )
    found = run.run(executions({"n": "x"}, {"n": 6}))
    assert found.ended == {}
    output, well = found.outputs["both"]
    assert output["results"] == {"bad": None, "good": "x", "worse": None}
    assert (output["completed"], output["failed"]) == (1, 2)
    assert [(e["step"], e["code"]) for e in output["errors"]] == [
        ("bad", "jq_error"),
        ("worse", "jq_error"),
    ]
    assert well == {
        "results": {"bad": 3, "good": 6, "worse": 2},
        "completed": 3,
        "errors": [],
        "failed": 0,
    }


def test_steps_have_conditions_and_what_they_skip_on_error_is_kept(steps, executions):
    run = steps(
        parallel(
            jq("big", ".data.n", **{"if": ".data.n > 1"}),
            jq("half", ".data.n / 2", on_error="skip", skip_if=".data.n == 1"),
        )
    )
    found = run.run(executions({"n": 1}, {"n": 4}, {"n": "x"}))
    assert [output["results"] for output in found.outputs["both"]] == [
        {"big": None, "half": None},
        {"big": 4, "half": 2},
        {"big": "x", "half": None},
    ]
    assert found.passed_over["both.big"] == {0: None}
    assert found.passed_over["both.half"][2].code == "jq_error"


def test_a_fatal_error_on_a_thread_stops_the_worker(steps, executions, server):
    server.answer = lambda seen: as_json(1)
    sink = Kept([{0: FatalError("no rights.", code="sink_rights")}])
    run = steps(
        parallel(call(server, "a"), call(server, "b"), step("send", "publish")),
        sinks={"out": sink},
    )
    run.run(executions({"id": 1}))
    assert run.halt.error.code == "sink_rights"


def test_in_a_loop_each_item_has_its_own_side_by_side(steps, executions, server):
    server.answer = lambda seen: as_json(seen.path)
    run = steps(
        foreach(
            parallel(
                step("a", "http_call", {"url": f"{server.url}/a/{{{{ .item }}}}"}),
                step("b", "http_call", {"url": f"{server.url}/b/{{{{ .item }}}}"}),
            ),
            concurrency=4,
        )
    )
    found = run.run(executions({"items": [1, 2]}))
    assert [one["results"] for one in found.outputs["lines"][0]["results"]] == [
        {"a": "/a/1", "b": "/b/1"},
        {"a": "/a/2", "b": "/b/2"},
    ]


def test_its_threads_end_with_it(steps, executions, server):
    server.answer = lambda seen: as_json(1)
    run = steps(parallel(call(server, "a"), call(server, "b")))
    run.run(executions({"id": 1}))
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("both.")]
    assert len(mine) == 2
    run.close()
    assert not any(thread.is_alive() for thread in mine)
