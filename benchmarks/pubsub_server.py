"""A Pub/Sub in memory that gives messages as fast as they are taken: Google's fake gives one every 10 ms.

One topic full of messages, one subscription of it, one topic to publish to. Nothing comes twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from itertools import count
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1.types import pubsub as types

_AT_ONCE = 100
"""Messages in one response."""


class PubsubServer:
    """Made by `running`, in this process."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._responses = self._filled(values)
        self._outstanding = 0
        self._changed = threading.Condition()
        self._ids = count()
        self.published: list[bytes] = []
        unary = {
            "Subscriber/GetSubscription": (types.GetSubscriptionRequest, self._subscription),
            "Subscriber/Acknowledge": (types.AcknowledgeRequest, self._acknowledge),
            "Subscriber/ModifyAckDeadline": (types.ModifyAckDeadlineRequest, self._modify),
            "Publisher/GetTopic": (types.GetTopicRequest, self._topic),
            "Publisher/Publish": (types.PublishRequest, self._publish),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        for service in ("Subscriber", "Publisher"):
            handlers = {
                name.partition("/")[2]: grpc.unary_unary_rpc_method_handler(
                    call, request.pb().FromString, lambda answer: answer.SerializeToString()
                )
                for name, (request, call) in unary.items()
                if name.startswith(service)
            }
            if service == "Subscriber":
                handlers["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
                    self._pull, types.StreamingPullRequest.pb().FromString
                )
            generic = grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    @classmethod
    @contextmanager
    def running(cls, values: Sequence[bytes]) -> Iterator[PubsubServer]:
        """Serve on a port of its own, the messages published already."""
        server = cls(values)
        server._server.start()
        try:
            yield server
        finally:
            server._server.stop(0).wait(10)

    @staticmethod
    def _filled(values: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Return responses as they go out, encoded, with the number of messages in each."""
        found = []
        for first in range(0, len(values), _AT_ONCE):
            response = types.StreamingPullResponse.pb()()
            for number, value in enumerate(values[first : first + _AT_ONCE], first):
                one = response.received_messages.add(ack_id=f"{number:0180}")
                one.message.data, one.message.message_id = value, str(number)
                one.message.publish_time.GetCurrentTime()
            found.append((len(response.received_messages), response.SerializeToString()))
        return found

    def _pull(self, requests: Iterator[Any], context: Any) -> Iterator[bytes]:
        most = next(requests).max_outstanding_messages or len(self._responses) * _AT_ONCE
        for size, response in self._responses:
            with self._changed:
                while self._outstanding + size > most and context.is_active():
                    self._changed.wait(0.1)
                self._outstanding += size
            yield response
        while context.is_active():
            threading.Event().wait(0.1)

    def _acknowledge(self, request: Any, _context: Any) -> Any:
        with self._changed:
            self._outstanding -= len(request.ack_ids)
            self._changed.notify_all()
        return empty_pb2.Empty()

    def _modify(self, _request: Any, _context: Any) -> Any:
        return empty_pb2.Empty()

    def _subscription(self, request: Any, _context: Any) -> Any:
        return types.Subscription.pb()(name=request.subscription)

    def _topic(self, request: Any, _context: Any) -> Any:
        return types.Topic.pb()(name=request.topic)

    def _publish(self, request: Any, _context: Any) -> Any:
        self.published += [message.data for message in request.messages]
        ids = [str(next(self._ids)) for _ in request.messages]
        return types.PublishResponse.pb()(message_ids=ids)
