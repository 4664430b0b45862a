"""Backfills over a time window that a Redis stream itself is read by: no archive, a real server."""

from __future__ import annotations

import json

import pytest

from backfill import jobs
from backfill.order import Order
from backfill.planning import prepare
from backfill.process import run
from backfill.request import BackfillRequest
from flows.plan import load_flow
from flows.runtime.halt import Halt
from tests.connectors.redis_stream.driving import add, fresh, pending
from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, step

COUNT = 300


@pytest.fixture
def flow(tmp_path, redis_url, valkey):
    """A flow through which the entries of a stream have gone."""
    made = FlowFolder(tmp_path)
    stream = fresh()
    config = {"url": redis_url, "streams": [stream], "group": "shop", "key_field": "k"}
    made.write(
        modules=[
            {"name": "clicks", "type": "source.redis_stream", "config": config},
            file_sink(tmp_path),
        ],
        pipelines={
            "copy": pipeline(
                "clicks", step("shape", "jq", {"expression": "{n: .data.n}"}), publish("out")
            )
        },
    )
    with valkey.client() as client:
        add(client, stream, range(COUNT))
        made.run()
        assert made.totals() == {"copy": (COUNT, 0, 0)}
        yield made
        assert pending(client, stream) == 0
        (group,) = client.xinfo_groups(stream)
        assert group["name"] == b"shop" or group["name"] == "shop"
    made.end()


def report_of(flow, mode):
    with flow.store() as store:
        asked = {"pipeline": "copy", "from": "1h", "to": "0s", "mode": mode}
        prepared = prepare(load_flow([flow.path]), BackfillRequest.model_validate(asked))
        job = jobs.find(store, jobs.begin(store, prepared, by="me"))
        order = Order(job.id, flow.state_url, [str(flow.path)], [])
        assert run(order, Halt()) == 0, jobs.find(store, job.id).error
        return jobs.report_document(store, jobs.find(store, job.id))["report"]


def numbers(flow):
    return sorted(line["data"]["n"] for line in flow.lines())


def test_a_shadow_finds_each_entry_the_same_and_a_live_job_does_each_again(flow):
    counts = report_of(flow, "shadow")["comparison"]["executions"]
    assert (counts["identical"], counts["new"]) == (COUNT, 0)
    assert numbers(flow) == list(range(COUNT))
    report = report_of(flow, "live")
    assert (report["read"], report["done"], report["failed"]) == (COUNT, COUNT, 0)
    assert numbers(flow) == sorted([*range(COUNT), *range(COUNT)])


def test_a_plan_says_what_the_stream_holds(flow):
    ended = flow.penstock(
        "backfill", "plan", str(flow.path), "--pipeline", "copy", "--from", "1h", "-o", "json"
    )
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)
    assert (plan["read_from"], plan["events"]) == ("source.redis_stream", COUNT)
