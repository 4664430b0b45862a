"""Kafka → Kafka: pass-through, validate → shape, validate → jq, beside the same as a bare loop."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import orjson
from confluent_kafka import Producer

from benchmarks.harness import Figure, measure
from benchmarks.orders import WORKS
from benchmarks.runs import count_line, received, worker_command
from tests.services.kafka import KafkaBroker

FLOW = """
name: {name}
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - {{ name: in, type: source.kafka, config: {{ brokers: "{brokers}", topic: {source}, start: earliest, format: json }}{archive} }}
  - {{ name: out, type: sink.kafka, config: {{ brokers: "{brokers}", topic: {target}, publish_format: json }} }}
schemas: {schemas}
pipelines:
  bench:
    trigger: {trigger}
    delivery: {delivery}
    steps: {steps}
"""


def fill(broker: KafkaBroker, count: int, work: str) -> str:
    """Write `count` orders to a new topic and return it."""
    topic = broker.create_topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    rng = random.Random(1)
    orders = [WORKS[work].order(number, rng) for number in range(min(count, 20_000))]
    for number in range(count):
        while True:
            try:
                producer.produce(topic, orders[number % len(orders)], key=str(number))
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return topic


def bare(broker: KafkaBroker, source: str, count: int, work: str) -> Figure:
    """Run the bare loop."""
    target = broker.create_topic()
    command = [sys.executable, "-m", "benchmarks.bare.kafka_loop"]
    figure = measure([*command, broker.bootstrap, source, target, work], count, count_line)
    verify(broker, source, target, count, work)
    return figure


def penstock(
    broker: KafkaBroker,
    source: str,
    count: int,
    work: str,
    record: str,
    *,
    delivery: str = "at_least_once",
    archived: bool = False,
) -> Figure:
    """Run a worker of the flow."""
    target = broker.create_topic()
    trigger = {"type": "event", "source": "in"}
    schemas = {}
    if WORKS[work].schema is not None:
        trigger["schema"] = "order"
        schemas["order"] = {"version": "1.0", "type": "json", "data_schema": WORKS[work].schema}
    with worker_command() as (folder, command):
        flow = folder / "flow.yaml"
        flow.write_text(
            FLOW.format(
                folder=folder,
                name=target,  # a name of its own: its transactions go on from no other run's
                record=record,
                delivery=delivery,
                archive=", archive: { retention: 7d, max_size: 10GB }" if archived else "",
                brokers=broker.bootstrap,
                source=source,
                target=target,
                schemas=orjson.dumps(schemas).decode(),
                trigger=orjson.dumps(trigger).decode(),
                steps=orjson.dumps(WORKS[work].steps).decode(),
            )
        )
        figure = measure(command(flow, "in"), count, received, report_fd=True)
    verify(broker, source, target, count, work)
    return figure


def verify(broker: KafkaBroker, source: str, target: str, count: int, work: str) -> None:
    """Compare the target with the source, message by message in order, as the work makes it."""
    by_hand = WORKS[work].by_hand
    sums = [0, 0]
    for place, topic in enumerate((source, target)):
        messages = broker.read_all(topic, count, 120)
        if len(messages) != count:
            raise SystemExit(f"{topic} has {len(messages)} messages, not {count}")
        for message in messages:
            value = message.value()
            if by_hand is not None:
                if place == 0:
                    value = orjson.dumps(by_hand(orjson.loads(value)))
                value = orjson.dumps(_numbers(value))
            sums[place] = crc32(value, crc32(message.key(), sums[place]))
    if sums[0] != sums[1]:
        raise SystemExit(f"the checksums of {source} and {target} differ")


def _numbers(value: bytes) -> Any:
    """Return JSON with every number a float, whichever way it is written: 7 and 7.0 are one."""
    return json.loads(value, parse_int=float)


def run(
    broker: KafkaBroker, count: int, rounds: int, works: Sequence[str]
) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs; the runs of a group alternate."""
    for work in works:
        source = fill(broker, count, work)
        contenders = {
            f"Kafka {work}: bare loop": lambda s=source, w=work: bare(broker, s, count, w),
            f"Kafka {work}: Penstock, history off": lambda s=source, w=work: penstock(
                broker, s, count, w, "off"
            ),
            f"Kafka {work}: Penstock, history full": lambda s=source, w=work: penstock(
                broker, s, count, w, "full"
            ),
        }
        runs: dict[str, list[Figure]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                runs[name].append(contender())
        yield from runs.items()


def exactly_once(
    broker: KafkaBroker, count: int, rounds: int, works: Sequence[str]
) -> Iterator[tuple[str, list[Figure]]]:
    """Yield what `delivery: exactly_once` costs beside at_least_once; their runs alternate."""
    for work in works:
        source = fill(broker, count, work)
        for record in ("off", "full"):
            runs: dict[str, list[Figure]] = {}
            for _ in range(rounds):
                for delivery in ("at_least_once", "exactly_once"):
                    name = f"Kafka {work}, history {record}: {delivery}"
                    figure = penstock(broker, source, count, work, record, delivery=delivery)
                    runs.setdefault(name, []).append(figure)
            yield from runs.items()
