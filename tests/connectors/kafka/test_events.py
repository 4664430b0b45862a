"""Events out and in again, on a real broker; the CloudEvents SDK reads and writes as well."""

from datetime import datetime, timezone

import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_kafka_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from tests.connectors.kafka.driving import outgoing, publishing, read, reading, source, write

pytestmark = pytest.mark.kafka

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def sdk(message):
    return from_kafka_event(KafkaMessage(dict(message.headers()), message.key(), message.value()))


def read_one(broker, topic, **config):
    with reading(source(broker, topic, **config)) as reader:
        got = read(reader, 1)
    assert len(got.events) == 1
    return got


@pytest.mark.parametrize("mode", ["cloudevents_binary", "cloudevents_structured"])
def test_the_sdk_reads_what_is_published(kafka, mode):
    topic = kafka.create_topic()
    with publishing(kafka, topic=topic, publish_format=mode) as sink:
        failed = sink.deliver(
            outgoing(
                [b'{"total":9.90}'],
                keys=["kunde-ü"],
                id=["a-1"],
                time=["2026-11-01T10:00:00.5Z"],
                subject="orders/1",
                datacontenttype="application/json",
                partitionkey=["kunde-ü"],
                traceparent=TRACE,
            )
        )
    assert failed == {}
    (message,) = kafka.read_all(topic, 1)
    event = sdk(message)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": "a-1",
        "source": "/shop",
        "type": "order.changed",
        "subject": "orders/1",
        "time": datetime(2026, 11, 1, 10, 0, 0, 500000, timezone.utc),
        "datacontenttype": "application/json",
        "partitionkey": "kunde-ü",
        "traceparent": TRACE,
    }
    assert event.get_data() == {"total": 9.90}
    assert message.key() == "kunde-ü".encode()


@pytest.mark.parametrize("to_kafka", [to_binary_event, to_structured_event])
def test_what_the_sdk_publishes_is_read_with_its_own_attributes(kafka, to_kafka):
    topic = kafka.create_topic()
    event = CloudEvent(
        {
            "id": "a-1",
            "source": "/shop",
            "type": "order.changed",
            "subject": "orders/1",
            "time": datetime(2026, 11, 1, 10, 0, 0, 500000, timezone.utc),
            "datacontenttype": "application/json",
            "partitionkey": "k",
            "tenant": "acme",
        },
        {"total": 10},
    )
    message = to_kafka(event)
    key = message.key.encode() if isinstance(message.key, str) else message.key
    write(kafka, topic, message.value, key=key, headers=list(message.headers.items()))
    got = read_one(kafka, topic)
    (found,) = got.events
    assert (found.id, found.source, found.type) == ("a-1", "/shop", "order.changed")
    assert (found.subject, found.datacontenttype) == ("orders/1", "application/json")
    assert found.time.startswith("2026-11-01T10:00:00.5")
    assert got.batches[0].column("timestamp") == [1793527200.5]
    assert found.extensions == {"partitionkey": "k", "tenant": "acme"}
    assert (found.key, found.data) == ("k", {"total": 10})


@pytest.mark.parametrize("mode", ["cloudevents_binary", "cloudevents_structured"])
def test_an_event_makes_the_round_trip_with_all_it_has(kafka, mode):
    topic = kafka.create_topic()
    value = b'{"id":9007199254740993,"text":"\xc3\xbc\\n"}'
    with publishing(kafka, topic=topic, publish_format=mode) as sink:
        assert sink.deliver(outgoing([value], keys=["k"], id=["a"], dataschema="urn:s")) == {}
    got = read_one(kafka, topic)
    assert got.raws == [value]
    (event,) = got.events
    assert (event.id, event.source, event.dataschema) == ("a", "/shop", "urn:s")
    assert event.extensions == {"partitionkey": "k"}
    assert event.data == {"id": 9007199254740993, "text": "ü\n"}


def test_plain_json_gets_the_documented_attributes(kafka):
    topic = kafka.create_topic(2)
    write(kafka, topic, b"{}", b'{"total":1}', partition=1, key=b"k", timestamp=1793527200123)
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 2)
    event = got.events[1]
    assert event.id == f"{topic}/1/1"
    assert event.source == f"/kafka/{topic}"
    assert event.type == f"{topic}.message"
    assert event.time == "2026-11-01T10:00:00.123Z"
    assert event.partition == f"{topic}/1"
    assert event.position == "00000000000000000002"
    assert event.extensions == {"partitionkey": "k"}
    assert (event.key, event.data) == ("k", {"total": 1})
    assert got.raws == [b"{}", b'{"total":1}']
    assert got.batches[0].column("wire") == [None] * got.batches[0].size


def test_json_is_published_as_it_is(kafka):
    topic = kafka.create_topic()
    values = [b'{ "a" : 1 }', b"[]", b"null", b'"text"']
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        assert sink.deliver(outgoing(values)) == {}
    messages = kafka.read_all(topic, 4)
    assert [m.value() for m in messages] == values
    assert all(m.headers() is None and m.key() is None for m in messages)


def test_trace_context_of_plain_headers_is_carried(kafka):
    topic = kafka.create_topic()
    headers = [("traceparent", TRACE.encode()), ("tracestate", b"a=b"), ("other", b"\xff")]
    write(kafka, topic, b"{}", headers=headers)
    (event,) = read_one(kafka, topic).events
    assert event.extensions == {"traceparent": TRACE, "tracestate": "a=b"}
    assert event.id == f"{topic}/0/0"


