"""A flow with an archive: what was acknowledged is in it, once, whatever dies when."""

from __future__ import annotations

import json
import operator
import os
import random

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.batch import Batch
from connectors.contracts import Opening, Shard
from connectors.failpoints import NAMES, TRANSACTION_NAMES
from flows.archive.source import archive_of
from tests.connectors.kafka.driving import write
from tests.flows.archive.archiving import EVER, batches_of
from tests.flows.runtime.running import (
    FlowFolder,
    cdc_source,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)

PARTITIONS = 3
KILLS = int(os.environ.get("PENSTOCK_CHAOS_KILLS", "3"))
KEPT = {"retention": "7d", "max_size": "1GB"}


class Archiving:
    """A flow from a topic whose events are archived, numbered per partition."""

    def __init__(self, flow: FlowFolder, kafka, delivery="at_least_once", **more):
        self.flow, self.kafka = flow, kafka
        self.topic = kafka.create_topic(PARTITIONS)
        if delivery == "exactly_once":
            out = {
                "brokers": kafka.bootstrap,
                "topic": kafka.create_topic(),
                "publish_format": "json",
            }
            sink = {"name": "out", "type": "sink.kafka", "config": out}
        else:
            sink = file_sink(flow.folder)
        source = kafka_source(kafka, self.topic) | {"archive": KEPT}
        steps = [step("shape", "jq", {"expression": "{n: .data.n}"}), publish("out")]
        made = pipeline("orders", *steps, delivery=delivery, **more)
        flow.write(modules=[source, sink], pipelines={"copy": made})
        self.counts = [0] * PARTITIONS

    def fill(self, count):
        for partition in range(PARTITIONS):
            start = self.counts[partition]
            values = [b'{"n":%d,"p":%d}' % (n, partition) for n in range(start, start + count)]
            write(self.kafka, self.topic, *values, partition=partition, key=f"k{partition}")
            self.counts[partition] += count

    def numbers(self) -> list[list[int]]:
        """What is read back, per partition of the topic."""
        found: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for batch in archive(self.flow):
            for raw, name in zip(batch.column("raw"), batch.column("partition"), strict=True):
                event = json.loads(raw)
                assert name == f"{self.topic}/{event['p']}"
                found[event["p"]].append(event["n"])
        return found

    def archived_to_the_checkpoint(self):
        """Assert that the archive holds what the checkpoint says is settled, and nothing else."""
        with self.flow.store() as store:
            stored = store.checkpoints("flow", "orders")
        places = [stored.get(f"{self.topic}/{p}", "0") for p in range(PARTITIONS)]
        settled = [int(place.partition("@")[0]) for place in places]
        assert self.numbers() == [list(range(count)) for count in settled]

    def committed(self) -> list[int]:
        """What is acknowledged: the group's offsets."""
        properties = {"bootstrap.servers": self.kafka.bootstrap, "group.id": "penstock.orders"}
        client = Consumer(properties)
        try:
            asked = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
            return [max(0, each.offset) for each in client.committed(asked, 20)]
        finally:
            client.close()


def archive(flow: FlowFolder, source="orders") -> list[Batch]:
    with flow.store() as store:
        opening = Opening(shard=Shard(), positions={}, window=EVER)
        return list(batches_of(archive_of(store, "flow", source).open(opening)))


@pytest.mark.kafka
@pytest.mark.parametrize("name", [name for name in NAMES if "snapshot" not in name])
def test_a_kill_leaves_in_the_archive_what_is_settled_and_nothing_twice(flow, kafka, name):
    archiving = Archiving(flow, kafka)
    archiving.fill(700)
    flow.killed_at(f"{name}:2")
    archiving.archived_to_the_checkpoint()
    archived = [len(each) for each in archiving.numbers()]
    assert all(map(operator.le, archiving.committed(), archived))
    archiving.fill(300)
    flow.catch_up()
    assert archiving.numbers() == [list(range(1000))] * PARTITIONS
    assert flow.totals() == {"copy": (3000, 0, 0)}


@pytest.mark.kafka
@pytest.mark.chaos
def test_kills_at_random_leave_in_the_archive_what_is_settled(flow, kafka):
    chance = random.Random(7)
    archiving = Archiving(flow, kafka)
    kills = 0
    while kills < KILLS:
        archiving.fill(chance.randrange(200, 2000))
        worker = flow.worker()
        worker.wait_until("running")
        before = done(flow)
        wanted = chance.randrange(1, 1500)
        wait_for(lambda: done(flow) >= min(before + wanted, sum(archiving.counts)), "some events")  # noqa: B023
        worker.kill()
        kills += 1
        archiving.archived_to_the_checkpoint()
    flow.catch_up()
    assert archiving.numbers() == [list(range(count)) for count in archiving.counts]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSACTION_NAMES)
