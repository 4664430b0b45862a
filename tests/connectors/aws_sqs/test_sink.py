"""Sending: what is refused, groups and deduplication, order behind what has to be tried again."""

from __future__ import annotations

import json

import pytest

from connectors.aws_sqs.failures import of_answer, of_entry
from connectors.aws_sqs.sending import Entry, Sender
from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from flows.runtime.sinks import renderer
from tests.connectors.aws_sqs.driving import sink


def events(values, keys=None, **attributes):
    given = {"id": [f"e{n}" for n in range(len(values))], "source": "/t", "type": "t", **attributes}
    return Outgoing(values, keys or [None] * len(values), lambda: given)


@pytest.fixture
def open_sink():
    opened = []

    def make(url, **config):
        made = sink(url, **config)
        made.open(SinkOpening({}, compile_template=renderer))
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()


def numbers(server, url):
    return [json.loads(each["Body"])["n"] for each in server.receive_all(url)]


def test_many_events_arrive_each_once(open_sink, elasticmq):
    url = elasticmq.create_queue()
    made = open_sink(url, format="json")
    assert made.deliver(events([b'{"n":%d}' % n for n in range(333)])) == {}
    assert sorted(numbers(elasticmq, url)) == list(range(333))


def test_an_event_that_is_too_large_fails_alone(open_sink, elasticmq):
    url = elasticmq.create_queue()
    made = open_sink(url, format="json")
    values = [b'{"n":0}', b'"' + b"x" * 1_100_000 + b'"', b'{"n":2}']
    failures = made.deliver(events(values))
    assert {place: error.code for place, error in failures.items()} == {1: "message_too_large"}
    assert sorted(numbers(elasticmq, url)) == [0, 2]


def test_large_events_travel_in_calls_of_their_own(open_sink, elasticmq):
    url = elasticmq.create_queue()
    made = open_sink(url, format="json")
    values = [b'{"n":%d,"pad":"%b"}' % (n, b"x" * 200_000) for n in range(12)]
    failures = made.deliver(events(values))
    assert all(error.code == "message_too_large" for error in failures.values())
    assert len(numbers(elasticmq, url)) == 12 - len(failures)


def test_what_has_too_many_attributes_for_binary_mode_fails_alone(open_sink, elasticmq):
    url = elasticmq.create_queue()
    made = open_sink(url, format="cloudevents_binary")
    extra = {f"extra{n}": ["x", None] for n in range(8)}
    failures = made.deliver(events([b"1", b'{"n":1}'], **extra))
    assert {place: error.code for place, error in failures.items()} == {0: "sqs_attributes"}
    assert numbers(elasticmq, url) == [1]


def test_the_same_event_is_sent_once_to_a_fifo_queue(open_sink, elasticmq):
    url = elasticmq.create_queue(fifo=True)
    made = open_sink(url, format="json")
    batch = events([b'{"n":%d}' % n for n in range(20)], ["k"] * 20)
    assert made.deliver(batch) == {}
    assert made.deliver(batch) == {}
    assert numbers(elasticmq, url) == list(range(20))


def test_groups_and_deduplication_ids_may_be_templates_and_any_text(open_sink, elasticmq):
    url = elasticmq.create_queue(fifo=True)
    made = open_sink(
        url,
        format="json",
        message_group="{{ .data.customer }}",
        deduplication_id="{{ .type }} {{ .id }}",
    )
    values = [b'{"n":0,"customer":"ann"}', '{"n":1,"customer":"ö ü"}'.encode()]
    assert made.deliver(events(values)) == {}
    found = elasticmq.receive_all(url)
    groups = {json.loads(m["Body"])["n"]: m["Attributes"]["MessageGroupId"] for m in found}
    assert groups[0] == "ann"
    assert len(groups[1]) == 64


class Refusing:
    """A client whose calls answer what the test says."""

    class queue:  # noqa: N801 - stands in for an instance
        name = "jobs.fifo"

    def __init__(self, answers):
        self.answers = answers
        self.sent = []

    def call(self, _action, parameters):
        self.sent.append([entry["MessageBody"] for entry in parameters["Entries"]])
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer


def entries(*groups):
    return [Entry(k, f"b{k}", {}, group, f"d{k}", None) for k, group in enumerate(groups)]


def test_behind_one_that_has_to_be_tried_again_its_group_waits_and_others_go_on():
    client = Refusing([{"Failed": [{"Id": "3", "Code": "InternalError", "SenderFault": False}]}])
    lane = entries(*["a", "b"] * 10)
    failures = Sender(client).send(lane)
    assert sorted(failures) == [3, 11, 13, 15, 17, 19]
    assert all(isinstance(error, RetryableError) for error in failures.values())
    assert client.sent[1] == ["b10", "b12", "b14", "b16", "b18"]


def test_a_call_that_is_refused_as_a_whole_is_made_again_one_by_one():
    refused = of_answer("InvalidMessageContents", "bad", 400, "jobs")
    client = Refusing([refused, {}, refused])
    failures = Sender(client).send(entries("a", "b", "c"))
    assert list(failures) == [1]
    assert client.sent == [["b0", "b1", "b2"], ["b0"], ["b1"], ["b2"]]


@pytest.mark.parametrize(
    ("code", "status", "kind", "slug"),
    [
        ("QueueDoesNotExist", 400, FatalError, "sqs_queue_missing"),
        ("AccessDeniedException", 400, FatalError, "sqs_not_authorised"),
        ("SignatureDoesNotMatch", 403, FatalError, "sqs_not_authorised"),
        ("ExpiredTokenException", 400, RetryableError, "aws_credentials"),
        ("ThrottlingException", 400, RetryableError, "sqs_throttled"),
        ("OverLimit", 400, RetryableError, "sqs_throttled"),
        ("HTTP 502", 502, RetryableError, "sqs_unavailable"),
        ("InvalidMessageContents", 400, PermanentError, "sqs_refused"),
    ],
)
def test_an_error_of_sqs_says_who_has_to_act(code, status, kind, slug):
    error = of_answer(code, "words", status, "jobs")
    assert isinstance(error, kind)
    assert error.code == slug


def test_a_message_that_sqs_failed_on_by_itself_is_tried_again():
    assert isinstance(of_entry("InternalError", "", sender_fault=False, queue="q"), RetryableError)
    assert isinstance(
        of_entry("InvalidMessageContents", "", sender_fault=True, queue="q"), PermanentError
    )


def test_a_server_that_went_away_is_tried_again_until_it_is_back(open_sink, elasticmq, proxies):
    url = elasticmq.create_queue()
    proxy = proxies(elasticmq.address)
    made = open_sink(url, format="json", endpoint=f"http://{proxy.address}")
    proxy.cut()
    failures = made.deliver(events([b'{"n":0}', b'{"n":1}']))
    assert len(failures) == 2
    assert all(isinstance(error, RetryableError) for error in failures.values())
    proxy.restore()
    assert made.deliver(events([b'{"n":0}', b'{"n":1}'])) == {}
    assert sorted(numbers(elasticmq, url)) == [0, 1]
