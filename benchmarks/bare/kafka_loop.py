"""Kafka → (validate → shape | jq) → Kafka as a plain loop: consume 1,000, produce them, flush.

python -m benchmarks.bare.kafka_loop BOOTSTRAP FROM TO pass|shape|jq
"""

from __future__ import annotations

import sys

import jsonschema_rs
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.orders import WORKS


def main(bootstrap: str, source: str, target: str, work: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bare",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 2,
            "queued.max.messages.kbytes": 16384,
        }
    )
    partitions = consumer.list_topics(source, 10).topics[source].partitions
    consumer.assign([TopicPartition(source, number, 0) for number in partitions])
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
    )
    by_hand, schema = WORKS[work].by_hand, WORKS[work].schema
    valid = jsonschema_rs.validator_for(schema or {}).is_valid
    count = 0
    while True:
        messages = consumer.consume(1000, 0.1)
        for message in messages:
            value = message.value()
            if by_hand is not None:
                data = orjson.loads(value)
                if not valid(data):
                    raise SystemExit("an invalid order")
                value = orjson.dumps(by_hand(data))
            while True:
                try:
                    producer.produce(target, value, key=message.key())
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.flush()
        if messages:
            count += len(messages)
            if count % 10_000 < len(messages):
                print(count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
