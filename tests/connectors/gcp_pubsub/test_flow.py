"""A whole flow from one topic to another and to a file, killed with SIGKILL in the middle."""

from __future__ import annotations

import json

import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.running import wait_for
from tests.services.pubsub import PROJECT

FLOW = """
name: pings
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - name: in
    type: source.gcp_pubsub
    config: {{ project: {project}, subscription: {subscription}, endpoint: "{address}", ack_deadline: 10s }}
  - name: out
    type: sink.gcp_pubsub
    config: {{ project: {project}, topic: {out}, endpoint: "{address}" }}
  - {{ name: lines, type: sink.file, config: {{ path: "{folder}/out.jsonl", format: json }} }}
pipelines:
  forward:
    trigger: {{ type: event, source: in }}
    steps:
      - {{ name: send, type: step.publish, config: {{ sink: out }} }}
      - {{ name: write, type: step.publish, config: {{ sink: lines }} }}
"""


@pytest.mark.chaos
@pytest.mark.parametrize(
    "point", ["after_effects_before_settle", "after_checkpoint_before_acknowledge"]
)
def test_a_killed_flow_loses_no_message_and_settles_each_once(tmp_path, pubsub, point):
    topic, out = pubsub.topic(), pubsub.topic()
    pubsub.subscription(out)
    flow = tmp_path / "pings.yaml"
    flow.write_text(
        FLOW.format(
            folder=tmp_path,
            project=PROJECT,
            subscription=pubsub.subscription(topic),
            address=pubsub.address,
            out=out,
        )
    )
    pubsub.publish(topic, [{"data": b'{"n":%d}' % n} for n in range(60)])
    killed = WorkerProcess(flow, "in", fail_point=f"{point}:3")
    assert killed.wait() == -9, killed.text()
    worker = WorkerProcess(flow, "in")
    try:
        # What the killed one had in hand comes once its lease of 10 s has run out.
        wait_for(lambda: all(m["Acks"] for m in pubsub.messages(topic)), "all to be acknowledged")
        assert worker.drain() == 0, worker.text()
    finally:
        worker.process.kill()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == list(range(60))
    # What was in flight is in the topic twice, as its guarantee says; in the file each is once.
    assert {json.loads(m["Data"])["n"] for m in pubsub.messages(out)} == set(range(60))
