"""Kafka → Kafka: pass-through, and validate → shape, beside the same as a bare loop."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from zlib import crc32

import orjson
from confluent_kafka import Producer

from benchmarks.harness import Figure, measure
from benchmarks.orders import SCHEMA, order, shape
from benchmarks.runs import count_line, received, worker_command
from tests.services.kafka import KafkaBroker

FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - {{ name: in, type: source.kafka, config: {{ brokers: "{brokers}", topic: {source}, start: earliest, format: json }} }}
  - {{ name: out, type: sink.kafka, config: {{ brokers: "{brokers}", topic: {target}, publish_format: json }} }}
schemas:
  order: {{ version: "1.0", type: json, data_schema: {schema} }}
pipelines:
  bench:
    trigger: {trigger}
    steps: {steps}
"""
PASS = [{"name": "send", "type": "step.publish", "config": {"sink": "out"}}]
SHAPE = [
    {"name": "shape", "type": "step.python", "config": {"function": "benchmarks.orders:shape"}},
    *PASS,
]


def fill(broker: KafkaBroker, count: int) -> tuple[str, int]:
    """Write `count` orders to a new topic; return it and a checksum of the shaped orders."""
    topic = broker.create_topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    rng = random.Random(1)
    orders = [order(number, rng) for number in range(min(count, 20_000))]
    for number in range(count):
        while True:
            try:
                producer.produce(topic, orders[number % len(orders)], key=str(number))
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return topic, count


def bare(broker: KafkaBroker, source: str, count: int, work: str) -> Figure:
    """Run the bare loop."""
    target = broker.create_topic()
    command = [sys.executable, "-m", "benchmarks.bare.kafka_loop"]
    figure = measure([*command, broker.bootstrap, source, target, work], count, count_line)
    verify(broker, source, target, count, work)
    return figure


def penstock(broker: KafkaBroker, source: str, count: int, work: str, record: str) -> Figure:
    """Run a worker of the flow."""
    target = broker.create_topic()
    trigger = {"type": "event", "source": "in"}
    if work == "shape":
        trigger["schema"] = "order"
    with worker_command() as (folder, command):
        flow = folder / "flow.yaml"
        flow.write_text(
            FLOW.format(
                folder=folder,
                record=record,
                brokers=broker.bootstrap,
                source=source,
                target=target,
                schema=orjson.dumps(SCHEMA).decode(),
                trigger=orjson.dumps(trigger).decode(),
                steps=orjson.dumps(SHAPE if work == "shape" else PASS).decode(),
            )
        )
        figure = measure(command(flow, "in"), count, received, report_fd=True)
    verify(broker, source, target, count, work)
    return figure


def verify(broker: KafkaBroker, source: str, target: str, count: int, work: str) -> None:
    """Compare the target with the source, message by message in order, shaped where it should be."""
    sums = [0, 0]
    for place, topic in enumerate((source, target)):
        messages = broker.read_all(topic, count, 120)
        if len(messages) != count:
            raise SystemExit(f"{topic} has {len(messages)} messages, not {count}")
        for message in messages:
            value = message.value()
            if place == 0 and work == "shape":
                value = orjson.dumps(shape(orjson.loads(value)))
            sums[place] = crc32(value, crc32(message.key(), sums[place]))
    if sums[0] != sums[1]:
        raise SystemExit(f"the checksums of {source} and {target} differ")


def run(broker: KafkaBroker, count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs; the runs of a group alternate."""
    source, _ = fill(broker, count)
    for work in ("pass", "shape"):
        contenders = {
            f"Kafka {work}: bare loop": lambda w=work: bare(broker, source, count, w),
            f"Kafka {work}: Penstock, history off": lambda w=work: penstock(
                broker, source, count, w, "off"
            ),
            f"Kafka {work}: Penstock, history full": lambda w=work: penstock(
                broker, source, count, w, "full"
            ),
        }
        runs: dict[str, list[Figure]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                runs[name].append(contender())
        yield from runs.items()
