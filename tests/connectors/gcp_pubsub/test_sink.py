"""What the Pub/Sub sink writes, and what becomes of events that Pub/Sub does not take."""

from __future__ import annotations

import json
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from google.pubsub_v1.types import pubsub as types

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.gcp_pubsub import SINK_GCP_PUBSUB
from tests.services.pubsub import PROJECT


@contextmanager
def publishing(server, topic, **config):
    settings = SINK_GCP_PUBSUB.settings(
        project=PROJECT, topic=topic, endpoint=server.address, **config
    )
    sink = SINK_GCP_PUBSUB.sink("out", settings)
    sink.open(SinkOpening({}))
    try:
        yield sink
    finally:
        sink.close()


def outgoing(values, keys=None, **attributes):
    found = {"id": [f"id-{n}" for n in range(len(values))], "source": "/shop", "type": "t"}
    return Outgoing(values, keys or [None] * len(values), lambda: found | attributes)


@pytest.fixture
def topic(pubsub):
    name = pubsub.topic()
    pubsub.subscription(name)
    return name


def test_a_cloudevent_has_its_attributes_beside_the_data_and_its_key_as_ordering_key(pubsub, topic):
    with publishing(pubsub, topic) as sink:
        assert sink.deliver(outgoing([b'{"n":1}'], ["kunde-\u00e4"], subject="50%")) == {}
    (message,) = pubsub.messages(topic)
    assert message["Data"] == b'{"n":1}'
    assert message["OrderingKey"] == "kunde-\u00e4"
    assert message["Attributes"] == {
        "ce-specversion": "1.0",
        "ce-id": "id-0",
        "ce-source": "/shop",
        "ce-type": "t",
        "ce-subject": "50%",
        "content-type": "application/json",
    }


def test_without_ordering_no_key_is_sent_and_json_has_no_attributes(pubsub, topic):
    with publishing(pubsub, topic, format="json", ordering=False) as sink:
        failed = sink.deliver(outgoing([b"1", None], ["k", "k"]))
    assert {place: error.code for place, error in failed.items()} == {1: "pubsub_empty"}
    (message,) = pubsub.messages(topic)
    assert (message["Data"], message["OrderingKey"], message["Attributes"]) == (b"1", "", None)


def test_what_is_too_large_fails_alone(pubsub, topic):
    values = [b"1", b'"' + b"x" * 10_000_000 + b'"', b"3", b"4"]
    with publishing(pubsub, topic) as sink:
        subjects = [None, None, "s" * 1025, None]
        failed = sink.deliver(outgoing(values, ["k", "k", "k", "k" * 1025], subject=subjects))
    assert {place: error.code for place, error in failed.items()} == dict.fromkeys(
        [1, 2, 3], "pubsub_too_large"
    )
    assert [message["Data"] for message in pubsub.messages(topic)] == [b"1"]


def test_many_events_of_many_keys_are_in_order_within_each(pubsub, topic):
    with publishing(pubsub, topic, batch_size=7) as sink:
        values = [b"%d" % n for n in range(500)]
        assert sink.deliver(outgoing(values, [f"k{n % 40}" for n in range(500)])) == {}
    found = {}
    for message in pubsub.messages(topic):
        found.setdefault(message["OrderingKey"], []).append(int(message["Data"]))
    assert len(found) == 40
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert sum(map(len, found.values())) == 500


def test_a_topic_that_is_not_there_stops_the_flow(pubsub):
    with pytest.raises(FatalError) as caught, publishing(pubsub, "nowhere"):
        pass
    assert caught.value.code == "pubsub_missing"


class Refusing:
    """A server that refuses what it is told to, and notes what it took."""

    def __init__(self):
        self.taken = []
        self.refuse = {}
        handlers = {
            "GetTopic": grpc.unary_unary_rpc_method_handler(
                lambda request, _: types.Topic.pb()(name=request.topic),
                types.GetTopicRequest.pb().FromString,
                lambda answer: answer.SerializeToString(),
            ),
            "Publish": grpc.unary_unary_rpc_method_handler(
                self._publish,
                types.PublishRequest.pb().FromString,
                lambda answer: answer.SerializeToString(),
            ),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        generic = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _publish(self, request, context):
        keys = {message.ordering_key for message in request.messages}
        numbers = [json.loads(message.data) for message in request.messages]
        if len(keys) > 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one ordering key in a request")
        for number in numbers:
            if number in self.refuse:
                context.abort(self.refuse[number], "as told")
        self.taken += numbers
        return types.PublishResponse.pb()(message_ids=[str(number) for number in numbers])

    def close(self):
        self._server.stop(0).wait(10)


@pytest.fixture
def refusing():
    server = Refusing()
    yield server
    server.close()


def test_an_event_that_is_refused_for_good_is_found_among_its_batch(refusing):
    refusing.refuse = dict.fromkeys([3, 8], grpc.StatusCode.INVALID_ARGUMENT)
    with publishing(refusing, "t") as sink:
        failed = sink.deliver(outgoing([b"%d" % n for n in range(12)], ["k"] * 12))
    assert sorted(failed) == [3, 8]
    assert all(isinstance(error, PermanentError) for error in failed.values())
    assert refusing.taken == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, RetryableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RetryableError),
        (grpc.StatusCode.ABORTED, RetryableError),
        (grpc.StatusCode.INTERNAL, RetryableError),
        (grpc.StatusCode.PERMISSION_DENIED, FatalError),
        (grpc.StatusCode.UNAUTHENTICATED, FatalError),
    ],
)
def test_what_follows_a_failed_event_of_its_key_waits_and_other_keys_pass(refusing, status, kind):
    refusing.refuse = {4: status}
    with publishing(refusing, "t", batch_size=2) as sink:
        keys = ["a" if n % 2 == 0 else "b" for n in range(12)]
        failed = sink.deliver(outgoing([b"%d" % n for n in range(12)], keys))
        assert sorted(failed) == [4, 6, 8, 10]
        assert {type(error) for error in failed.values()} == {kind}
        assert sorted(refusing.taken) == [0, 1, 2, 3, 5, 7, 9, 11]
