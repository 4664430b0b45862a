"""Webhooks into flows that `penstock run` runs: what is answered, what is kept, what a kill leaves."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from pydantic import ValidationError

from connectors.http.settings import HttpSourceSettings
from flows.plan import load_flow
from flows.spec.problems import FlowErrors
from penstock.api.routes import ROUTES as API_ROUTES
from tests.flows.runtime.running import file_sink, pipeline, publish, step, wait_for
from tests.penstock.api.served import client_of, problem
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.slow]

KILLS = max(2, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "12")) // 6)

ANY_PORT = ("--address", "127.0.0.1:0")


def hook(name="hooks", path="/hooks/orders", **config):
    return {"name": name, "type": "source.http", "config": {"path": path, **config}}


def write(flow, *modules, pipelines=None, **more):
    keep = {"keep": pipeline("hooks", publish("out"))}
    flow.write(
        modules=[*(modules or [hook()]), file_sink(flow.folder)],
        pipelines=pipelines or keep,
        **more,
    )


@contextmanager
def running(flow, *arguments, environ=None):
    run = flow.start(*ANY_PORT, *arguments, environ=environ)
    with client_of(run) as client:
        run.wait_until_started()
        yield run, client


def numbers(flow):
    return sorted(event["data"]["n"] for event in flow.lines())


def test_what_is_answered_is_in_the_file_once(flow):
    write(flow)
    with running(flow) as (run, client):
        answers = [client.post("/hooks/orders", json={"n": n}) for n in range(20)]
        assert {answer.status_code for answer in answers} == {202}
        wait_for(lambda: len(flow.lines()) == 20, "20 events")
        assert run.stop() == 0
    assert numbers(flow) == list(range(20))
    assert len({answer.json()["id"] for answer in answers}) == 20


@pytest.mark.chaos
def test_a_kill_right_after_the_answers_loses_nothing_and_repeats_nothing(flow):
    """Kill the supervisor and the worker in mid-load, some times; then let another run work it off."""
    write(flow)
    taken: set[int] = set()
    sent = 0
    for _ in range(KILLS):
        with running(flow) as (run, client):
            stop = threading.Event()

            def send(first, client=client, stop=stop):
                for n in range(first, first + 100_000):
                    if stop.is_set():
                        return
                    try:
                        answer = client.post("/hooks/orders", json={"n": n})
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 202:
                        taken.add(n)

            senders = [threading.Thread(target=send, args=[(sent + k) * 100_000]) for k in range(4)]
            sent += 4
            before = len(taken)
            for sender in senders:
                sender.start()
            wait_for(lambda before=before: len(taken) >= before + 300, "300 answers")
            run.kill_all()
            stop.set()
            for sender in senders:
                sender.join()
    flow.run("--no-server")
    found = numbers(flow)
    assert len(found) == len(set(found)), "an event is twice in the file"
    assert taken <= set(found), "an event that was answered is missing"


@pytest.mark.chaos
def test_a_worker_that_is_killed_between_effect_and_settling_repeats_nothing_in_a_file(flow):
    write(flow)
    armed = {"PENSTOCK_FAIL_POINT": "after_effects_before_settle:2"}
    with running(flow, environ=armed) as (run, client):
        for n in range(30):
            assert client.post("/hooks/orders", json={"n": n}).status_code == 202
            if n % 10 == 9:
                wait_for(lambda n=n: len(flow.lines()) > n, "what was sent")
        run.kill_all()
    flow.run("--no-server")
    assert numbers(flow) == list(range(30))


def test_a_compressed_body_is_an_event_and_one_that_is_none_is_refused(flow):
    write(flow, hook(max_body="1kB"))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    with running(flow) as (run, client):

        def send(body):
            return client.post("/hooks/orders", content=body, headers=headers)

        assert send(gzip.compress(b'{"n":7}')).status_code == 202
        assert problem(send(b'{"n":8}')) == (400, "content_encoding_broken")
        assert problem(send(gzip.compress(b" " * 1001))) == (413, "body_too_large")
        headers["content-encoding"] = "br"
        assert problem(send(b'{"n":8}')) == (415, "content_encoding")
        wait_for(flow.lines, "the event")
        assert run.stop() == 0
    assert numbers(flow) == [7]


def test_slack_gets_its_challenge_back_when_it_is_signed(flow):
    write(flow, hook(signature={"scheme": "slack", "secret": "sl-sl-sl"}))
    body = b'{"type":"url_verification","challenge":"abc"}'
    at = str(int(time.time()))
    signed = b"v0:" + at.encode() + b":" + body
    headers = {
        "content-type": "application/json",
        "x-slack-request-timestamp": at,
        "x-slack-signature": "v0=" + hmac.new(b"sl-sl-sl", signed, hashlib.sha256).hexdigest(),
    }
    with running(flow) as (run, client):
        answer = client.post("/hooks/orders", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"challenge": "abc"})
        unsigned = client.post("/hooks/orders", content=body)
        assert problem(unsigned) == (401, "signature_refused")
        assert run.stop() == 0
    assert flow.lines() == []


def test_a_delivery_that_comes_again_is_no_second_execution(flow):
    secret = "sh-sh-sh-sh"
    write(flow, hook(signature={"scheme": "github", "secret": secret}))
    body = b'{"n":1}'
    headers = {
        "content-type": "application/json",
        "x-github-delivery": "d-1",
        "x-hub-signature-256": "sha256="
        + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    with running(flow) as (run, client):
        first = client.post("/hooks/orders", content=body, headers=headers)
        wait_for(flow.lines, "the event")
        again = client.post("/hooks/orders", content=body, headers=headers)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json() == {"id": "d-1"}
        forged = client.post("/hooks/orders", content=b'{"n":2}', headers=headers)
        assert problem(forged) == (401, "signature_refused")
        assert secret not in forged.text
        assert run.stop() == 0
    assert [event["data"] for event in flow.lines()] == [{"n": 1}]
    assert flow.totals()["keep"] == (1, 0, 0)


def test_what_is_wrong_is_refused_with_its_status_and_not_kept(flow):
    write(
        flow,
        hook(max_body=100, auth={"bearer": "a-token-of-ours"}),
        hook("other", "/hooks/other", auth={"username": "u", "password": "p"}, methods=["PUT"]),
        pipelines={
            "keep": pipeline("hooks", publish("out")),
            "too": pipeline("other", publish("out")),
        },
    )
    ours = {"authorization": "Bearer a-token-of-ours"}
    with running(flow) as (_, client):

        def refused(method, path, **more):
            return problem(client.request(method, path, **more))

        assert refused("POST", "/hooks/orders", json={}) == (401, "sender_refused")
        wrong = {"authorization": "Bearer another"}
        assert refused("POST", "/hooks/orders", json={}, headers=wrong) == (401, "sender_refused")
        assert refused("GET", "/hooks/orders", headers=ours) == (405, "method_not_allowed")
        assert refused("POST", "/hooks/none", headers=ours) == (404, "not_found")
        long = {"text": "x" * 100}
        assert refused("POST", "/hooks/orders", json=long, headers=ours) == (413, "body_too_large")
        chunks = iter([b"x" * 60, b"x" * 60])
        assert refused("POST", "/hooks/orders", content=chunks, headers=ours)[0] == 413
        packed = {**ours, "content-encoding": "br"}
        assert refused("POST", "/hooks/orders", content=b"x", headers=packed)[0] == 415
        other_site = {**ours, "origin": "https://evil.example"}
        assert refused("POST", "/hooks/orders", json={}, headers=other_site)[1] == "origin_refused"
        torn = {**ours, "content-type": "application/json"}
        assert refused("POST", "/hooks/orders", content=b"{", headers=torn) == (400, "json_invalid")
        assert refused("PUT", "/hooks/other", json={}, headers=ours)[0] == 401
        assert client.put("/hooks/other", json={"n": 0}, auth=("u", "p")).status_code == 202
        assert client.get("/healthz").status_code == 200
        wait_for(flow.lines, "the one event that was taken")
    assert numbers(flow) == [0]


def test_a_flow_that_does_not_keep_up_answers_429_and_takes_more_later(flow):
    write(flow, hook(max_waiting=5))
    with running(flow) as (run, client):
        (worker,) = run.workers()
        worker.suspend()
        try:
            answers = [client.post("/hooks/orders", json={"n": n}) for n in range(8)]
        finally:
            worker.resume()
        assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 3
        assert problem(answers[-1]) == (429, "too_many_waiting")
        assert int(answers[-1].headers["retry-after"]) > 0
        wait_for(
            lambda: client.post("/hooks/orders", json={"n": 9}).status_code == 202,
            "that it takes events again",
        )
        wait_for(lambda: len(flow.lines()) == 6, "what was taken")
    assert numbers(flow) == [0, 1, 2, 3, 4, 9]


def test_a_flow_that_is_being_stopped_answers_503(flow):
    slow = step("slow", "python", {"function": "slow:wait"})
    (flow.folder / "slow.py").write_text("import time\n\ndef wait(event):\n    time.sleep(1)\n")
    write(
        flow, pipelines={"keep": pipeline("hooks", slow, publish("out", data_from="trigger.data"))}
    )
    with running(flow) as (run, client):
        assert client.post("/hooks/orders", json={"n": 1}).status_code == 202
        run.wait_for_lines("worker started")
        run.signal(signal.SIGTERM)
        run.wait_for_lines("draining")
        answer = client.post("/hooks/orders", json={"n": 2})
        assert problem(answer) == (503, "draining")
        assert answer.headers["retry-after"]
        assert run.wait() == 0
    flow.run("--no-server")
    assert numbers(flow) == [1]


@pytest.mark.slow
def test_several_workers_and_a_standby_take_each_event_once(flow):
    write(flow)
    with running(flow, "--workers", "2") as (run, client):
        run.wait_until_started(2)
        with running_standby(flow) as standby:
            for n in range(40):
                to = client if n % 2 else standby
                assert to.post("/hooks/orders", json={"n": n}).status_code == 202
            wait_for(lambda: len(flow.lines()) == 40, "what both servers took")
            run.kill_all()
            for n in range(40, 60):
                assert standby.post("/hooks/orders", json={"n": n}).status_code == 202
            wait_for(lambda: len(flow.lines()) == 60, "what the standby took over", 60)
    assert numbers(flow) == list(range(60))


@contextmanager
def running_standby(flow):
    run = flow.start(*ANY_PORT, "--workers", "2")
    with client_of(run) as client:
        run.wait_for_lines("standby: another worker runs this", times=2)
        yield client


ROUTES = {
    "orders": {
        "trigger": {"type": "event", "source": "hooks"},
        "steps": [
            step("asked", "request_parse", {"path_params": ["id"], "parse_body": True}),
            step(
                "check",
                "conditional",
                {"field": "steps.asked.path_params.id", "routes": {"0": "none", "13": "fail"}},
            ),
            step(
                "respond",
                "json_response",
                {
                    "status": 201,
                    "headers": {"Location": "/orders/{{ .steps.asked.path_params.id }}"},
                    "body": {"id": '{{ index .steps "asked" "path_params" "id" }}', "ok": True},
                },
            ),
            step("end", "conditional", {"field": "data.method", "routes": {"POST": "log"}}),
            step("none", "json_response", {"status": 404, "body": {"error": "not found"}}),
            step("past", "conditional", {"field": "data.method", "routes": {"POST": "log"}}),
            step("fail", "jq", {"expression": 'error("no such thing")'}),
            step("log", "log", {"message": "answered"}),
        ],
    }
}


def test_a_pipeline_answers_the_request_that_waits_for_it(flow):
    module = hook(path="/orders/{id}", format="request", respond="settled")
    write(flow, module, pipelines=ROUTES)
    with running(flow) as (_, client):
        made = client.post("/orders/7", json={"total": 1})
        assert (made.status_code, made.headers["location"]) == (201, "/orders/7")
        assert made.json() == {"id": "7", "ok": True}
        missing = client.post("/orders/0", json={})
        assert (missing.status_code, missing.json()) == (404, {"error": "not found"})
        failed = client.post("/orders/13", json={})
        assert (failed.status_code, failed.json()["status"]) == (500, "failed")
    assert len(flow.letters()) == 1


def test_a_request_waits_for_all_pipelines_and_gets_the_same_answer_again(flow):
    both = {
        "answer": pipeline("hooks", step("say", "json_response", {"body": "{{ .data.n }}"})),
        "keep": pipeline("hooks", publish("out")),
        "never": pipeline("hooks", publish("out"), trigger={"when": ".data.n > 100"}),
    }
    write(flow, hook(respond="settled", id='.headers["x-id"]'), pipelines=both)
    with running(flow) as (_, client):
        for _ in range(2):
            answer = client.post("/hooks/orders", json={"n": 5}, headers={"x-id": "1"})
            assert (answer.status_code, answer.json()) == (200, 5)
            assert numbers(flow) == [5]
        assert problem(client.post("/hooks/orders", json={"n": 5}))[1] == "request_value_missing"


def test_what_takes_longer_than_the_timeout_is_answered_202_and_goes_on(flow):
    (flow.folder / "slow.py").write_text("import time\n\ndef wait(event):\n    time.sleep(1.5)\n")
    slow = step("slow", "python", {"function": "slow:wait"})
    waiting = {"keep": pipeline("hooks", slow, publish("out", data_from="trigger.data"))}
    write(flow, hook(respond="settled", timeout="300ms"), pipelines=waiting)
    with running(flow) as (_, client):
        answer = client.post("/hooks/orders", json={"n": 1})
        assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
        wait_for(lambda: numbers(flow) == [1], "the event")


def test_an_answer_outlives_the_worker_that_made_it(flow):
    """It is stored with the settlement, and the process that has the request is another one."""
    answer = pipeline("hooks", step("say", "json_response", {"body": "{{ .data.n }}"}))
    write(flow, hook(respond="settled"), pipelines={"answer": answer})
    armed = {"PENSTOCK_FAIL_POINT": "after_checkpoint_before_acknowledge"}
    with running(flow, environ=armed) as (_, client):
        assert client.post("/hooks/orders", json={"n": 5}).json() == 5


def problems_of(flow):
    with pytest.raises(FlowErrors) as caught:
        load_flow([flow.path])
    return [(each.code, each.message) for each in caught.value.problems]


def test_one_path_belongs_to_one_source(flow):
    write(
        flow,
        hook(path="/a/{id}"),
        hook("more", "/a/{name}/"),
        hook("get", "/a/{id}", methods=["GET"]),
    )
    assert problems_of(flow) == [("path_taken", "POST /a/{name}/ is hooks's already.")]


def test_an_answer_that_nobody_waits_for_does_not_load(flow):
    write(flow, pipelines={"p": pipeline("hooks", step("say", "json_response", {"body": 1}))})
    assert problems_of(flow) == [("answer_unheard", "nobody waits for the answer of say.")]


def test_a_flow_whose_events_come_to_the_server_does_not_run_without(flow):
    write(flow)
    found = flow.penstock("run", str(flow.path), "--no-server")
    assert found.returncode == 2
    assert "server_needed" in found.stderr


@pytest.mark.slow
def test_the_state_store_that_is_away_is_answered_503_and_nothing_is_lost(flow):
    """Hold SQLite's write lock for longer than anybody waits for it."""
    write(flow)
    with running(flow) as (_, client):
        assert client.post("/hooks/orders", json={"n": 1}).status_code == 202
        holder = sqlite3.connect(flow.folder / "state.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        answer = client.post("/hooks/orders", json={"n": 2})
        holder.execute("ROLLBACK")
        holder.close()
        assert problem(answer) == (503, "inbox_away")
        assert time.monotonic() - began < 30
        assert client.post("/hooks/orders", json={"n": 3}).status_code == 202
        wait_for(lambda: {1, 3} <= set(numbers(flow)), "what was answered")
    assert json.loads(answer.text)["hint"]


def test_a_request_waits_through_a_retry(flow):
    """Its execution is parked in the meantime, and its position acknowledged long before the answer."""
    with serving() as service:
        service.answer = lambda _: Answer(status=503 if len(service.seen) < 3 else 204)
        call = step("call", "http_call", {"url": service.url, "method": "POST", "body": {}})
        say = step("say", "json_response", {"body": "{{ .data.n }}"})
        retry = {"max_attempts": 5, "initial_delay": "300ms", "jitter": 0}
        answering = {"answer": pipeline("hooks", call, say, retry=retry)}
        write(flow, hook(respond="settled"), pipelines=answering)
        with running(flow) as (_, client):
            answer = client.post("/hooks/orders", json={"n": 7})
            assert (answer.status_code, answer.json()) == (200, 7)
        assert len(service.seen) >= 3


def test_every_route_of_the_api_is_out_of_reach_for_webhooks():
    for path in {route.path for route in API_ROUTES}:
        with pytest.raises(ValidationError, match="is one of the server's"):
            HttpSourceSettings(path=f"/{path.split('/')[1]}/x")


def test_a_webhook_at_any_name_leaves_the_api_its_own(flow):
    write(flow, hook(path="/{name}", methods=["GET", "POST"]))
    with running(flow) as (_, client):
        assert client.get("/healthz").headers["content-type"] == "application/json"
        assert client.get("/subjects").json() == []
        assert client.post("/else", json={"n": 1}).status_code == 202


@pytest.mark.postgres
@pytest.mark.chaos
def test_a_kill_loses_nothing_of_an_inbox_in_postgres(flow, database):
    flow.state_url = database
    write(flow, hook(respond="settled", timeout="100ms"))
    with running(flow, "--workers", "2") as (run, client):
        for n in range(30):
            assert client.post("/hooks/orders", json={"n": n}).status_code in {200, 202}
        run.kill_all()
    flow.run("--no-server", "--workers", "2")
    assert numbers(flow) == list(range(30))


@pytest.mark.slow
def test_a_pipeline_that_is_spread_over_a_cluster_answers_too(flow):
    say = step("say", "json_response", {"body": "{{ .data.n }}"})
    write(
        flow,
        hook(respond="settled"),
        pipelines={"answer": pipeline("hooks", say, partition_by=".data.n")},
    )
    with running(flow, "--workers", "2") as (run, client):
        run.wait_until_started(2)
        for n in range(8):
            answer = client.post("/hooks/orders", json={"n": n})
            assert (answer.status_code, answer.json()) == (200, n)
