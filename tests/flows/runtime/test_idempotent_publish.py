"""`publish` with `idempotent: true`: once per key, across events, kills and replays."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import kafka_sink, kafka_source, pipeline, publish, step

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KEY = {"idempotent": True, "idempotency_key": "receipt_{{ .data.order }}"}


class Announcing:
    """Kafka → an idempotent publish → Kafka."""

    def __init__(self, flow, kafka):
        self.flow, self.kafka = flow, kafka
        self.topic, self.target = kafka.create_topic(2), kafka.create_topic(1)
        self.write_flow()

    def write_flow(self, *after, **config):
        self.flow.write(
            modules=[
                kafka_source(self.kafka, self.topic),
                kafka_sink(self.kafka.bootstrap, self.target),
            ],
            pipelines={
                "announce": pipeline("orders", publish("topic", **{**KEY, **config}), *after)
            },
        )

    def send(self, *orders, partition=0):
        values = [json.dumps({"order": order}).encode() for order in orders]
        write(self.kafka, self.topic, *values, partition=partition)

    def published(self, count):
        messages = self.kafka.read_all(self.target, count)
        events = [json.loads(message.value()) for message in messages]
        return Counter(event["data"]["order"] for event in events), {e["id"] for e in events}


@pytest.fixture
def announcing(flow, kafka):
    return Announcing(flow, kafka)


def test_a_key_is_published_once_within_a_batch_across_batches_and_workers(announcing):
    announcing.send(*range(50), *range(50))
    announcing.send(*range(50), partition=1)
    announcing.flow.run("--workers", "2")
    announcing.send(3, 50)
    announcing.flow.catch_up()
    assert announcing.published(51)[0] == dict.fromkeys(range(51), 1)
    assert announcing.flow.totals() == {"announce": (152, 0, 0)}


@pytest.mark.parametrize(
    ("point", "repeats"),
    [("after_idempotent_effect", True), ("after_effects_before_settle", False)],
)
def test_a_kill_repeats_only_what_is_not_stored_and_with_the_same_id(announcing, point, repeats):
    announcing.send(*range(40))
    announcing.flow.killed_at(point)
    announcing.flow.catch_up()
    found, ids = announcing.published(40)
    assert sorted(found) == list(range(40))
    assert len(ids) == 40
    assert (found.total() > 40) is repeats
    assert announcing.flow.totals() == {"announce": (40, 0, 0)}


def test_a_replay_does_not_publish_again_what_was_through_before_it_failed(announcing, tmp_path):
    (tmp_path / "later.py").write_text(
        "from pathlib import Path\n"
        f"MENDED = Path({str(tmp_path)!r}, 'mended')\n"
        "def check(data):\n"
        "    if not MENDED.exists():\n"
        "        raise ValueError('not yet')\n"
        "    return data\n"
    )
    announcing.write_flow(step("check", "python", {"function": "later:check"}))
    announcing.send(1, 2)
    announcing.flow.catch_up()
    assert len(announcing.flow.letters()) == 2
    (tmp_path / "mended").touch()
    flow = announcing.flow
    replayed = flow.penstock("dlq", "replay", "--all", "--yes", str(flow.path))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert flow.letters() == []
    assert announcing.published(2)[0] == {1: 1, 2: 1}
