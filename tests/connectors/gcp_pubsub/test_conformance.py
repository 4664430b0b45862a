"""The promises of connectors.contracts, kept by the Pub/Sub source and sink."""

from __future__ import annotations

import json

import pytest

from connectors.gcp_pubsub import SINK_GCP_PUBSUB, SOURCE_GCP_PUBSUB
from connectors.testing import SinkConformance, SourceConformance
from tests.services.pubsub import PROJECT


class SubscriptionUnderTest:
    """Messages without ordering keys: the fake delivers one of a key at a time."""

    def __init__(self, pubsub):
        self.pubsub = pubsub
        self.topic = pubsub.topic()
        self.settings = SOURCE_GCP_PUBSUB.settings(
            project=PROJECT, subscription=pubsub.subscription(self.topic), endpoint=pubsub.address
        )
        self.source = SOURCE_GCP_PUBSUB.source("in", self.settings)
        self.emitted = 0

    def emit(self, count):
        numbers = range(self.emitted, self.emitted + count)
        if count:
            self.pubsub.publish(self.topic, [{"data": b'{"n":%d}' % n} for n in numbers])
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        return sum(1 for message in self.pubsub.messages(self.topic) if message["Acks"])


class TestPubsubSource(SourceConformance):
    @pytest.fixture
    def subject(self, pubsub):
        return SubscriptionUnderTest(pubsub)


class TopicUnderTest:
    def __init__(self, pubsub, **config):
        self.pubsub = pubsub
        self.topic = pubsub.topic()
        pubsub.subscription(self.topic)
        self.settings = SINK_GCP_PUBSUB.settings(
            project=PROJECT, topic=self.topic, endpoint=pubsub.address, **config
        )

    def make(self):
        return SINK_GCP_PUBSUB.sink("out", self.settings)

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
    def subject(self, pubsub):
        return TopicUnderTest(pubsub)


class TestPubsubSinkInStructuredMode(SinkConformance):
    @pytest.fixture
    def subject(self, pubsub):
        return StructuredTopic(pubsub)
