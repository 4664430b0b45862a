"""Sources and sinks of the fake, and a server that answers as a test says."""

from __future__ import annotations

import queue
import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1.types import pubsub as types
from google.rpc import error_details_pb2, status_pb2

from connectors.contracts import Opening, Shard
from connectors.gcp_pubsub import SOURCE_GCP_PUBSUB
from tests.services.pubsub import PROJECT

SECONDS = 30


def source(server, subscription, **config):
    settings = SOURCE_GCP_PUBSUB.settings(
        project=PROJECT, subscription=subscription, endpoint=server.address, **config
    )
    return SOURCE_GCP_PUBSUB.source("in", settings)


@contextmanager
def reading(a_source, positions=None):
    reader = a_source.open(Opening(Shard(), positions or {}))
    try:
        yield reader
    finally:
        reader.close()


def read(reader, count):
    """Return the batches that hold the next `count` events."""
    batches = []
    deadline = time.monotonic() + SECONDS
    while sum(batch.size for batch in batches) < count:
        assert time.monotonic() < deadline, f"{batches} and no more; {reader.status()}"
        batch = reader.poll(1000, 0.2)
        if batch is not None and batch.size:
            batches.append(batch)
    return batches


def events(batches):
    return [batch.event(index) for batch in batches for index in range(batch.size)]


class ScriptedServer:
    """Does what Google's fake can't: exactly-once answers, and seeking. One subscription, one reader."""

    def __init__(self):
        self.seeks = []
        self.acks = []
        """The ack ids of each request."""
        self.lifts = []
        self.answers = queue.SimpleQueue()
        """Next answers to acknowledgements: ack id → what befell it; {} when all is well."""
        self.lift_answers = queue.SimpleQueue()
        self.sent = queue.SimpleQueue()
        self.opened = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        unary = {
            "GetSubscription": (types.GetSubscriptionRequest, self._get),
            "Acknowledge": (types.AcknowledgeRequest, self._acknowledge),
            "ModifyAckDeadline": (types.ModifyAckDeadlineRequest, self._modify),
            "Seek": (types.SeekRequest, self._seek),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                call, request.pb().FromString, lambda answer: answer.SerializeToString()
            )
            for name, (request, call) in unary.items()
        }
        handlers["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
            self._pull,
            types.StreamingPullRequest.pb().FromString,
            lambda answer: answer.SerializeToString(),
        )
        generic = grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def send(self, *messages):
        """Deliver (message id, ack id) pairs on the open stream."""
        response = types.StreamingPullResponse.pb()()
        response.subscription_properties.exactly_once_delivery_enabled = True
        for message_id, ack_id in messages:
            received = response.received_messages.add(ack_id=ack_id)
            received.message.data = b'{"id": "%s"}' % message_id.encode()
            received.message.message_id = message_id
        self.sent.put(response)

    def close(self):
        self.sent.put(None)
        self._server.stop(0).wait(10)

    def _get(self, request, _context):
        return types.Subscription.pb()(name=request.subscription)

    def _seek(self, request, _context):
        self.seeks.append(request.time.ToMilliseconds())
        return types.SeekResponse.pb()()

    def _acknowledge(self, request, context):
        self.acks.append(list(request.ack_ids))
        return self._answer(self.answers, context)

    def _modify(self, request, context):
        self.lifts.append((list(request.ack_ids), request.ack_deadline_seconds))
        return self._answer(self.lift_answers, context)

    def _answer(self, answers, context):
        try:
            fates = answers.get_nowait()
        except queue.Empty:
            return empty_pb2.Empty()
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason="EXACTLY_ONCE", metadata=fates))
        status = status_pb2.Status(code=9, message="some failed", details=[packed])
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
        context.set_trailing_metadata(metadata)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "some failed")
        raise AssertionError

    def _pull(self, requests, context):
        next(requests)
        self.opened.set()
        while context.is_active():
            try:
                response = self.sent.get(timeout=0.1)
            except queue.Empty:
                continue
            if response is None:
                return
            if not context.is_active():  # meant for the stream that follows
                self.sent.put(response)
                return
            yield response
