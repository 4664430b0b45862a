"""What entries become as events, and entries that are none."""

from __future__ import annotations

import pytest

from connectors.contracts import Outgoing, SinkOpening
from connectors.redis_stream.settings import start_id
from tests.connectors.redis_stream.driving import fresh, opened, sink, source, taken


@pytest.fixture
def client(redis_url, valkey):
    with valkey.client() as made:
        yield made


def read_one(url, stream, **config):
    reader = opened(source(url, stream, **config))
    try:
        batch = reader.poll(10, 10)
        batch.column("data")
        return batch
    finally:
        reader.close()


def test_plain_json_gets_its_attributes_from_the_entry(redis_url, client):
    stream = fresh()
    client.xadd(stream, {"data": '{"n": 12345678901234567890}', "k": "c-1"}, id="1790000000123-4")
    event = read_one(redis_url, stream).event(0)
    assert event.data == {"n": 12345678901234567890}
    assert (event.id, event.source) == (f"{stream}/1790000000123-4", f"/redis/{stream}")
    assert (event.type, event.key) == ("redis.stream.entry", "c-1")
    assert event.time == "2026-09-21T14:13:20.123Z"
    assert event.extensions == {"partitionkey": "c-1"}


def test_without_the_data_field_the_fields_are_the_data(redis_url, client):
    stream = fresh()
    client.xadd(stream, {"id": "7", "name": "é"})
    assert read_one(redis_url, stream).column("data") == [{"id": "7", "name": "é"}]


def test_a_document_with_a_specversion_is_a_cloudevent(redis_url, client):
    stream = fresh()
    document = (
        '{"specversion":"1.0","id":"e1","source":"/s","type":"t","time":"2026-01-02T03:04:05.1Z",'
        '"partitionkey":"p","data":{"n":1}}'
    )
    client.xadd(stream, {"data": document})
    client.xadd(stream, {"data": '{"text":"a \\"specversion\\" in a text"}'})
    batch = read_one(redis_url, stream, key_field=None)
    first, second = batch.event(0), batch.event(1)
    assert (first.id, first.source, first.type, first.key) == ("e1", "/s", "t", "p")
    assert first.data == {"n": 1}
    assert batch.column("timestamp")[0] == pytest.approx(1767323045.1)
    assert (second.type, second.data) == (
        "redis.stream.entry",
        {"text": 'a "specversion" in a text'},
    )


@pytest.mark.parametrize(
    ("fields", "config", "code"),
    [
        ({"data": "not json"}, {}, "data_not_json"),
        ({"data": b"\xff\xfe"}, {}, "data_not_json"),
        ({"data": ""}, {}, "data_not_json"),
        ({"other": b"\xff"}, {}, "redis_not_utf8"),
        ({"other": "1"}, {"format": "json"}, "redis_no_data_field"),
        ({"data": "{}"}, {"format": "cloudevents"}, "cloudevents_version"),
        ({"data": '{"specversion":"0.3"}'}, {}, "cloudevents_version"),
        ({"data": "1", "ce_specversion": "1.0", "ce_id": b"\xff"}, {}, "cloudevents_attribute"),
        ({"data": b"\xff", "k": "1"}, {"format": "fields"}, "redis_not_utf8"),
    ],
)
def test_what_is_no_event_fails_alone_with_its_bytes(redis_url, client, fields, config, code):
    stream = fresh()
    good = '{"specversion":"1.0","id":"e","source":"/s","type":"t","data":{"n":2}}'
    client.xadd(stream, fields)
    client.xadd(stream, {"data": good})
    batch = read_one(redis_url, stream, **config)
    assert {index: error.code for index, error in batch.errors.items()} == {0: code}
    kept = batch.column("wire")[0] or batch.column("raw")[0] or b""
    for value in fields.values():
        if code != "cloudevents_attribute":
            assert (value if isinstance(value, bytes) else value.encode()) in kept


def test_an_entry_of_10_mb_is_an_event(redis_url, client):
    stream = fresh()
    client.xadd(stream, {"data": '{"n": 1, "text": "' + "x" * 10_000_000 + '"}'})
    reader = opened(source(redis_url, stream))
    try:
        assert taken(reader, 1)[0] == [1]
    finally:
        reader.close()


def test_a_key_that_is_no_text_is_its_base64(redis_url, client):
    stream = fresh()
    client.xadd(stream, {"data": "{}", "k": b"\xff\x00"})
    assert read_one(redis_url, stream).column("key") == ["base64:/wA="]


@pytest.mark.parametrize("written", ["json", "cloudevents_binary", "cloudevents_structured"])
def test_what_the_sink_adds_the_source_reads(redis_url, client, written):
    stream = fresh()
    made = sink(redis_url, stream=stream, format=written)
    made.open(SinkOpening({}))
    attributes = {"id": ["a", "b"], "source": "/x", "type": "t", "subject": ["ü", None]}
    events = Outgoing([b'{"n":1}', None], ["k", None], lambda: attributes)
    assert made.deliver(events) == {}
    made.close()
    batch = read_one(redis_url, stream, key_field=None)
    assert batch.column("data") == [{"n": 1}, None]
    if written != "json":
        assert batch.column("id") == ["a", "b"]
        assert batch.column("subject") == ["ü", None]


def test_a_batch_that_is_picked_from_is_the_same_for_those(redis_url, client):
    stream = fresh()
    for n in range(4):
        client.xadd(stream, {"data": f'{{"n": {n}}}', "k": f"k{n}"}, id=f"{n + 1}-0")
    batch = read_one(redis_url, stream)
    few = batch.pick([1, 3])
    assert few.column("id") == [f"{stream}/2-0", f"{stream}/4-0"]
    assert few.column("key") == ["k1", "k3"]


def test_a_start_by_time_is_right_before_its_first_entry():
    assert start_id("2026-09-21T14:13:20Z") == "1789999999999-18446744073709551615"
    assert start_id("0") == "0"
    assert start_id("5-1") == "5-1"
