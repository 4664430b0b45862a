"""The promises of connectors.contracts, kept by the Redis source and sink on a real Valkey."""

from __future__ import annotations

import json

import pytest

from connectors.testing import SinkConformance, SourceConformance
from tests.connectors.redis_stream.driving import add, fresh, pending, sink, source


class StreamUnderTest:
    """One stream and three keys; what was delivered and is not pending is acknowledged."""

    def __init__(self, url, client):
        self.client = client
        self.stream = fresh()
        self.source = source(url, self.stream)
        self.emitted = 0

    def emit(self, count):
        add(self.client, self.stream, range(self.emitted, self.emitted + count))
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        (group,) = self.client.xinfo_groups(self.stream)
        return group["entries-read"] - pending(self.client, self.stream)


class TestRedisSource(SourceConformance):
    @pytest.fixture
    def subject(self, redis_url, valkey):
        with valkey.client() as client:
            yield StreamUnderTest(redis_url, client)


class StreamsWritten:
    def __init__(self, url, client, **config):
        self.url = url
        self.client = client
        self.stream = fresh()
        self.config = config

    def make(self):
        return sink(self.url, stream=self.stream, **self.config)

    def arrived(self):
        found = []
        for _, fields in self.client.xrange(self.stream):
            data = json.loads(fields.get("data", "null"))
            found.append(data.get("data") if self.config["format"].endswith("structured") else data)
        return found

    def refuse(self, numbers):
        return False


@pytest.fixture(params=["json", "cloudevents_binary", "cloudevents_structured"])
def written(request, redis_url, valkey):
    with valkey.client() as client:
        yield StreamsWritten(redis_url, client, format=request.param)


class TestRedisSink(SinkConformance):
    @pytest.fixture
    def subject(self, written):
        return written
