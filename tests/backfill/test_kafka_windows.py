"""Backfills over a time window that Kafka itself is read by: no archive, a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from backfill import jobs
from backfill.order import Order
from backfill.planning import prepare
from backfill.process import run
from backfill.request import BackfillRequest
from flows.plan import load_flow
from flows.runtime.halt import Halt
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import FlowFolder, file_sink, kafka_source, pipeline, publish, step

pytestmark = pytest.mark.kafka

EACH = 150
"""Messages in each of two partitions that are in the window; as many are older."""


class Topic:
    """A flow whose topic's messages have gone through it, without an archive."""

    def __init__(self, folder, kafka):
        self.flow = FlowFolder(folder)
        self.topic = kafka.create_topic(2)
        self.kafka = kafka
        self.now = int(time.time() * 1000)
        for partition in range(2):
            for first, at in ((0, self.now - 7_200_000), (EACH, self.now - 600_000)):
                values = [b'{"n":%d,"p":%d}' % (n, partition) for n in range(first, first + EACH)]
                write(
                    kafka,
                    self.topic,
                    *values,
                    partition=partition,
                    key=f"k{partition}",
                    timestamp=at,
                )
        self.write("{n: .data.n, p: .data.p}")
        self.flow.run()
        assert self.flow.totals() == {"copy": (4 * EACH, 0, 0)}

    def write(self, expression):
        self.flow.write(
            modules=[kafka_source(self.kafka, self.topic), file_sink(self.flow.folder)],
            pipelines={
                "copy": pipeline(
                    "orders", step("shape", "jq", {"expression": expression}), publish("out")
                )
            },
        )

    def ask(self, store, mode="dry_run", **more):
        """Keep a job over the last hour."""
        asked = {"pipeline": "copy", "from": "1h", "to": "0s", "mode": mode, **more}
        prepared = prepare(load_flow([self.flow.path]), BackfillRequest.model_validate(asked))
        return jobs.find(store, jobs.begin(store, prepared, by="me"))

    def order(self, job):
        return Order(job.id, self.flow.state_url, [str(self.flow.path)], [])

    def run(self, mode="dry_run"):
        """Run a job over the last hour to its end; return its report."""
        with self.flow.store() as store:
            job = self.ask(store, mode)
            assert run(self.order(job), Halt()) == 0
            return jobs.report_document(store, jobs.find(store, job.id))["report"]

    def written(self):
        return sorted((line["data"]["p"], line["data"]["n"]) for line in self.flow.lines())

    def committed(self):
        client = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap, "group.id": "penstock.orders"}
        )
        try:
            asked = [TopicPartition(self.topic, p) for p in range(2)]
            return [each.offset for each in client.committed(asked, 20)]
        finally:
            client.close()


LIVE = sorted((p, n) for p in range(2) for n in range(2 * EACH))
IN_WINDOW = [(p, n) for p, n in LIVE if n >= EACH]


@pytest.fixture
def topic(tmp_path, kafka):
    made = Topic(tmp_path, kafka)
    yield made
    made.flow.end()


def test_a_dry_run_and_a_shadow_read_the_window_alone_and_leave_everything_as_it_was(topic):
    before = topic.committed()
    with topic.flow.store() as store:
        positions = store.checkpoints("flow", "orders")
    report = topic.run()
    assert (report["read"], report["done"], report["failed"]) == (2 * EACH, 2 * EACH, 0)
    counts = topic.run("shadow")["comparison"]["executions"]
    assert (counts["identical"], counts["new"]) == (2 * EACH, 0)
    topic.write("{n: (if .data.n % 50 == 3 then null else .data.n end), p: .data.p}")
    counts = topic.run("shadow")["comparison"]["executions"]
    assert (counts["different"], counts["identical"]) == (6, 2 * EACH - 6)
    assert topic.committed() == before
    assert topic.written() == LIVE
    with topic.flow.store() as store:
        assert store.checkpoints("flow", "orders") == positions


def test_a_plan_says_what_the_window_holds(topic):
    asked = ["backfill", "plan", str(topic.flow.path), "--pipeline", "copy", "--from", "1h"]
    ended = topic.flow.penstock(*asked, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)
    assert plan["read_from"] == "source.kafka"
    assert plan["events"] == 2 * EACH


@pytest.mark.parametrize("mode", ["shadow", "live"])
def test_a_killed_job_goes_on_within_the_window(topic, mode):
    before = topic.committed()
    point = {"shadow": "backfill_after_batch:2", "live": "after_settle_before_checkpoint:2"}[mode]
    with topic.flow.store() as store:
        job = topic.ask(store, mode, rate_limit="100/s")
        killed = subprocess.run(
            [sys.executable, "-m", "tests.backfill.job_process", topic.order(job).encode()],
            env=os.environ | {"PENSTOCK_FAIL_POINT": point},
            timeout=120,
            check=False,
        )
        assert killed.returncode == -9
        assert bool(store.checkpoints("flow", job.owner)) == (mode == "live")
        store.backfills._change(job.id, request=job.request.replace("100.0", "100000.0"))
        assert run(topic.order(job), Halt()) == 0, jobs.find(store, job.id).error
        report = jobs.report_document(store, jobs.find(store, job.id))["report"]
    assert (report["read"], report["done"], report["failed"]) == (2 * EACH, 2 * EACH, 0)
    assert topic.written() == (sorted(LIVE + IN_WINDOW) if mode == "live" else LIVE)
    assert topic.committed() == before
