"""An S3 of its own for a test session: moto's server, in a process of its own."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from botocore import exceptions
from botocore.config import Config

from penstock.embedded.processes import GuardedProcess, free_port


class S3Server:
    """Answers on 127.0.0.1; any credentials do."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        made = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )
        try:
            yield made
        finally:
            made.close()

    def create_bucket(self) -> str:
        name = f"test-{uuid4().hex[:12]}"
        with self.client() as client:
            client.create_bucket(Bucket=name)
        return name

    def config(self, bucket: str, **more: Any) -> dict[str, Any]:
        """Return a sink's configuration for a bucket."""
        return {
            "bucket": bucket,
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": "test",
            "secret_access_key": "test",
            "path_style": True,
            **more,
        }

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return key → content, sorted by key."""
        with self.client() as client:
            listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix)
            assert not listed["IsTruncated"]
            found = {}
            for entry in listed.get("Contents", ()):
                with client.get_object(Bucket=bucket, Key=entry["Key"])["Body"] as body:
                    found[entry["Key"]] = body.read()
            return found

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[S3Server]:
        server = cls(free_port())
        process = GuardedProcess(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)],
            log=folder / "s3.log",
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                with (
                    contextlib.suppress(exceptions.BotoCoreError, exceptions.ClientError),
                    server.client() as client,
                ):
                    client.list_buckets()
                    break
                log = (folder / "s3.log").read_text(errors="replace")
                assert process.running(), log
                assert time.monotonic() < deadline, log
                time.sleep(0.05)
            yield server
        finally:
            process.end()