def test_exactly_once_archives_what_its_transactions_have_moved(flow, kafka, name):
    archiving = Archiving(flow, kafka, delivery="exactly_once")
    archiving.fill(700)
    flow.killed_at(f"{name}:1")
    flow.catch_up()
    assert archiving.numbers() == [list(range(700))] * PARTITIONS
    archiving.archived_to_the_checkpoint()


@pytest.mark.kafka
@pytest.mark.parametrize("spread", [{}, {"partition_by": ".data.n"}])
def test_several_workers_archive_each_event_once_and_keep_the_order_of_partitions(
    flow, kafka, spread
):
    archiving = Archiving(flow, kafka, **spread)
    archiving.fill(1500)
    run = flow.start("--workers", "2")
    wait_for(lambda: flow.path.exists() and done(flow) == 4500, "all to be settled")
    assert run.stop() == 0, run.text()
    assert archiving.numbers() == [list(range(1500))] * PARTITIONS


def done(flow):
    return flow.totals().get("copy", (0,))[0] if (flow.folder / "state.db").exists() else 0


@pytest.mark.kafka
def test_what_can_not_be_decoded_or_starts_nothing_is_archived_too(flow, kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}', b"{broken", b'{"n":3}', None, b"\xff\x00", key="k")
    made = pipeline("orders", publish("out"), trigger={"when": ".data.n == 1"})
    source = kafka_source(kafka, topic) | {"archive": KEPT}
    flow.write(modules=[source, file_sink(flow.folder)], pipelines={"copy": made})
    flow.catch_up()
    (batch,) = archive(flow)
    assert batch.column("raw") == [b'{"n":1}', b"{broken", b'{"n":3}', None, b"\xff\x00"]
    assert batch.column("id") == [f"{topic}/0/{offset}" for offset in range(5)]
    assert batch.column("key") == ["k"] * 5
    assert len(flow.letters()) == 2


@pytest.mark.kafka
@pytest.mark.parametrize("copied", [True, False])
def test_messages_are_archived_where_copies_of_dead_letters_are_made_of_them(flow, kafka, copied):
    topic = kafka.create_topic()
    write(
        kafka, topic, b'{"n":1}', None, key=b"k\xff", headers=[("trace", b"\x00"), ("none", None)]
    )
    letters = {"dead_letter": {"sink": "letters"}} if copied else {}
    flow.write(
        modules=[
            kafka_source(kafka, topic) | {"archive": KEPT},
            file_sink(flow.folder),
            file_sink(flow.folder, "letters"),
        ],
        pipelines={"copy": pipeline("orders", publish("out"), **letters)},
    )
    flow.catch_up()
    (batch,) = archive(flow)
    found = [
        each and (each.offset, each.key, each.value, each.headers)
        for each in batch.column("arrival")
    ]
    headers = (("trace", b"\x00"), ("none", None))
    messages = [(0, b"k\xff", b'{"n":1}', headers), (1, b"k\xff", None, headers)]
    assert found == (messages if copied else [None, None])


@pytest.mark.postgres
def test_changes_of_rows_are_archived_with_ids_that_stay(flow, database):
    whole = step("whole", "jq", {"expression": ".event"})
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY, n bigint)")
        connection.execute("ALTER TABLE kept REPLICA IDENTITY FULL")
        source = cdc_source(database, "kept_slot", "kept") | {"archive": KEPT}
        flow.write(
            modules=[source, file_sink(flow.folder)],
            pipelines={"copy": pipeline("rows", whole, publish("out"))},
        )
        run = flow.start()
        # Before there are rows, or they are a snapshot's.
        run.wait_for_lines("created the replication slot")
        connection.execute(
            "INSERT INTO kept SELECT n, 9007199254740993 FROM generate_series(1, 9) n"
        )
        connection.execute("UPDATE kept SET n = 2 WHERE id = 1")
        connection.execute("DELETE FROM kept WHERE id = 2")
        wait_for(lambda: done(flow) == 11, "all changes to be settled")
        assert run.stop() == 0, run.text()
    archived = [
        event for batch in archive(flow, "rows") for event in map(batch.event, range(batch.size))
    ]
    seen = [line["data"] for line in flow.lines()]
    assert [event.attributes() | {"data": event.data} for event in archived] == seen
    changes = [event.change for event in archived[-2:]]
    assert [(c.operation, c.before["id"], c.after and c.after["n"]) for c in changes] == [
        ("UPDATE", 1, 2),
        ("DELETE", 2, None),
    ]
    assert changes[0].before["n"] == 9007199254740993
