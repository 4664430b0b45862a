"""Executions watched over HTTP as they are recorded."""

from __future__ import annotations

import json
import time

import pytest

from connectors.batch import Batch
from connectors.errors import PermanentError
from tests.flows.state.samples import chunk, commit, encode_chunk, settlement
from tests.penstock.api.served import problem
from transforms.executions import Ended, Executions

LIVE = "/api/v1/executions/live"


def record(store, lease, count=1, pipeline="enrich", tenant="acme", **ended):
    columns = {
        "raw": [b'{"total":4711}'] * count,
        "id": [f"e{n}" for n in range(count)],
        "source": ["/s"] * count,
        "type": ["order.placed"] * count,
        "partition": ["orders/0"] * count,
        "position": [str(n) for n in range(count)],
        "timestamp": [1000.0] * count,
        "extensions": [{"tenant": tenant}] * count,
    }
    made = Executions(Batch(count, columns, after={}), pipeline, started=time.time(), **ended)
    made.outputs["charge"] = [{"total": 4711}] * count
    body = encode_chunk(made, meta={})
    history = chunk(body, pipeline=pipeline, count=count, first_time=1000.0, last_time=1000.0)
    commit(store, lease, [settlement(count, history=history, pipeline=pipeline)])
    return made.ids_of(range(count))


def read(response, until):
    """Return the events (type, data) up to one of a type."""
    found, kind = [], ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            found.append((kind, json.loads(value)))
            if kind == until:
                return found
    raise AssertionError(f"it ended before {until}: {found}")


def test_an_execution_is_shown_step_by_step_when_it_is_recorded(served, store, lease):
    record(store, lease)  # before anybody watches
    with served.client.stream("GET", LIVE) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        (execution,) = record(store, lease)
        found = read(response, "execution.completed")
    assert [kind for kind, _ in found] == [
        "execution.started",
        "step.started",
        "step.completed",
        "execution.completed",
    ]
    assert {data["execution_id"] for _, data in found} == {execution}
    assert found[0][1] == {
        "execution_id": execution,
        "pipeline": "enrich",
        "tenant": "acme",
        "trigger": None,
    }
    assert found[1][1]["step"] == "charge"
    assert found[-1][1]["status"] == "completed"
    assert "4711" not in json.dumps(found)


def test_pipelines_tenants_and_failures_are_told_apart(served, store, lease):
    query = {"pipeline": "enrich", "tenant": "acme"}
    with served.client.stream("GET", LIVE, params=query) as response:
        record(store, lease, tenant="other")
        record(store, lease, pipeline="audit")
        error = PermanentError("the server answered 422.", code="http_status")
        record(store, lease, ended={0: Ended("failed", "charge", error)})
        found = read(response, "execution.failed")
    assert [kind for kind, _ in found] == [
        "execution.started",
        "step.started",
        "step.failed",
        "execution.failed",
    ]
    assert {data.get("error") for kind, data in found if kind.endswith("failed")} == {"http_status"}


def test_more_than_can_be_shown_are_counted(served, store, lease):
    with served.client.stream("GET", LIVE) as response:
        record(store, lease, 120)
        found = read(response, "skipped")
    assert found[-1] == ("skipped", {"executions": 70})
    assert sum(kind == "execution.completed" for kind, _ in found) == 50


@pytest.mark.parametrize("query", [{"pipeline": "no"}])
def test_what_is_not_there_can_not_be_watched(served, query):
    assert problem(served.client.get(LIVE, params=query)) == (404, "unknown_pipeline")
