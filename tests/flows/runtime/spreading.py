"""A flow whose calls to an HTTP service are spread over a cluster: changes or messages → calls → a file."""

from __future__ import annotations

import json
import os
from collections import defaultdict

import psycopg

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import cdc_source, file_sink, kafka_source, pipeline, publish, step

SOON = {"max_attempts": 50, "initial_delay": "100ms", "max_delay": "200ms"}

WHO = """
import os

def worker(data):
    return {**data, "pid": os.getpid()}
"""


class Slot:
    """A replication slot: one process reads it, whatever their number."""

    def __init__(self, dsn, name):
        self.dsn = dsn
        self.module = cdc_source(dsn, name, "t", snapshot="never", name="orders")
        self.execute("CREATE TABLE t (n int PRIMARY KEY, key text NOT NULL)")

    def execute(self, statement, *values):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement, values)

    def send(self, rows):
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%(n)s, %(key)s)", rows)


class Topic:
    """A topic of two partitions, a key in one of them: each of two processes reads one."""

    def __init__(self, kafka):
        self.kafka, self.topic = kafka, kafka.create_topic(partitions=2)
        self.module = kafka_source(kafka, self.topic)

    def send(self, rows):
        for partition in range(2):
            values = [json.dumps(row).encode() for row in rows if partition_of(row) == partition]
            if values:
                write(self.kafka, self.topic, *values, partition=partition)


def partition_of(row):
    return int(row["key"][1:]) % 2


class Spreading:
    """The flow. An event is `{n, key}`, and `n` grows within a key."""

    def __init__(self, flow, service, source):
        self.flow, self.service, self.source = flow, service, source
        (flow.folder / "who.py").write_text(WHO)
        self.sent = 0
        self.write_flow()

    def write_flow(self, retry=SOON, call=None, **more):
        request = {
            "method": "POST",
            "url": f"{self.service.receiver.url}/do",
            "body_from": "data",
            "timeout": "2s",
        }
        self.flow.write(
            modules=[self.source.module, file_sink(self.flow.folder)],
            pipelines={
                "calling": pipeline(
                    "orders",
                    step("call", "http_call", {**request, **(call or {})}),
                    step("who", "python", {"function": "who:worker"}),
                    publish("out", data_from="steps.who.output"),
                    **{"key": ".data.key", "partition_by": ".data.key", "retry": retry, **more},
                )
            },
        )

    def start(self, workers=2, **more):
        run = self.flow.start("--workers", str(workers), **more)
        run.wait_until_started(workers)
        if isinstance(self.source, Slot) and self.flow.runs == 1:
            run.wait_for_lines("created the replication slot")
        return run

    def send(self, count, keys=10):
        """Send events that go on from those before."""
        numbers = range(self.sent, self.sent + count)
        self.source.send([{"n": n, "key": f"k{n % keys}"} for n in numbers])
        self.sent += count

    def numbers(self):
        return [line["data"]["n"] for line in self.flow.lines()]

    def pids(self):
        """Key → processes that did its calls."""
        of_key = defaultdict(set)
        for line in self.flow.lines():
            of_key[line["data"]["key"]].add(line["data"]["pid"])
        return of_key

    def all_there(self):
        return len(self.numbers()) >= self.sent

    def check(self):
        """Each event is in the file, once, and no key was overtaken."""
        assert sorted(self.numbers()) == list(range(self.sent))
        of_key = defaultdict(list)
        for key, number in self.service.done:
            if number not in of_key[key]:
                of_key[key].append(number)
        assert all(found == sorted(found) for found in of_key.values())
        assert self.flow.totals() == {"calling": (self.sent, 0, 0)}
        assert self.flow.parked() == 0


def new_slot_name():
    return f"s_{os.urandom(6).hex()}"
