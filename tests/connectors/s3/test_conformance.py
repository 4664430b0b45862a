"""The promises of connectors.contracts, kept by the S3 sink."""

from __future__ import annotations

import json

import pytest

from connectors.s3 import SINK_S3
from connectors.testing import SinkConformance


class BucketUnderTest:
    """Objects as they are found under the sink's own keys, in the order of their names."""

    def __init__(self, s3, **config):
        self.s3, self.bucket = s3, s3.create_bucket()
        settings = s3.config(self.bucket, key="out/events.jsonl", format="json", **config)
        self.settings = SINK_S3.settings(**settings)

    def make(self):
        return SINK_S3.sink("out", self.settings)

    def arrived(self):
        found = self.s3.objects(self.bucket, "out/")
        return [json.loads(line) for text in found.values() for line in text.splitlines()]

    def refuse(self, numbers):
        return False


class TestAnObjectPerBatch(SinkConformance):
    @pytest.fixture
    def subject(self, s3):
        return BucketUnderTest(s3, roll={"events": 1})


class TestObjectsByAge(SinkConformance):
    @pytest.fixture
    def subject(self, s3):
        return BucketUnderTest(s3, roll={"age": "1s"})
