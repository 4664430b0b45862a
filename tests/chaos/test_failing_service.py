"""A service that fails one call in five, and is killed, called by a worker that is killed."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict

import pytest

from tests.chaos.failing_service import FailingService
from tests.chaos.worker_process import WorkerProcess
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    FlowFolder,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
)

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka]

KILLS = min(40, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "4")))
SERVICE_KILLS = max(1, KILLS // 8)
EVENTS = KILLS * 250
"""With 40 kills: 10,000 events, and 5 kills of the service."""
KEYS = 400


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


@pytest.fixture
def service(tmp_path):
    made = FailingService(tmp_path)
    made.start()
    yield made
    made.kill()


def write_flow(flow, kafka, topic, service):
    call = {
        "method": "POST",
        "url": f"{service.url}/do",
        "body_from": "data",
        "timeout": "500ms",
        "concurrency": 50,
        "idempotent": True,
        "idempotency_key": "order-{{ .data.n }}",
    }
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={
            "calling": pipeline(
                "orders",
                step("call", "http_call", call),
                publish("out", data_from="trigger.data"),
                key=".data.key",
                retry={"max_attempts": 4, "initial_delay": "100ms", "max_delay": "1s"},
            )
        },
    )


@pytest.mark.timeout(3600 if KILLS > 10 else 300)
def test_each_event_ends_once_and_takes_effect_once_and_no_key_is_overtaken(flow, kafka, service):
    rng = random.Random(KILLS)
    topic = kafka.create_topic(partitions=2)
    write_flow(flow, kafka, topic, service)
    killed_too = set(rng.sample(range(KILLS), SERVICE_KILLS))
    for round_ in range(KILLS):
        for partition in range(2):
            numbers = range(round_ * 250 + partition, (round_ + 1) * 250, 2)
            events = [json.dumps({"n": n, "key": f"k{n % KEYS}"}).encode() for n in numbers]
            write(kafka, topic, *events, partition=partition)
        worker = WorkerProcess(flow.path, "orders")
        if rng.random() < 0.8:
            worker.wait_until("running")
        time.sleep(rng.random())  # the moments of the kills are the random variables
        if round_ in killed_too:
            service.kill()
            time.sleep(rng.random() * 0.5)
            service.start()
            time.sleep(rng.random() * 0.5)
        worker.kill()
    last = WorkerProcess(flow.path, "orders", until_caught_up=True)
    assert last.wait(600) == 0, last.text()

    done = [line["data"]["n"] for line in flow.lines()]
    with flow.store() as store:
        letters = store.dead_letters("flow", pipeline=None, limit=EVENTS, after=None)
    dead = [json.loads(letter.event)["data"]["n"] for letter in letters]
    assert Counter(done + dead) == dict.fromkeys(range(EVENTS), 1)
    assert flow.totals() == {"calling": (len(done), len(dead), 0)}
    assert flow.parked() == 0

    effects = service.effects()
    assert max(Counter(effect.n for effect in effects).values()) == 1
    assert {effect.n for effect in effects} >= set(done)
    in_turn = defaultdict(list)
    for effect in effects:
        in_turn[effect.key].append(effect.n)
    assert all(numbers == sorted(numbers) for numbers in in_turn.values())
    written = defaultdict(list)
    for number in done:
        written[number % KEYS].append(number)
    assert all(numbers == sorted(numbers) for numbers in written.values())
