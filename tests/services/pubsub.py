"""Google's fake of Pub/Sub on 127.0.0.1, what tests make in it, and look at.

It delivers about 90 messages a second; a seek by time crashes it; exactly-once delivery is only a flag;
it delivers one message of an ordering key at a time.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from typing import Any, final
from uuid import uuid4

import grpc
import httpx
from google.pubsub_v1.types import pubsub as types

from tests.services.installed import service_folder

PROJECT = "test-project"


@final
class PubsubFake:
    """One server; made by `start`, usable as a context manager."""

    def __init__(self, process: subprocess.Popen[str], address: str, page: str) -> None:
        self._process = process
        self.address = address
        """host:port"""
        self._page = page
        self._channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])

    @classmethod
    def start(cls) -> PubsubFake:
        """Start a server, empty (0.1 s)."""
        program = service_folder("pubsub-fake-2.3.0") / "server"
        # It ends when its standard input is closed, so it does not outlive us.
        process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        addresses = process.stdout.readline().split()
        assert addresses, "the fake of Pub/Sub did not start"
        return cls(process, *addresses)

    def topic(self, name: str = "") -> str:
        """Create a topic; return its name, a fresh one unless given."""
        name = name or f"topic-{uuid4().hex[:8]}"
        request = types.Topic(name=f"projects/{PROJECT}/topics/{name}")
        self.call("Publisher", "CreateTopic", request, types.Topic)
        return name

    def subscription(self, topic: str, name: str = "", **more: Any) -> str:
        """Create a subscription of the topic; return its name, a fresh one unless given."""
        name = name or f"subscription-{uuid4().hex[:8]}"
        request = types.Subscription(
            name=self.path(name),
            topic=f"projects/{PROJECT}/topics/{topic}",
            ack_deadline_seconds=10,
            **more,
        )
        self.call("Subscriber", "CreateSubscription", request, types.Subscription)
        return name

    def path(self, subscription: str) -> str:
        return f"projects/{PROJECT}/subscriptions/{subscription}"

    def publish(self, topic: str, messages: Sequence[Any]) -> list[str]:
        """Publish PubsubMessages; return their ids."""
        request = types.PublishRequest(
            topic=f"projects/{PROJECT}/topics/{topic}", messages=list(messages)
        )
        answer = self.call("Publisher", "Publish", request, types.PublishResponse)
        return list(answer.message_ids)

    def messages(self, topic: str) -> list[dict[str, Any]]:
        """Return what was published to the topic: Data, Attributes, OrderingKey, Deliveries, Acks."""
        everything = httpx.get(f"http://{self._page}", trust_env=False, timeout=20).json() or []
        path = f"projects/{PROJECT}/topics/{topic}"
        return [
            {**each, "Data": base64.b64decode(each["Data"] or "")}
            for each in everything
            if each["Topic"] == path
        ]

    def call(self, service: str, method: str, request: Any, answer: Any) -> Any:
        """Call any method of the API."""
        decode = answer.deserialize if hasattr(answer, "deserialize") else answer.FromString
        calling = self._channel.unary_unary(
            f"/google.pubsub.v1.{service}/{method}",
            request_serializer=type(request).serialize,
            response_deserializer=decode,
        )
        return calling(request, timeout=20)

    def stop(self) -> None:
        """End it; all it held is gone."""
        self._channel.close()
        self._process.communicate(timeout=20)

    def __enter__(self) -> PubsubFake:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
