"""`circuit_breaker` of step.http_call, against a real server."""

from __future__ import annotations

import threading

import pytest

from connectors.errors import HeldError, RetryableError
from flows.plan import FlowErrors
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.inside import step
from transforms.steps.http_loop import release, shared_loop

DOWN = Answer(503)


@pytest.fixture
def server():
    with serving() as found:
        yield found


def calling(server, fallback=None, **breaker):
    rules = {"failure_threshold": 3, "success_threshold": 2, "timeout": "60s", **breaker}
    if fallback:
        rules["fallback"] = fallback
    config = {"url": f"{server.url}/{{{{ .n }}}}", "concurrency": 1, "circuit_breaker": rules}
    return step("call", "http_call", config)


def numbers(*found):
    return [{"n": n} for n in found]


def failures(found):
    return {index: ended.error for index, ended in found.ended.items()}


def test_after_three_failures_in_a_row_no_call_is_made(steps, executions, server):
    server.answer = lambda seen: DOWN
    run = steps(calling(server))
    found = failures(run.run(executions(*numbers(*range(10)))))
    assert len(server.seen) == 3
    assert [error.code for error in found.values()] == ["http_status"] * 3 + ["circuit_open"] * 7
    held = found[9]
    assert isinstance(held, HeldError)
    assert 50 < held.retry_after <= 60
    assert "answered 503" in held.message
    assert "is open" in run.runners[0].status


def test_refusals_of_the_request_do_not_open_it(steps, executions, server):
    server.answer = lambda seen: Answer(429 if seen.path.endswith("3") else 404)
    run = steps(calling(server))
    run.run(executions(*numbers(*range(10))))
    assert len(server.seen) == 10
    assert run.runners[0].status == ""


def test_connections_that_are_cut_open_it(steps, executions, server):
    server.answer = lambda seen: Answer(reset=True)
    found = failures(steps(calling(server)).run(executions(*numbers(*range(5)))))
    assert len(server.seen) == 3
    assert found[4].code == "circuit_open"


def test_what_comes_later_of_the_same_key_is_not_called_before_it(steps, executions, server):
    server.answer = lambda seen: DOWN
    run = steps(calling(server, timeout="10ms"))
    batch = executions(*numbers(*range(400)))
    batch.keys = ["k"] * 400
    found = failures(run.run(batch))
    first = min(index for index, error in found.items() if error.code == "circuit_open")
    assert all(found[index].code == "circuit_open" for index in range(first, 400))
    assert len(server.seen) == first


def test_a_static_fallback_answers_whatever_its_status(steps, executions, server):
    server.answer = lambda seen: DOWN
    body = {"error": "later, {{ .n }}"}
    fallback = {"type": "static", "response": {"status": 503, "body": body}}
    found = steps(calling(server, fallback)).run(executions(*numbers(*range(6))))
    assert found.outputs["call"][3:] == [{"error": f"later, {n}"} for n in (3, 4, 5)]
    assert found.details["call"][5] == {"status": 503, "headers": {}, "fallback": True}
    assert set(found.ended) == {0, 1, 2}


def test_a_cached_fallback_answers_what_was_asked_before_and_holds_the_rest(
    steps, executions, server
):
    run = steps(calling(server, {"type": "cached"}))
    server.answer = lambda seen: as_json({"was": seen.path})
    run.run(executions(*numbers(1, 2)))
    server.answer = lambda seen: DOWN
    found = run.run(executions(*numbers(7, 7, 7, 1, 8, 2)))
    assert found.outputs["call"][3] == {"was": "/1"}
    assert found.outputs["call"][5] == {"was": "/2"}
    assert found.details["call"][3]["fallback"] is True
    assert isinstance(found.ended[4].error, HeldError)


