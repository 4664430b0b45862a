"""A value that is not JSON can't stand inside a JSON envelope; alone it passes unread."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Producer

from flows.plan import load_flow
from flows.runtime.supervisor import RunOptions, Supervisor, Watcher
from flows.state.store import open_store

pytestmark = pytest.mark.kafka

VALUES = [b'{"n": 1}', b"\x00\xffnot json", b'{"n": 2}']


class Seen(Watcher):
    def __init__(self):
        self.lines = []

    def log_line(self, line):
        self.lines.append(line.decode())

    def error(self, error):
        self.lines.append(str(error))


def pass_through(kafka, tmp_path, publish_format):
    """Run VALUES through a flow that reads nothing; return what came out and the dead letters."""
    into, out = kafka.create_topic(1), kafka.create_topic(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in VALUES:
        producer.produce(into, value)
    assert producer.flush(30) == 0
    producer.close()
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        f"""
version: 1
name: shop
state: {{url: "sqlite:///{tmp_path}/state.db"}}
modules:
  - name: in
    type: source.kafka
    config: {{brokers: ["{kafka.bootstrap}"], topics: [{into}], start: earliest}}
  - name: out
    type: sink.kafka
    config: {{brokers: ["{kafka.bootstrap}"], topic: {out}, publish_format: {publish_format}}}
pipelines:
  p:
    trigger: {{type: event, source: in}}
    steps:
      - {{name: publish, type: step.publish, config: {{sink: out}}}}
"""
    )
    plan = load_flow([flow])
    seen = Seen()
    assert Supervisor([flow], plan, RunOptions(until_caught_up=True), seen).run() == 0, seen.lines
    store = open_store(plan.state_url)
    letters = store.dead_letters("shop", pipeline=None, limit=10, after=None)
    store.close()
    return kafka.read_all(out, len(VALUES) - len(letters)), letters


def test_inside_an_envelope_it_becomes_a_dead_letter_and_its_neighbours_pass(kafka, tmp_path):
    messages, letters = pass_through(kafka, tmp_path, "cloudevents_structured")
    assert [json.loads(m.value())["data"] for m in messages] == [{"n": 1}, {"n": 2}]
    (letter,) = letters
    assert letter.error_code == "data_not_json"
    assert letter.wire == VALUES[1]


@pytest.mark.parametrize("publish_format", ["json", "cloudevents_binary"])
def test_alone_it_passes_byte_for_byte(kafka, tmp_path, publish_format):
    messages, letters = pass_through(kafka, tmp_path, publish_format)
    assert [m.value() for m in messages] == VALUES
    assert letters == []
