"""What messages become as events, and messages that are none."""

from __future__ import annotations

import json

import pytest

from connectors.aws_sqs.decoding import Format, batch_of
from connectors.contracts import Outgoing, SinkOpening
from tests.connectors.aws_sqs.driving import opened, sink, source


def read(*bodies, kind="auto", attributes=None, fifo=False):
    messages = [
        {
            "MessageId": f"m{k}",
            "ReceiptHandle": "h",
            "Body": body,
            "Attributes": {
                "SentTimestamp": "1790000000123",
                "ApproximateReceiveCount": "3",
                "MessageGroupId": "g",
            },
            "MessageAttributes": attributes or {},
        }
        for k, body in enumerate(bodies)
    ]
    how = Format(kind, "aws.sqs.message", "jobs", is_fifo=fifo)
    batch = batch_of(messages, 10, "jobs/0", "x", how)
    batch.column("data")
    return batch


def test_plain_json_gets_its_attributes_from_the_message():
    batch = read('{"n": 12345678901234567890}', fifo=True)
    event = batch.event(0)
    assert event.data == {"n": 12345678901234567890}
    assert (event.id, event.source, event.type) == ("m0", "/sqs/jobs", "aws.sqs.message")
    assert event.time == "2026-09-21T14:13:20.123Z"
    assert (event.key, event.position) == ("g", "00000000000000000011")
    assert event.extensions == {"partitionkey": "g", "receivecount": 3}


def test_the_group_of_a_standard_queue_is_no_key():
    assert read("{}").column("key") == [None]


SNS = {
    "Type": "Notification",
    "MessageId": "sns-1",
    "TopicArn": "arn:aws:sns:eu-west-1:1:orders",
    "Subject": "paid",
    "Timestamp": "2026-01-02T03:04:05.678Z",
    "Message": '{"n": 1.50}',
}


@pytest.mark.parametrize("kind", ["auto", "sns"])
def test_what_sns_puts_around_a_message_is_taken_off(kind):
    body = json.dumps(SNS)
    batch = read(body, kind=kind)
    event = batch.event(0)
    assert (event.id, event.source, event.subject) == ("sns-1", SNS["TopicArn"], "paid")
    assert (event.type, event.time) == ("aws.sqs.message", SNS["Timestamp"])
    assert event.datacontenttype == "application/json"
    assert batch.column("raw") == [b'{"n": 1.50}']
    assert batch.column("wire") == [body.encode()]


def test_a_cloudevent_within_a_notification_is_that_event():
    inner = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": {"n": 2}}
    batch = read(json.dumps(SNS | {"Message": json.dumps(inner)}))
    event = batch.event(0)
    assert (event.id, event.source, event.type, event.data) == ("e", "/s", "t", {"n": 2})


def test_json_that_looks_like_a_notification_is_read_as_it_is_if_asked_to():
    assert read(json.dumps(SNS), kind="json").column("data") == [SNS]


@pytest.mark.parametrize(
    ("body", "kind", "attributes", "code"),
    [
        ("not json", "auto", None, "data_not_json"),
        ("", "auto", None, "data_not_json"),
        ("{}", "cloudevents", None, "cloudevents_version"),
        ('{"specversion": "0.3"}', "auto", None, "cloudevents_version"),
        ("{}", "sns", None, "sns_not_a_notification"),
        ("1", "auto", {"ce_specversion": {"StringValue": "1.0"}}, "cloudevents_attribute"),
    ],
)
def test_what_is_no_event_fails_alone_with_its_bytes(body, kind, attributes, code):
    batch = read(body, kind=kind, attributes=attributes)
    assert batch.errors[0].code == code
    assert (batch.column("wire")[0] or batch.column("raw")[0]) == body.encode()


@pytest.mark.parametrize("written", ["json", "cloudevents_binary", "cloudevents_structured"])
def test_what_the_sink_sends_the_source_reads(elasticmq, written):
    url = elasticmq.create_queue()
    made = sink(url, format=written)
    made.open(SinkOpening({}))
    attributes = {"id": ["a", "b"], "source": "/x", "type": "t", "subject": ["ü", None]}
    events = Outgoing([b'{"n":1}', None], ["k", None], lambda: attributes)
    assert made.deliver(events) == {}
    made.close()
    reader = opened(source(url))
    found = []
    try:
        while len(found) < 2:
            batch = reader.poll(10, 1)
            if batch is not None:
                found += [batch.event(k) for k in range(batch.size)]
    finally:
        reader.close()
    found.sort(key=lambda event: event.data is None)
    assert [event.data for event in found] == [{"n": 1}, None]
    if written != "json":
        assert [event.id for event in found] == ["a", "b"]
        assert [event.subject for event in found] == ["ü", None]
