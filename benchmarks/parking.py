"""One key in a hundred fails, and is tried again: what that costs the other keys.

Kafka → a step with an effect → Kafka, `retry` on. In one run no key fails; in the other those of ten
keys of a thousand do, all the time: their events wait in the state store, the later ones behind the
first. Both figures are of the events of the 990 keys that never fail.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson
from confluent_kafka import Producer

from benchmarks.harness import Figure, measure
from benchmarks.orders import WORKS
from benchmarks.runs import received, worker_command
from connectors.errors import RetryableError
from tests.services.kafka import KafkaBroker

KEYS = 1000
FAILING = 10

FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: off }}
modules:
  - {{ name: in, type: source.kafka, config: {{ brokers: "{brokers}", topic: {source}, start: earliest, format: json }} }}
  - {{ name: out, type: sink.kafka, config: {{ brokers: "{brokers}", topic: {target}, publish_format: json }} }}
pipelines:
  bench:
    trigger: {{ source: in }}
    retry: {{ max_attempts: 1000, initial_delay: 1s, max_delay: 30s, max_parked: 1000000 }}
    steps:
      - {{ name: call, type: step.python, config: {{ function: "benchmarks.parking:{function}", effect: true }} }}
      - {{ name: send, type: step.publish, config: {{ sink: out, data_from: data }} }}
"""


def call(data: dict[str, Any]) -> dict[str, Any]:
    """Stand for a call that succeeds."""
    return {"ok": data["key"]}


def call_failing(data: dict[str, Any]) -> dict[str, Any]:
    """Stand for a call that fails for ten keys."""
    if data["key"] < FAILING:
        raise RetryableError("The server is busy.", code="bench_busy")
    return {"ok": data["key"]}


def fill(broker: KafkaBroker, count: int) -> tuple[str, int]:
    """Write `count` orders of random keys to a topic; return it and how many never fail."""
    topic = broker.create_topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    rng = random.Random(1)
    orders = [orjson.loads(WORKS["shape"].order(number, rng)) for number in range(1000)]
    sound = 0
    for number in range(count):
        key = rng.randrange(KEYS)
        sound += key >= FAILING
        value = orjson.dumps({**orders[number % len(orders)], "key": key})
        while True:
            try:
                producer.produce(topic, value, key=str(key))
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return topic, sound


def penstock(broker: KafkaBroker, source: str, count: int, sound: int, function: str) -> Figure:
    """Run a worker until the events that never fail are through."""
    target = broker.create_topic()
    fails = function == "call_failing"
    with worker_command() as (folder, command):
        flow = folder / "flow.yaml"
        flow.write_text(
            FLOW.format(
                folder=folder,
                brokers=broker.bootstrap,
                source=source,
                target=target,
                function=function,
            )
        )
        wanted = sound if fails else count
        figure = measure(command(flow, "in"), wanted, received, report_fd=True)
    found = {
        orjson.loads(message.value())["key"] for message in broker.read_all(target, wanted, 60)
    }
    if len(found) != KEYS - FAILING * fails or (fails and min(found) < FAILING):
        raise SystemExit(f"{target} has events of {len(found)} keys")
    return figure


def run(broker: KafkaBroker, count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs, which alternate."""
    source, sound = fill(broker, count)
    names = {
        "Retry: no key fails": "call",
        f"Retry: {FAILING} keys of {KEYS} fail": "call_failing",
    }
    runs: dict[str, list[Figure]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, function in names.items():
            runs[name].append(penstock(broker, source, count, sound, function))
    yield from runs.items()
