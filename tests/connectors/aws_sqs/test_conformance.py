"""The promises of connectors.contracts, kept by the SQS source and sink on ElasticMQ."""

from __future__ import annotations

import json

import pytest

from connectors.aws_sqs import client
from connectors.testing import SinkConformance, SourceConformance
from tests.connectors.aws_sqs.driving import add, sink, source


class QueueUnderTest:
    """One queue; what is neither visible nor in flight any more is acknowledged."""

    def __init__(self, server, *, fifo):
        self.server = server
        self.url = server.create_queue(fifo=fifo)
        # What a call had received that was cut off at closing is hidden for so long.
        self.source = source(self.url, visibility_timeout="10s")
        self.emitted = 0

    def emit(self, count):
        # A group of its own for each: SQS gives no more of one before those it gave are deleted.
        numbers = range(self.emitted, self.emitted + count)
        add(self.server, self.url, numbers, lambda n: f"group-{n}")
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        return self.emitted - sum(self.server.counts(self.url))


class TestStandardQueue(SourceConformance):
    @pytest.fixture
    def subject(self, elasticmq):
        return QueueUnderTest(elasticmq, fifo=False)


class TestFifoQueue(SourceConformance):
    @pytest.fixture
    def subject(self, elasticmq):
        return QueueUnderTest(elasticmq, fifo=True)


class QueueWritten:
    def __init__(self, server, proxy, shorten, *, fifo, written):
        self.server = server
        self.proxy = proxy
        self.shorten = shorten
        self.url = server.create_queue(fifo=fifo)
        self.written = written
        self.seen = []

    def make(self):
        return sink(self.url, format=self.written)

    def make_proxied(self):
        return sink(self.url, format=self.written, endpoint=f"http://{self.proxy.address}")

    def make_impatient(self):
        self.shorten(client, "TIMEOUT", 1.0)
        return self.make_proxied()

    def arrived(self):
        self.seen += [json.loads(each["Body"]) for each in self.server.receive_all(self.url)]
        if self.written.endswith("structured"):
            return [event.get("data") for event in self.seen]
        return self.seen

    def refuse(self, numbers):
        return False


class TestFifoSink(SinkConformance):
    @pytest.fixture(params=["json", "cloudevents_structured"])
    def subject(self, request, elasticmq, proxies, monkeypatch):
        proxy = proxies(elasticmq.address)
        return QueueWritten(elasticmq, proxy, monkeypatch.setattr, fifo=True, written=request.param)


class TestFifoSinkInBinaryMode(SinkConformance):
    @pytest.fixture
    def subject(self, elasticmq, proxies, monkeypatch):
        proxy = proxies(elasticmq.address)
        return QueueWritten(
            elasticmq, proxy, monkeypatch.setattr, fifo=True, written="cloudevents_binary"
        )
