"""The promises of connectors.contracts, kept by the Redis source and sink on a real Valkey."""

from __future__ import annotations

import json

import pytest

from connectors.redis_stream import connection
from connectors.testing import Recipe, SinkConformance, SourceConformance
from tests.connectors.redis_stream.driving import add, fresh, pending, sink, source


class StreamUnderTest:
    """One stream and three keys; what was delivered and is not pending is acknowledged."""

    def __init__(self, url, client, proxy):
        self.client = client
        self.stream = fresh()
        # By its consumer's name a reader knows what was its own before it was killed.
        self.source = source(url, self.stream, consumer="reader")
        config = {"streams": [self.stream], "group": "shop", "key_field": "k"}
        self.recipe = Recipe("source.redis_stream", {"url": url, "consumer": "reader", **config})
        self.proxy = proxy
        self.proxied = source(f"redis://{proxy.address}/0", self.stream, consumer="reader")
        self.emitted = 0

    def emit(self, count):
        add(self.client, self.stream, range(self.emitted, self.emitted + count))
        self.emitted += count

    def emit_raw(self, payloads):
        for payload in payloads:
            self.client.xadd(self.stream, {"data": payload, "k": "k"})

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        (group,) = self.client.xinfo_groups(self.stream)
        return group["entries-read"] - pending(self.client, self.stream)


class TestRedisSource(SourceConformance):
    @pytest.fixture
    def subject(self, redis_url, valkey, proxies):
        with valkey.client() as client:
            yield StreamUnderTest(redis_url, client, proxies(valkey.address))


class StreamsWritten:
    def __init__(self, url, client, proxy, shorten, **config):
        self.url = url
        self.client = client
        self.proxy = proxy
        self.shorten = shorten
        self.stream = fresh()
        self.config = config

    def make(self):
        return sink(self.url, stream=self.stream, **self.config)

    def make_proxied(self):
        return sink(f"redis://{self.proxy.address}/0", stream=self.stream, **self.config)

    def make_impatient(self):
        self.shorten(connection, "TIMEOUT", 1.0)
        return self.make_proxied()

    def arrived(self):
        found = []
        for _, fields in self.client.xrange(self.stream):
            data = json.loads(fields.get("data", "null"))
            found.append(data.get("data") if self.config["format"].endswith("structured") else data)
        return found

    def refuse(self, numbers):
        return False


@pytest.fixture(params=["json", "cloudevents_binary", "cloudevents_structured"])
def written(request, redis_url, valkey, proxies, monkeypatch):
    proxy = proxies(valkey.address)
    with valkey.client() as client:
        yield StreamsWritten(redis_url, client, proxy, monkeypatch.setattr, format=request.param)


class TestRedisSink(SinkConformance):
    @pytest.fixture
    def subject(self, written):
        return written
