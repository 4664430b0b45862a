"""A flow from stream to stream and file, killed in the middle: all there at the sinks."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from connectors.testing import wait_until
from tests.chaos.worker_process import WorkerProcess
from tests.connectors.redis_stream.driving import add, fresh, pending
from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, step
from tests.transforms.steps.answering import Answer, as_json, serving

FLOW = """
name: clicks
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - {{ name: in, type: source.redis_stream, config: {{ url: "{url}", streams: ["{stream}"], group: shop, key_field: k }} }}
  - {{ name: out, type: sink.redis_stream, config: {{ url: "{url}", stream: "{stream}-out" }} }}
  - {{ name: lines, type: sink.file, config: {{ path: "{folder}/out.jsonl", format: json }} }}
pipelines:
  to-stream:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: shape, type: step.jq, config: {{ expression: "{{n: .data.n}}" }} }}
      - {{ name: add, type: step.publish, config: {{ sink: out }} }}
  to-file:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: write, type: step.publish, config: {{ sink: lines }} }}
"""


@pytest.mark.parametrize(
    "fail_point",
    [
        "after_effects_before_settle:3",
        "after_settle_before_checkpoint:3",
        "after_checkpoint_before_acknowledge:3",
    ],
)
def test_a_kill_at_a_named_point_loses_nothing_and_repeats_nothing_in_a_file(
    redis_url, valkey, tmp_path, fail_point
):
    stream, total = fresh(), 6000
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW.format(folder=tmp_path, url=redis_url, stream=stream))
    with valkey.client() as client:
        add(client, stream, range(total))
        worker = WorkerProcess(flow, "in", fail_point=fail_point)
        assert worker.wait() == -9, worker.text()
        worker = WorkerProcess(flow, "in", until_caught_up=True)
        assert worker.wait() == 0, worker.text()
        text = (tmp_path / "out.jsonl").read_text()
        lines = [json.loads(line)["n"] for line in text.splitlines()]
        assert lines == list(range(total))
        added = Counter(
            json.loads(fields["data"])["data"]["n"] for _, fields in client.xrange(f"{stream}-out")
        )
        assert sorted(added) == list(range(total))
        assert added.total() - total <= 3000, "more was repeated than was on its way"
        wait_until(lambda: pending(client, stream) == 0, "nothing is pending")


def test_one_of_two_workers_is_killed_and_each_entry_is_at_the_sink(redis_url, valkey, tmp_path):
    stream, total = fresh(), 20_000
    flow = FlowFolder(tmp_path)
    config = {"url": redis_url, "streams": [stream], "group": "shop"}
    flow.write(
        modules=[
            {"name": "in", "type": "source.redis_stream", "config": config},
            file_sink(tmp_path, format="json"),
        ],
        pipelines={
            "p": {
                "trigger": {"type": "event", "source": "in"},
                "steps": [{"name": "w", "type": "step.publish", "config": {"sink": "out"}}],
            }
        },
    )
    try:
        with valkey.client() as client:
            run = flow.start("--workers", "2", "--no-server")
            run.wait_until_started(2)
            add(client, stream, range(total // 2))
            run.workers()[0].kill()
            add(client, stream, range(total // 2, total))

            def through():
                (group,) = client.xinfo_groups(stream)
                return (group["lag"], group["pending"]) == (0, 0)

            wait_until(through, "all is read and acknowledged", seconds=60)
            assert run.stop() == 0, run.text()
            assert sorted(line["n"] for line in flow.lines()) == list(range(total))
    finally:
        flow.end()


def test_what_a_worker_that_does_not_come_back_had_on_its_way_is_worked_off_by_the_other(
    redis_url, valkey, tmp_path
):
    stream = fresh()
    flow = FlowFolder(tmp_path)
    config = {"url": redis_url, "streams": [stream], "group": "shop", "claim_after": "2s"}

    def pending_of():
        return {row["name"]: row["pending"] for row in client.xinfo_consumers(stream, "shop")}

    try:
        with serving() as service, valkey.client() as client:
            service.answer = lambda seen: Answer(reset=True, wait=service.released)
            call = {"url": service.url, "method": "POST", "body_from": "data", "timeout": "60s"}
            flow.write(
                modules=[
                    {"name": "in", "type": "source.redis_stream", "config": config},
                    file_sink(tmp_path, format="json"),
                ],
                pipelines={
                    "p": pipeline(
                        "in", step("call", "http_call", call), publish("out", data_from="data")
                    )
                },
            )
            run = flow.start("--workers", "2", "--no-server")
            run.wait_until_started(2)
            total = 0

            def both_have_some():
                nonlocal total
                add(client, stream, range(total, total + 10))
                total += 10
                found = pending_of()
                return len(found) == 2 and all(found.values())

            wait_until(both_have_some, "each of the two workers has entries on its way")
            run.kill_all()
            service.answer = lambda seen: as_json({})
            run = flow.start("--workers", "1", "--no-server")
            wait_until(
                lambda: not any(pending_of().values()) and len(flow.lines()) >= total,
                "the worker that is left does those of both",
                seconds=60,
            )
            assert run.stop() == 0, run.text()
            assert sorted(line["n"] for line in flow.lines()) == list(range(total))
    finally:
        flow.end()
