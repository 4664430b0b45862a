"""Drives sources and sinks as the runtime does: poll, acknowledge, deliver, close."""

from __future__ import annotations

import time
from contextlib import contextmanager

from confluent_kafka import Producer

from connectors.contracts import EndOfSource, Opening, Outgoing, Shard, SinkOpening
from connectors.kafka import MESSAGING_KAFKA, SINK_KAFKA
from connectors.kafka.source import KafkaSource

SECONDS = 30


def source(broker, *topics, refresh=0.2, **config):
    if topics:
        config["topics"] = list(topics)
    settings = MESSAGING_KAFKA.settings(brokers=broker.bootstrap, **config)
    return KafkaSource("orders", settings, refresh=refresh)


@contextmanager
def reading(a_source, positions=None, *, shard=None, until_caught_up=False, transaction=None):
    opening = Opening(
        shard or Shard(),
        positions or {},
        until_caught_up=until_caught_up,
        transaction=transaction,
    )
    reader = a_source.open(opening)
    try:
        yield reader
    finally:
        reader.close()


def offsets(positions):
    """Return the positions without the ids of their topics."""
    return {partition: position.partition("@")[0] for partition, position in positions.items()}


class Read:
    """What a reader has handed over: events, raws, and the checkpoint after them."""

    def __init__(self):
        self.batches = []
        self.events = []
        self.raws = []
        self.errors = []
        self.after = {}

    def take(self, batch):
        self.after |= batch.after
        if not batch.size:
            return
        self.batches.append(batch)
        self.raws += batch.column("raw")
        for index in range(batch.size):
            self.events.append(batch.event(index))
            self.errors.append(batch.errors.get(index))


def read(reader, count, *, limit=1000):
    """Read `count` events or more; fail when they don't come."""
    return read_until(reader, lambda got: len(got.events) >= count, limit=limit)


def read_until(reader, done, *, limit=1000):
    got = Read()
    deadline = time.monotonic() + SECONDS
    while not done(got):
        assert time.monotonic() < deadline, f"{len(got.events)} events after {SECONDS} s"
        batch = reader.poll(limit, 0.1)
        if batch is not None:
            got.take(batch)
    return got


def read_to_the_end(reader, *, limit=1000):
    got = Read()
    deadline = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < deadline, f"no end after {len(got.events)} events"
        try:
            batch = reader.poll(limit, 0.1)
        except EndOfSource:
            return got
        if batch is not None:
            got.take(batch)


def wait_for(condition, what):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def write(broker, topic, *values, partition=None, largest=1_000_000, **message):
    """Write values with a plain producer, all or nothing."""
    options = {"linger.ms": 0, "message.max.bytes": largest}
    producer = Producer({"bootstrap.servers": broker.bootstrap, **options})
    failed = []
    for value in values:
        producer.produce(
            topic,
            value,
            partition=-1 if partition is None else partition,
            on_delivery=lambda error, _: failed.append(error) if error else None,
            **message,
        )
    assert producer.flush(SECONDS) == 0
    assert failed == []
    producer.close()


@contextmanager
def publishing(broker, **config):
    sink = SINK_KAFKA.sink("out", SINK_KAFKA.settings(brokers=[broker.bootstrap], **config))
    sink.open(SinkOpening({}))
    try:
        yield sink
    finally:
        sink.close()


def outgoing(values, *, keys=None, topic=None, **attributes):
    attributes.setdefault("id", [f"id-{n}" for n in range(len(values))])
    attributes = {"source": "/shop", "type": "order.changed", **attributes}
    return Outgoing(values, keys or [None] * len(values), lambda: attributes, topic)
