"""A flow from queue to queue and file, killed in the middle: all there at the sinks."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from connectors.testing import wait_until
from tests.chaos.worker_process import WorkerProcess
from tests.connectors.aws_sqs.driving import LOGIN, add
from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, step
from tests.transforms.steps.answering import as_json, serving

FLOW = """
name: jobs
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - name: in
    type: source.aws_sqs
    config: {{ queue_url: "{source}", {login}, visibility_timeout: 4s, wait_time: 1s, max_in_flight: 100 }}
  - {{ name: out, type: sink.aws_sqs, config: {{ queue_url: "{target}", {login} }} }}
  - {{ name: lines, type: sink.file, config: {{ path: "{folder}/out.jsonl", format: json }} }}
pipelines:
  to-queue:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: send, type: step.publish, config: {{ sink: out }} }}
  to-file:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: write, type: step.publish, config: {{ sink: lines }} }}
"""


@pytest.mark.parametrize(
    "fail_point", ["after_effects_before_settle:3", "after_checkpoint_before_acknowledge:2"]
)
def test_a_kill_at_a_named_point_loses_nothing_and_repeats_nothing_in_a_file(
    elasticmq, tmp_path, fail_point
):
    source, target = elasticmq.create_queue(), elasticmq.create_queue()
    total = 600
    flow = tmp_path / "flow.yaml"
    login = "region: eu-west-1, access_key_id: x, secret_access_key: y"
    flow.write_text(FLOW.format(folder=tmp_path, source=source, target=target, login=login))
    add(elasticmq, source, range(total))
    worker = WorkerProcess(flow, "in", fail_point=fail_point)
    assert worker.wait() == -9, worker.text()
    assert sum(elasticmq.counts(source)) > 0
    worker = WorkerProcess(flow, "in", until_caught_up=True)
    assert worker.wait() == 0, worker.text()
    lines = [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(lines) == list(range(total))
    sent = Counter(json.loads(m["Body"])["data"]["n"] for m in elasticmq.receive_all(target))
    assert sorted(sent) == list(range(total))
    assert elasticmq.counts(source) == (0, 0)


def test_a_message_in_a_step_that_outlasts_its_visibility_is_done_once_while_its_worker_lives(
    elasticmq, tmp_path
):
    """The call is answered after three times as long as a message stays hidden."""
    url, total, hidden = elasticmq.create_queue(), 8, 2.0
    flow = FlowFolder(tmp_path)
    config = {"queue_url": url, "wait_time": "1s", "visibility_timeout": f"{hidden:g}s", **LOGIN}
    try:
        with serving() as service:
            answers = as_json({})._replace(wait=service.released)
            service.answer = lambda seen: answers
            call = {"url": service.url, "method": "POST", "body_from": "data", "timeout": "60s"}
            flow.write(
                modules=[
                    {"name": "in", "type": "source.aws_sqs", "config": config},
                    file_sink(tmp_path, format="json"),
                ],
                pipelines={
                    "p": pipeline(
                        "in",
                        step("call", "http_call", {**call, "concurrency": 32}),
                        publish("out", data_from="data"),
                    )
                },
            )
            # Two, each of which would be given what the other does not keep hidden.
            run = flow.start("--workers", "2", "--no-server")
            run.wait_until_started(2)
            add(elasticmq, url, range(total))
            wait_until(lambda: elasticmq.counts(url) == (0, total), "all are received")
            deadline = time.monotonic() + 3 * hidden
            while time.monotonic() < deadline:
                assert elasticmq.counts(url) == (0, total)
            service.released.set()
            wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted", seconds=60)
            assert run.stop() == 0, run.text()
            called = [json.loads(seen.body)["n"] for seen in service.seen]
            assert sorted(called) == list(range(total))
            assert sorted(line["n"] for line in flow.lines()) == list(range(total))
    finally:
        flow.end()
