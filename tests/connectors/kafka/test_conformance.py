"""The promises of connectors.contracts, kept by the Kafka source and sink."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.kafka import SINK_KAFKA
from connectors.testing import Recipe, SinkConformance, SourceConformance
from tests.connectors.kafka.driving import source

pytestmark = pytest.mark.kafka


class TopicUnderTest:
    """One partition and three keys; what is committed to the group is what is acknowledged."""

    def __init__(self, kafka, proxy):
        self.kafka = kafka
        self.topic = kafka.create_topic(max_message_bytes=11_000_000)
        self.group = f"group-{self.topic}"
        self.source = source(kafka, self.topic, group=self.group)
        config = {"topics": [self.topic], "group": self.group}
        self.recipe = Recipe("source.kafka", {"brokers": kafka.bootstrap, **config})
        self.proxy = proxy
        self.proxied = source(ByProxy(kafka.proxied_bootstrap), self.topic, group=self.group)
        self.emitted = 0

    def emit(self, count):
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        for n in range(self.emitted, self.emitted + count):
            producer.produce(self.topic, json.dumps({"n": n}), key=f"k{n % 3}")
        assert producer.flush(30) == 0
        producer.close()
        self.emitted += count

    def emit_raw(self, payloads):
        producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "message.max.bytes": 11_000_000}
        )
        for payload in payloads:
            producer.produce(self.topic, payload)
            assert producer.flush(30) == 0
        producer.close()

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        looking = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group})
        try:
            (found,) = looking.committed([TopicPartition(self.topic, 0)], timeout=20)
        finally:
            looking.close()
        return max(found.offset, 0)


class ByProxy(NamedTuple):
    bootstrap: str


class TestKafkaSource(SourceConformance):
    # A request whose answer is lost in a stall is made again after librdkafka's socket.timeout.ms, 60 s.
    patience = 90.0

    @pytest.fixture
    def subject(self, kafka, kafka_proxy):
        return TopicUnderTest(kafka, kafka_proxy)


class SinkTopic:
    """Two partitions; refuses nothing that is not too large."""

    def __init__(self, kafka, proxy=None, **config):
        self.kafka = kafka
        self.proxy = proxy
        self.topic = kafka.create_topic(2)
        self.settings = SINK_KAFKA.settings(brokers=kafka.bootstrap, topic=self.topic, **config)

    def make(self):
        return SINK_KAFKA.sink("out", self.settings)

    def make_proxied(self, **config):
        brokers = self.kafka.proxied_bootstrap
        settings = SINK_KAFKA.settings(brokers=brokers, topic=self.topic, **config)
        return SINK_KAFKA.sink("out", settings)

    def make_impatient(self):
        return self.make_proxied(options={"delivery.timeout.ms": 1500})

    def arrived(self):
        messages = self.kafka.read_all(self.topic, 0)
        return [self.data(message) for message in messages if message.value()]

    def data(self, message):
        return json.loads(message.value())

    def refuse(self, numbers):
        return False


class StructuredTopic(SinkTopic):
    def __init__(self, kafka):
        super().__init__(kafka, publish_format="cloudevents_structured")

    def data(self, message):
        return super().data(message).get("data")


class TestKafkaSink(SinkConformance):
    @pytest.fixture
    def subject(self, kafka, kafka_proxy):
        return SinkTopic(kafka, kafka_proxy)


class TestKafkaSinkInStructuredMode(SinkConformance):
    @pytest.fixture
    def subject(self, kafka):
        return StructuredTopic(kafka)