def test_an_open_circuit_answers_while_the_calls_of_other_steps_keep_their_thread_busy(
    steps, executions, server
):
    server.answer = lambda seen: DOWN
    run = steps(calling(server, {"type": "static", "response": {"body": "instead"}}))
    run.run(executions(*numbers(*range(4))))
    busy, over, free = threading.Event(), threading.Event(), threading.Event()
    loop = shared_loop()

    async def keep_busy():
        busy.set()
        over.wait(20)
        free.set()

    other = threading.Thread(target=lambda: loop.wait_for(keep_busy()))
    other.start()
    try:
        assert busy.wait(30)
        found = run.run(executions(*numbers(*range(5))))
        assert found.outputs["call"] == ["instead"] * 5
        assert not free.is_set()
    finally:
        over.set()
        other.join()
        release(loop)
    assert len(server.seen) == 3


def test_a_cached_answer_that_is_too_old_is_none(steps, executions, server):
    run = steps(calling(server, {"type": "cached", "max_age": "0s"}))
    server.answer = lambda seen: as_json({"was": seen.path})
    run.run(executions(*numbers(1)))
    server.answer = lambda seen: DOWN
    found = run.run(executions(*numbers(7, 7, 7, 1)))
    assert isinstance(found.ended[3].error, HeldError)


def test_the_error_fallback_fails_the_event_so_that_its_retry_goes_on(steps, executions, server):
    server.answer = lambda seen: DOWN
    found = failures(steps(calling(server, {"type": "error"})).run(executions(*numbers(*range(5)))))
    assert found[4].code == "circuit_open"
    assert isinstance(found[4], RetryableError)
    assert not isinstance(found[4], HeldError)


def test_it_closes_once_two_probes_in_a_row_have_succeeded(steps, executions, server):
    server.answer = lambda seen: DOWN
    run = steps(calling(server, timeout="10ms"))
    run.run(executions(*numbers(*range(3))))
    server.answer = lambda seen: as_json("back")
    for _ in range(200):  # it opens again after a probe that came too early
        found = run.run(executions(*numbers(*range(20))))
        if not found.ended:
            break
    assert found.outputs["call"] == ["back"] * 20
    assert run.runners[0].status == ""


def test_half_open_only_probes_are_sent_until_they_are_answered(steps, executions, server):
    server.answer = lambda seen: DOWN
    made = calling(server, timeout="10ms", failure_threshold=1)
    made["config"]["concurrency"] = 30
    run = steps(made)
    run.run(executions(*numbers(0)))
    before = len(server.seen)
    for _ in range(200):
        run.run(executions(*numbers(*range(30))))
        if len(server.seen) > before:
            break
    assert len(server.seen) - before <= 2, "as many as successes are missing"


def test_each_host_that_events_name_has_its_own(steps, executions, server):
    with serving() as other:
        server.answer = lambda seen: DOWN
        other.answer = lambda seen: as_json("fine")
        config = {
            "url": "{{ .url }}",
            "allow_private": True,
            "concurrency": 1,
            "circuit_breaker": {"failure_threshold": 2},
        }
        run = steps(step("call", "http_call", config))
        events = [{"url": each.url} for each in (server, other) * 5]
        found = run.run(executions(*events))
    assert len(server.seen) == 2
    assert len(other.seen) == 5
    assert found.outputs["call"][1::2] == ["fine"] * 5
    assert f"127.0.0.1:{server.port}" in run.runners[0].status


def test_the_users_of_a_step_module_share_its_circuit(steps, executions, server):
    server.answer = lambda seen: DOWN
    api = {
        "name": "api",
        "type": "step.http_call",
        "config": {"url": server.url, "circuit_breaker": {"failure_threshold": 3}},
    }
    both = step("both", "parallel", {"steps": [{"name": n, "use": "api"} for n in "ab"]})
    run = steps(both, modules=[api])
    for _ in range(5):
        run.run(executions(*numbers(1)))
    assert len(server.seen) <= 4, "three failures, and one that was under way beside the last"


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"type": "static"}, "response for type static"),
        ({"type": "cached", "response": {"body": 1}}, "response for type static"),
        ({"type": "error", "max_age": "1h"}, "max_age for type cached"),
    ],
)
def test_a_fallback_that_does_not_fit_is_told_at_load(steps, server, fallback, said):
    with pytest.raises(FlowErrors, match=said):
        steps(calling(server, fallback))
