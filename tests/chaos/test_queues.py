"""Kill -9 at random, again and again, of a flow from a Redis stream and of one from an SQS queue."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter

import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.connectors.aws_sqs.driving import add as send
from tests.connectors.redis_stream.driving import add, fresh, pending

pytestmark = pytest.mark.chaos

KILLS = max(3, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "12")) // 4)

FLOW = """
name: queues
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - {{ name: in, type: {kind}, config: {{ {config} }} }}
  - {{ name: lines, type: sink.file, config: {{ path: "{folder}/out.jsonl", format: json }} }}
pipelines:
  to-file:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: shape, type: step.jq, config: {{ expression: "{{n: .data.n}}" }} }}
      - {{ name: write, type: step.publish, config: {{ sink: lines }} }}
"""


def killed_again_and_again(flow, emit, each):
    """Kill a worker KILLS times while events come, and let the last one catch up."""
    for turn in range(KILLS):
        emit(range(turn * each, (turn + 1) * each))
        worker = WorkerProcess(flow, "in")
        worker.wait_until("running")
        time.sleep(random.uniform(0.0, 0.4))  # the moment is left to chance
        worker.kill()
    worker = WorkerProcess(flow, "in", until_caught_up=True)
    assert worker.wait(120) == 0, worker.text()


def numbers(folder):
    lines = (folder / "out.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["n"] for line in lines)


def test_random_kills_of_a_reader_of_a_redis_stream_lose_nothing_and_repeat_nothing_in_a_file(
    redis_url, valkey, tmp_path
):
    stream, each = fresh(), 4000
    flow = tmp_path / "flow.yaml"
    config = f'url: "{redis_url}", streams: ["{stream}"], group: shop'
    flow.write_text(FLOW.format(folder=tmp_path, kind="source.redis_stream", config=config))
    with valkey.client() as client:
        killed_again_and_again(flow, lambda chosen: add(client, stream, chosen), each)
        found = numbers(tmp_path)
        assert sorted(found) == list(range(KILLS * each))
        assert set(found.values()) == {1}
        assert pending(client, stream) == 0


def test_random_kills_of_a_reader_of_an_sqs_queue_lose_nothing_and_repeat_nothing_in_a_file(
    elasticmq, tmp_path
):
    url, each = elasticmq.create_queue(), 300
    flow = tmp_path / "flow.yaml"
    config = (
        f'queue_url: "{url}", region: eu-west-1, access_key_id: x, secret_access_key: y,'
        " visibility_timeout: 2s, wait_time: 1s, max_in_flight: 100"
    )
    flow.write_text(FLOW.format(folder=tmp_path, kind="source.aws_sqs", config=config))
    killed_again_and_again(flow, lambda chosen: send(elasticmq, url, chosen), each)
    found = numbers(tmp_path)
    assert sorted(found) == list(range(KILLS * each))
    assert set(found.values()) == {1}
    assert elasticmq.counts(url) == (0, 0)
