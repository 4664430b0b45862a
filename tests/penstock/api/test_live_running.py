"""Executions watched over HTTP while they run."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from itertools import pairwise

import pytest

from penstock.api.live_routes import Shown
from tests.flows.runtime.running import FlowFolder, file_sink, publish, step, wait_for
from tests.penstock.api.served import client_of
from tests.transforms.steps.answering import as_json, serving

ALL = "/api/v1/executions"
ANY_PORT = ("--address", "127.0.0.1:0")


class Watched:
    """A stream of live executions, read as it comes."""

    def __init__(self, response):
        self._lines = response.iter_lines()
        self.seen = []

    def until(self, kind, step=None):
        """Read on to an event of a kind; return all so far."""
        name = ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                self.seen.append((name, json.loads(value)))
                if name == kind and step in {None, self.seen[-1][1].get("step")}:
                    return self.seen
        raise AssertionError(f"it ended before {kind}: {self.seen}")


@contextmanager
def running(folder, **more):
    """A flow whose one pipeline, started by hand, calls a service that holds its answer back."""
    flow = FlowFolder(folder)
    with serving() as service:
        release = threading.Event()
        service.answer = lambda seen: as_json({"ok": 1})._replace(wait=release)
        shape = step("shape", "jq", {"expression": "{n: .data.n}"})
        call = step("call", "http_call", {"method": "POST", "url": f"{service.url}/call"})
        flow.write(
            modules=[file_sink(flow.folder)],
            pipelines={
                "ship": {"steps": [shape, call, publish("out", data_from="data")], **more},
            },
        )
        run = flow.start(*ANY_PORT)
        try:
            run.wait_until_started()
            with client_of(run) as client:
                yield client, release
            release.set()
            assert run.stop() == 0, run.text()
        finally:
            release.set()
            flow.end()


def start(client, pipeline="ship", **more):
    answer = client.post(ALL, json={"pipeline": pipeline, "data": {"n": 1, **more}})
    assert answer.status_code == 202, answer.text
    return answer.json()["execution_id"]


def wait_for_reports(client, count=3):
    """Wait until the worker has reported so often: so it has seen that somebody watches."""
    silent = [0.0]

    def reported():
        (worker,) = client.get("/api/v1/workers").json()["workers"]
        silent.append(worker["silent_seconds"])
        return sum(after < before for before, after in pairwise(silent)) >= count

    wait_for(reported, "the worker's reports")


@pytest.mark.slow
def test_a_slow_step_is_shown_while_it_runs_and_nothing_is_shown_twice(tmp_path):
    with running(tmp_path, tenant=".data.shop") as (client, release):
        with client.stream("GET", f"{ALL}/live") as response:
            watched = Watched(response)
            wait_for_reports(client)
            execution = start(client, shop="acme")
            seen = watched.until("step.started", "call")
            assert not release.is_set()
            assert [(kind, data.get("step")) for kind, data in seen] == [
                ("execution.started", None),
                ("step.started", "shape"),
                ("step.completed", "shape"),
                ("step.started", "call"),
            ]
            assert {data["execution_id"] for _, data in seen} == {execution}
            assert (seen[0][1]["pipeline"], seen[0][1]["tenant"]) == ("ship", "acme")
            release.set()
            seen = watched.until("execution.completed")
        found = [(kind, data.get("step")) for kind, data in seen]
        assert len(found) == len(set(found)), found
        assert found[-1] == ("execution.completed", None)
        assert {"shape", "call", "write"} == {
            step for kind, step in found if kind == "step.completed"
        }


def test_what_is_shown_while_it_runs_is_what_is_asked_for():
    begun = [
        ("execution.started", {"execution_id": id_, "pipeline": pipeline, "tenant": tenant})
        for id_, pipeline, tenant in (
            ("a", "ship", "acme"),
            ("b", "bill", "acme"),
            ("c", "ship", "x"),
        )
    ]
    steps = [("step.started", {"execution_id": id_, "step": "s"}) for id_ in "abcd"]
    shown = Shown("ship", "acme").happened([*begun, *steps])
    assert [about["execution_id"] for _, about in shown] == ["a", "a"]


def test_what_began_once_begins_once_also_when_it_is_tried_again():
    shown = Shown()
    begin = ("execution.started", {"execution_id": "a", "pipeline": "p", "tenant": "t"})
    step_ = ("step.started", {"execution_id": "a", "step": "s"})
    assert len(shown.happened([begin, step_])) == 2
    assert shown.happened([begin, step_]) == [step_]
    done = ("step.completed", {"execution_id": "a", "step": "s"})
    end = ("execution.completed", {"execution_id": "a"})
    assert shown.recorded([begin, step_, done, end]) == [done, end]
    assert shown.running == frozenset()


@pytest.mark.parametrize("kind", ["execution.completed", "execution.failed"])
def test_what_is_recorded_and_was_not_seen_to_run_is_shown_whole(kind):
    events = [
        ("execution.started", {"execution_id": "a", "pipeline": "p", "tenant": "t"}),
        ("step.started", {"execution_id": "a", "step": "s"}),
        (kind, {"execution_id": "a"}),
    ]
    assert Shown().recorded(events) == events