@pytest.mark.parametrize("mode", ["json", "cloudevents_binary", "cloudevents_structured"])
def test_an_event_without_data_is_a_tombstone_there_and_back(kafka, mode):
    topic = kafka.create_topic()
    with publishing(kafka, topic=topic, publish_format=mode) as sink:
        assert sink.deliver(outgoing([b"{}", None], keys=["k", "k"], id=["a", "b"])) == {}
    alive, dead = kafka.read_all(topic, 2)
    assert (alive.value() is None, dead.value(), dead.key()) == (False, None, b"k")
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 2)
    assert got.raws == [b"{}", None]
    assert (got.events[1].data, got.events[1].key) == (None, "k")
    if mode != "json":
        assert [event.id for event in got.events] == ["a", "b"]


def test_keys_that_are_no_text_reach_the_next_topic_as_they_were(kafka):
    first, second = kafka.create_topic(), kafka.create_topic()
    keys = [b"\xff\xfe", (7).to_bytes(8, "big"), b"text", b"", None]
    for key in keys:
        write(kafka, first, b"{}", key=key)
    with reading(source(kafka, first)) as reader:
        got = read(reader, len(keys))
    texts = [event.key for event in got.events]
    assert texts == ["base64://4=", "base64:AAAAAAAAAAc=", "text", "", None]
    with publishing(kafka, topic=second, publish_format="json") as sink:
        assert sink.deliver(outgoing(got.raws, keys=texts)) == {}
    assert [m.key() for m in kafka.read_all(second, len(keys))] == keys


@pytest.mark.parametrize("value", [b"\xff\xfe\x00", b"{", b"", b"nonsense"])
def test_a_value_that_is_not_json_fails_only_itself(kafka, value):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}', value, b'{"n":2}')
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 3)
    assert got.raws[1] == value
    assert [event.data for event in got.events] == [{"n": 1}, None, {"n": 2}]
    assert [error.code if error else None for error in got.errors] == [None, "data_not_json", None]


STRUCTURED = [("content-type", b"application/cloudevents+json")]
BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"a"), ("ce_source", b"/s"), ("ce_type", b"t")]


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (b"{", STRUCTURED, "cloudevents_not_json"),
        (b"[]", STRUCTURED, "cloudevents_not_json"),
        (b'{"specversion":"1.0","id":"a","type":"t"}', STRUCTURED, "cloudevents_attribute"),
        (
            b'{"specversion":"0.3","id":"a","type":"t","source":"/s"}',
            STRUCTURED,
            "cloudevents_version",
        ),
        (b"{}", [("content-type", b"application/cloudevents+avro")], "cloudevents_format"),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "cloudevents_batch"),
        (b"{}", BINARY[:3], "cloudevents_attribute"),
        (b"{}", [*BINARY[:3], ("ce_type", b"\xff")], "cloudevents_attribute"),
    ],
)
def test_a_broken_cloudevent_fails_only_itself_and_keeps_its_bytes(kafka, value, headers, code):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}', headers=BINARY)
    write(kafka, topic, value, headers=headers)
    write(kafka, topic, b'{"n":2}')
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 3)
    assert [error.code if error else None for error in got.errors] == [None, code, None]
    assert [event.data for event in got.events] == [{"n": 1}, None, {"n": 2}]
    assert [event.id for event in got.events] == ["a", f"{topic}/0/1", f"{topic}/0/2"]
    wires = [wire for batch in got.batches for wire in batch.column("wire")]
    assert wires[1] == value


def test_data_of_other_types_is_read_as_json_text_and_keeps_its_bytes(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, "grün".encode(), headers=[*BINARY, ("content-type", b"text/plain")])
    write(kafka, topic, b"\x00\xff", headers=[*BINARY, ("content-type", b"image/png")])
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 2)
    assert [event.data for event in got.events] == ["grün", "AP8="]
    assert [event.datacontenttype for event in got.events] == ["text/plain", "image/png"]
    wires = [wire for batch in got.batches for wire in batch.column("wire")]
    assert wires == ["grün".encode(), b"\x00\xff"]


def test_format_cloudevents_reads_a_document_without_headers(kafka):
    topic = kafka.create_topic()
    document = b'{"specversion":"1.0","id":"a","source":"/s","type":"t","data":[1]}'
    write(kafka, topic, document, b'{"n":1}', None)
    with reading(source(kafka, topic, format="cloudevents")) as reader:
        got = read(reader, 3)
    assert (got.events[0].id, got.events[0].data) == ("a", [1])
    assert got.errors[1].code == "cloudevents_version"
    assert (got.raws[2], got.errors[2]) == (None, None)


def test_format_json_leaves_headers_alone(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}', headers=BINARY)
    (event,) = read_one(kafka, topic, format="json").events
    assert (event.id, event.data) == (f"{topic}/0/0", {"n": 1})


def test_an_event_with_a_partitionkey_and_no_message_key_keeps_its_order_by_it(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b"{}", headers=[*BINARY, ("ce_partitionkey", b"k")])
    (event,) = read_one(kafka, topic).events
    assert event.key == "k"
