"""ElasticMQ, which speaks SQS: a real queue server on 127.0.0.1, with its messages in memory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, final
from uuid import uuid4

import httpx

from penstock.embedded.processes import GuardedProcess, free_port, last_lines
from tests.services.installed import service_folder

_START_SECONDS = 60
_JAVA = ["java", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

_SETTINGS = """
include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
"""


@final
class ElasticMqServer:
    """One server; made by `start`, usable as a context manager."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.log = folder / "elasticmq.log"
        self._port = port
        self._process: GuardedProcess | None = None
        self._api = httpx.Client(base_url=self.endpoint, trust_env=False, timeout=20)

    @classmethod
    def start(cls, folder: Path) -> ElasticMqServer:
        """Start a server, with its log in `folder`, and return once it answers (3 s)."""
        for _ in range(5):
            server = cls(folder, free_port())
            if server._launch():
                return server
            server._api.close()
        raise RuntimeError(f"ElasticMQ does not answer; its log ends:\n{last_lines(server.log)}")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def call(self, action: str, **parameters: Any) -> Any:
        """Call it as SQS; nobody signs here."""
        answer = self._api.post(
            "/",
            json=parameters,
            headers={
                "x-amz-target": f"AmazonSQS.{action}",
                "content-type": "application/x-amz-json-1.0",
            },
        )
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def create_queue(self, *, fifo: bool = False, **attributes: str) -> str:
        """Create a queue of a fresh name and return its URL."""
        name = f"queue-{uuid4().hex[:12]}" + (".fifo" if fifo else "")
        if fifo:
            attributes["FifoQueue"] = "true"
        made = self.call("CreateQueue", QueueName=name, Attributes=attributes)
        return str(made["QueueUrl"])

    def counts(self, url: str) -> tuple[int, int]:
        """Return how many messages of a queue are visible, and how many in flight."""
        found = self.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        hidden = found["ApproximateNumberOfMessagesNotVisible"]
        return int(found["ApproximateNumberOfMessages"]), int(hidden)

    def send(self, url: str, bodies: list[str], groups: list[str] | None = None) -> None:
        """Send messages, ten in a call."""
        for at in range(0, len(bodies), 10):
            entries = [
                {"Id": str(k), "MessageBody": body} for k, body in enumerate(bodies[at : at + 10])
            ]
            if groups is not None:
                for entry, group in zip(entries, groups[at : at + 10], strict=True):
                    entry |= {"MessageGroupId": group, "MessageDeduplicationId": uuid4().hex}
            answer = self.call("SendMessageBatch", QueueUrl=url, Entries=entries)
            assert not answer.get("Failed"), answer

    def receive_all(self, url: str) -> list[dict[str, Any]]:
        """Receive and delete all that is visible."""
        found: list[dict[str, Any]] = []
        while True:
            messages = self.call(
                "ReceiveMessage",
                QueueUrl=url,
                MaxNumberOfMessages=10,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            if not messages:
                return found
            found += messages
            entries = [
                {"Id": str(k), "ReceiptHandle": each["ReceiptHandle"]}
                for k, each in enumerate(messages)
            ]
            self.call("DeleteMessageBatch", QueueUrl=url, Entries=entries)

    def stop(self) -> None:
        """Stop it; its messages are gone."""
        self._api.close()
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def _launch(self) -> bool:
        settings = self.folder / "elasticmq.conf"
        settings.write_text(_SETTINGS.format(port=self._port))
        jars = service_folder("elasticmq-1.7.1")
        process = GuardedProcess(
            [
                *_JAVA,
                f"-Dconfig.file={settings}",
                *("-cp", f"{jars}/*", "org.elasticmq.server.Main"),
            ],
            log=self.log,
            cwd=self.folder,
            environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        deadline = time.monotonic() + _START_SECONDS
        while process.running() and time.monotonic() < deadline:
            try:
                self.call("ListQueues")
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                self._process = process
                return True
        process.end(signal.SIGKILL)
        return False

    def __enter__(self) -> ElasticMqServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
