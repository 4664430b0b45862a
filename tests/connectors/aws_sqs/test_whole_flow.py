"""A flow from queue to queue and file, killed in the middle: all there at the sinks."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.connectors.aws_sqs.driving import add

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
