"""The promises of connectors.contracts, kept by the S3 sink."""

from __future__ import annotations

import json

import pytest

from connectors.s3 import SINK_S3
from connectors.testing import SinkConformance


class BucketUnderTest:
    """Objects as they are found under the sink's own keys, in the order of their names."""

    def __init__(self, s3, proxies, **config):
        self.s3, self.bucket = s3, s3.create_bucket()
        self.proxy = proxies(f"127.0.0.1:{s3.port}")
        settings = s3.config(self.bucket, key="out/events.jsonl", format="json", **config)
        self.settings = SINK_S3.settings(**settings)

    def make(self):
        return SINK_S3.sink("out", self.settings)

    def make_proxied(self, **config):
        changes = {"endpoint": f"http://{self.proxy.address}", **config}
        return SINK_S3.sink("out", self.settings.model_copy(update=changes))

    def make_impatient(self):
        return self.make_proxied(timeout=1.0)

    def arrived(self):
        found = self.s3.objects(self.bucket, "out/")
        return [json.loads(line) for text in found.values() for line in text.splitlines()]

    def refuse(self, numbers):
        return False


class TestAnObjectPerBatch(SinkConformance):
    @pytest.fixture
    def subject(self, s3, proxies):
        return BucketUnderTest(s3, proxies, roll={"events": 1})


class TestObjectsByAge(SinkConformance):
    @pytest.fixture
    def subject(self, s3, proxies):
        return BucketUnderTest(s3, proxies, roll={"age": "1s"})
