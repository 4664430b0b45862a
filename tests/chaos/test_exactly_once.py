"""Exactly once, from Kafka to Kafka, while workers are killed and stopped and brokers go away."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time

import pytest

from flows.runtime import exits
from flows.runtime.committer import LEASE_TTL
from tests.chaos.worker_process import WorkerProcess
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    FlowFolder,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka]

KILLS = min(int(os.environ.get("PENSTOCK_CHAOS_KILLS", "4")), 30)
PARTITIONS = 4
EVENTS = KILLS * 50_000 // 3 if KILLS > 10 else 20_000
"""All partitions together; 500,000 with 30 kills."""


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


class Copying:
    """Kafka → jq → Kafka; the events of a partition are numbered."""

    def __init__(self, flow, kafka):
        self.flow, self.kafka = flow, kafka
        self.topic, self.target = (kafka.create_topic(PARTITIONS) for _ in range(2))
        self.counts = [0] * PARTITIONS
        self.workers = []
        shape = step(
            "shape", "jq", {"expression": "{n: .data.n, p: .data.p, twice: (.data.n * 2)}"}
        )
        sink = {
            "name": "topic",
            "type": "sink.kafka",
            "config": {
                "brokers": kafka.bootstrap,
                "topic": self.target,
                "publish_format": "json",
            },
        }
        flow.write(
            modules=[kafka_source(kafka, self.topic), sink],
            pipelines={
                "copy": pipeline("orders", shape, publish("topic"), delivery="exactly_once")
            },
        )

    def fill(self, count):
        for partition in range(PARTITIONS):
            start = self.counts[partition]
            values = (b'{"n":%d,"p":%d}' % (n, partition) for n in range(start, start + count))
            write(self.kafka, self.topic, *values, partition=partition, key=f"k{partition}")
            self.counts[partition] += count

    def worker(self, **options):
        self.workers.append(WorkerProcess(self.flow.path, "orders", **options))
        return self.workers[-1]

    def end(self):
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.wait()

    def check(self):
        found = [[] for _ in range(PARTITIONS)]
        for message in self.kafka.read_all(self.target, sum(self.counts), 120):
            event = json.loads(message.value())
            assert event["twice"] == 2 * event["n"]
            found[event["p"]].append(event["n"])
        assert found == [list(range(count)) for count in self.counts]
        assert self.flow.totals() == {"copy": (sum(self.counts), 0, 0)}

    def done(self):
        totals = self.flow.totals()
        return totals["copy"][0] if totals else 0


@pytest.fixture
def copying(flow, kafka):
    made = Copying(flow, kafka)
    yield made
    made.end()


@pytest.mark.timeout(3600 if KILLS > 10 else 300)
def test_random_kills_repeat_and_lose_nothing_for_readers_of_committed_events(copying):
    rng = random.Random(KILLS)
    share = EVENTS // PARTITIONS // KILLS
    copying.fill(EVENTS // PARTITIONS - KILLS * (share // 2))
    for _ in range(KILLS):
        worker = copying.worker()
        worker.wait_until("running")
        copying.fill(share // 2)
        time.sleep(rng.random() * 0.6)  # the moment of the kill is the random variable
        worker.kill()
    last = copying.worker(until_caught_up=True)
    assert last.wait(300) == 0, last.text()
    copying.check()


def test_a_worker_that_wakes_up_after_it_was_taken_over_from_doubles_nothing(copying):
    copying.fill(3000)
    old = copying.worker(holder="old")
    old.wait_until("running")
    stop = threading.Event()
    feeding = threading.Thread(target=_feed, args=(copying, stop))
    feeding.start()
    try:
        wait_for(lambda: copying.done() > 1000, "the first events")
        wait_for(lambda: _stopped_outside_of_a_transaction(old, copying), "a moment to stop it in")
        new = copying.worker(holder="new")
        new.wait_until("running", 4 * LEASE_TTL)
        before = copying.done()
        wait_for(lambda: copying.done() > before, "events of the new one")
        old.process.send_signal(signal.SIGCONT)
        assert old.wait() == 75, old.text()  # lease lost: its supervisor starts it as a standby
        assert "kafka_fenced" in old.text() or "lease_lost" in old.text()
    finally:
        stop.set()
        feeding.join(30)
    assert new.drain() == 0, new.text()
    last = copying.worker(holder="new", until_caught_up=True)
    assert last.wait() == 0, last.text()
    copying.check()


def _stopped_outside_of_a_transaction(worker, copying):
    """Stop the worker; let it go on if it holds the lock of the state store, which nobody then had."""
    worker.process.send_signal(signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(copying.flow.folder / "state.db", 0.5)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
            other.rollback()
        except sqlite3.OperationalError:
            worker.process.send_signal(signal.SIGCONT)
            return False
    return True


def _feed(copying, stop):
    while not stop.wait(0.02):
        copying.fill(20)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_broker_that_dies_in_mid_transaction_costs_nothing_but_time(copying, kafka, how):
    """Where the client forgets all brokers, that time was 81 and 104 s (seen twice)."""
    copying.fill(30_000)
    copying.worker()
    for reached in (1_000, 25_000):  # of 120,000, and a transaction holds at most 10,000
        wait_for(lambda reached=reached: _done_by_restarts(copying) >= reached, "progress", 200)
        assert copying.done() < sum(copying.counts)
        getattr(kafka, how)()
        kafka.start_again()
    wait_for(lambda: _done_by_restarts(copying) == sum(copying.counts), "all of it", 200)
    worker = copying.workers[-1]
    assert worker.drain() == 0, worker.text()
    copying.check()


def _done_by_restarts(copying):
    """Return what is done; start the worker again where a supervisor would."""
    worker = copying.workers[-1]
    code = worker.process.poll()
    if code is not None:
        assert code == exits.UNREACHABLE, worker.text()
        copying.worker()
    return copying.done()


def test_a_worker_killed_between_prepare_and_commit_again_and_again_gets_on_in_the_end(copying):
    copying.fill(500)
    for _ in range(3):
        worker = copying.worker(fail_point="after_prepare_before_commit:1")
        assert worker.wait() == -9, worker.text()
    last = copying.worker(until_caught_up=True)
    assert last.wait() == 0, last.text()
    copying.check()
