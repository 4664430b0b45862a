"""A flow that books orders in a PostgreSQL and tells of them by way of an outbox."""

from __future__ import annotations

import json

import psycopg
from confluent_kafka import Consumer, TopicPartition

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import kafka_sink, kafka_source, pipeline, publish, step

PARTITIONS = 2
QUERY = (
    "INSERT INTO orders (id, total) VALUES ($1, $2)"
    " ON CONFLICT (id) DO UPDATE SET total = EXCLUDED.total RETURNING number"
)


class Booking:
    """Kafka → an order in PostgreSQL, and an event of it by way of the outbox → Kafka."""

    def __init__(self, flow, kafka, database):
        self.flow, self.kafka, self.database = flow, kafka, database
        self.topic, self.target = (kafka.create_topic(PARTITIONS) for _ in range(2))
        self.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, total int CHECK (total >= 0),"
            " number int GENERATED ALWAYS AS IDENTITY)"
        )
        self.write_flow()

    def write_flow(self, *between, sink=None, book=None, announce=None, **more):
        exec_config = {
            "database": self.database,
            "query": QUERY,
            "params": ["{{ .data.id }}", "{{ .data.total }}"],
            "returning": True,
            **(book or {}),
        }
        told = {"key": ".data.key", "outbox": {"step": "book"}, **(announce or {})}
        own = publish("topic", "announce", **told)
        self.flow.write(
            modules=[
                kafka_source(self.kafka, self.topic),
                sink or kafka_sink(self.kafka.bootstrap, self.target),
            ],
            pipelines={
                "booking": pipeline(
                    "orders", step("book", "db_exec", exec_config), own, *between, **more
                )
            },
        )

    def execute(self, query):
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def send(self, ids, keys=7, partition=0, total=None):
        for key in range(keys):
            values = [
                json.dumps({"id": n, "key": f"k{key}", "total": n if total is None else total})
                for n in ids
                if n % keys == key
            ]
            encoded = [value.encode() for value in values]
            write(self.kafka, self.topic, *encoded, partition=partition, key=f"k{key}")

    def send_at_once(self, count, partition=0):
        values = [json.dumps({"id": n, "key": "k", "total": n}).encode() for n in range(count)]
        write(self.kafka, self.topic, *values, partition=partition, key="k")

    def orders(self):
        return {number: n for n, number in self.execute("SELECT id, number FROM orders")}

    def waiting(self):
        try:
            return self.execute("SELECT count(*) FROM penstock_outbox")[0][0]
        except psycopg.errors.UndefinedTable:
            return 0

    def messages_there(self):
        """How many messages are in the target topic now."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "count"})
        try:
            marks = [
                consumer.get_watermark_offsets(TopicPartition(self.target, each), timeout=20)
                for each in range(PARTITIONS)
            ]
        finally:
            consumer.close()
        return sum(high - low for low, high in marks)

    def events(self, count):
        messages = self.kafka.read_all(self.target, count)
        return [json.loads(message.value()) for message in messages]
