"""The promises of connectors.contracts, kept by the Pub/Sub source and sink."""

from __future__ import annotations

import json

import pytest

from connectors.gcp_pubsub import SINK_GCP_PUBSUB
from connectors.testing import Recipe, SinkConformance, SourceConformance
from connectors.testing.killing import made
from tests.services.pubsub import PROJECT


class SubscriptionUnderTest:
    """Messages without ordering keys: the fake delivers one of a key at a time."""

    largest = 4_000_000  # the fake takes no more than gRPC does by default

    def __init__(self, pubsub, proxy):
        self.pubsub = pubsub
        self.topic = pubsub.topic()
        config = {
            "project": PROJECT,
            "subscription": pubsub.subscription(self.topic),
            "ack_deadline": "10s",
        }
        self.recipe = Recipe("source.gcp_pubsub", {**config, "endpoint": pubsub.address})
        self.source = made(self.recipe)
        self.proxy = proxy
        self.proxied = made(Recipe("source.gcp_pubsub", {**config, "endpoint": proxy.address}))
        self.emitted = 0

    def emit(self, count):
        numbers = range(self.emitted, self.emitted + count)
        if count:
            self.pubsub.publish(self.topic, [{"data": b'{"n":%d}' % n} for n in numbers])
        self.emitted += count

    def emit_raw(self, payloads):
        for payload in payloads:
            # A message without data must have an attribute.
            self.pubsub.publish(self.topic, [{"data": payload, "attributes": {"raw": "yes"}}])

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        return sum(1 for message in self.pubsub.messages(self.topic) if message["Acks"])


class TestPubsubSource(SourceConformance):
    @pytest.fixture
    def subject(self, pubsub, proxies):
        return SubscriptionUnderTest(pubsub, proxies(pubsub.address))


class TopicUnderTest:
    def __init__(self, pubsub, proxy=None, **config):
        self.pubsub = pubsub
        self.proxy = proxy
        self.topic = pubsub.topic()
        pubsub.subscription(self.topic)
        self.settings = SINK_GCP_PUBSUB.settings(
            project=PROJECT, topic=self.topic, endpoint=pubsub.address, **config
        )

    def make(self):
        return SINK_GCP_PUBSUB.sink("out", self.settings)

    def make_proxied(self, **config):
        changes = {"endpoint": self.proxy.address, **config}
        settings = self.settings.model_copy(update=changes)
        return SINK_GCP_PUBSUB.sink("out", settings)

    def make_impatient(self):
        return self.make_proxied(timeout=2.0)

    def arrived(self):
        messages = self.pubsub.messages(self.topic)
        return [json.loads(message["Data"]) for message in messages if message["Data"]]

    def refuse(self, numbers):
        return False


class StructuredTopic(TopicUnderTest):
    def __init__(self, pubsub):
        super().__init__(pubsub, format="cloudevents_structured")

    def arrived(self):
        return [event.get("data") for event in super().arrived()]


class TestPubsubSink(SinkConformance):
    @pytest.fixture
    def subject(self, pubsub, proxies):
        return TopicUnderTest(pubsub, proxies(pubsub.address))


class TestPubsubSinkInStructuredMode(SinkConformance):
    @pytest.fixture
    def subject(self, pubsub):
        return StructuredTopic(pubsub)
