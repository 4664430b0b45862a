"""CloudEvents formats, with the official SDK as the oracle."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone

import orjson
import pytest
from cloudevents.core.bindings import http as sdk_http
from cloudevents.core.bindings import kafka as sdk_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cloudevents import (
    HTTP_PREFIX,
    KAFKA_PREFIX,
    binary_headers,
    bodies,
    content_mode,
    data_of_body,
    decode_binary,
    decode_structured,
    structured,
)
from connectors.contracts import Outgoing
from connectors.errors import PermanentError

BASE = {"id": "1", "source": "/shop", "type": "order.created"}


def outgoing(values, **attributes):
    shared = {**BASE, **attributes}
    return Outgoing(values, [None] * len(values), lambda: shared)


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda s: s == s.strip()
)
scalars = text | st.integers(-(2**31), 2**31 - 1) | st.booleans()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(text, st.none() | scalars, json_values), min_size=1, max_size=5), text)
@settings(max_examples=150, deadline=None)
def test_structured_documents_read_back_as_what_went_in(rows, subject):
    ids, extensions, values = map(list, zip(*rows, strict=True))
    events = outgoing(
        [orjson.dumps(v) for v in values], id=ids, subject=subject, extension=extensions
    )
    for document, (id_, extension, value) in zip(structured(events), rows, strict=True):
        decoded = decode_structured(document)
        expected = {"specversion": "1.0", **BASE, "id": id_, "subject": subject}
        if extension is not None:
            expected["extension"] = extension
        assert decoded.attributes == expected
        assert decoded.data == value
        assert json.loads(document)["data"] == value


@given(st.lists(text, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_sdk_reads_our_structured_documents(subjects):
    events = outgoing([b'{"n":1}'] * len(subjects), subject=subjects, time="2026-11-21T05:07:38Z")
    for document, subject in zip(structured(events), subjects, strict=True):
        event = JSONFormat().read(CloudEvent, document)
        assert event.get_subject() == subject
        assert event.get_time() == datetime(2026, 11, 21, 5, 7, 38, tzinfo=timezone.utc)
        assert event.get_data() == {"n": 1}


@given(printable, st.dictionaries(text, st.integers(-(2**53), 2**53)))
@settings(max_examples=100, deadline=None)
def test_we_read_the_sdks_structured_and_binary_messages(subject, data):
    attributes = {**BASE, "subject": subject, "datacontenttype": "application/json"}
    attributes["time"] = datetime(2026, 11, 21, tzinfo=timezone.utc)
    event = CloudEvent(attributes, data)

    decoded = decode_structured(sdk_http.to_structured(event, JSONFormat()).body)
    assert (decoded.attributes["subject"], decoded.data) == (subject, data)
    assert orjson.loads(decoded.raw) == data

    message = sdk_http.to_binary(event, JSONFormat())
    found = decode_binary(message.headers.items(), HTTP_PREFIX)
    assert found["subject"] == subject
    assert found["datacontenttype"] == "application/json"

    headers = sdk_kafka.to_binary(event, JSONFormat()).headers
    assert decode_binary(headers.items(), KAFKA_PREFIX)["subject"] == subject


@given(st.lists(printable, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_sdk_reads_our_binary_headers(subjects):
    events = outgoing([b'{"n":1}'] * len(subjects), subject=subjects)
    for headers, subject in zip(binary_headers(events, HTTP_PREFIX), subjects, strict=True):
        shown = {name: value.decode("ascii") for name, value in headers}
        event = sdk_http.from_binary(sdk_http.HTTPMessage(shown, b'{"n":1}'), JSONFormat())
        assert event.get_subject() == subject
        assert event.get_data() == {"n": 1}
        assert decode_binary(headers, HTTP_PREFIX)["subject"] == subject
    for headers, subject in zip(binary_headers(events, KAFKA_PREFIX), subjects, strict=True):
        message = sdk_kafka.KafkaMessage(dict(headers), None, b'{"n":1}')
        event = sdk_kafka.from_binary(message, JSONFormat())
        assert event.get_type() == "order.created"
        assert decode_binary(headers, KAFKA_PREFIX)["subject"] == subject


def test_an_event_without_a_value_has_no_data_member():
    first, second = structured(outgoing([None, b"null"]))
    assert "data" not in json.loads(first)
    assert json.loads(second)["data"] is None
    assert decode_structured(first).raw is None
    assert decode_structured(second).raw == b"null"


def test_absent_attributes_are_left_out_of_documents_and_headers():
    events = outgoing([b"1", b"2"], subject=[None, "s"], dataschema=None)
    assert ["subject" in json.loads(d) for d in structured(events)] == [False, True]
    assert [
        [name for name, _ in row if name == "ce_subject"]
        for row in binary_headers(events, KAFKA_PREFIX)
    ] == [[], ["ce_subject"]]
    assert b"dataschema" not in structured(events)[0]


def test_a_lone_surrogate_is_replaced_and_takes_no_neighbour_with_it():
    events = outgoing([b"1", b"2"], id=["a\ud800b", "c"])
    assert [json.loads(d)["id"] for d in structured(events)] == ["a\ufffdb", "c"]
    headers = [dict(row) for row in binary_headers(events, HTTP_PREFIX)]
    assert [h["ce-id"] for h in headers] == [b"a%EF%BF%BDb", b"c"]


@pytest.mark.parametrize("ids", [['","'], ['","', "x"], ['a","b', '"'], ["\\", '\\",\\"'], [""]])
def test_quotes_and_commas_in_a_column_do_not_shift_it(ids):
    events = outgoing([b"1"] * len(ids), id=ids)
    assert [json.loads(d)["id"] for d in structured(events)] == ids


def test_an_empty_batch_encodes_to_nothing():
    assert structured(outgoing([], id=[])) == []
    assert binary_headers(outgoing([], id=[]), KAFKA_PREFIX) == []


def test_http_headers_are_percent_encoded_where_the_binding_asks():
    row = dict(binary_headers(outgoing([b"1"], subject='a "b" 100% Müller\n~!'), HTTP_PREFIX)[0])
    assert row["ce-subject"] == b"a%20%22b%22%20100%25%20M%C3%BCller%0A~!"


def test_a_quoted_http_header_is_unquoted_once():
    headers = [
        ("ce-specversion", "1.0"),
        ("CE-Type", "t"),
        ("ce-source", "/s"),
        ("ce-id", r'"a\"b"'),
    ]
    assert decode_binary(headers, HTTP_PREFIX)["id"] == 'a"b'


def test_numbers_of_the_data_keep_their_digits():
    data = b'{"n": 123456789012345678901234567890, "p": 1.10}'
    document = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":' + data + b"}\n"
    assert decode_structured(document).raw == data


@pytest.mark.parametrize(
    "extra",
    [
        '"data" : {"a":1}',
        '"data":{"data":2},"subject":"s"',
        r'"x":"\"data\":", "data":1',
        '"x":"data","data":[1]',
        '"data":"}"',
        '"data":1,"data":2',
    ],
)
def test_data_is_found_wherever_it_stands(extra):
    document = '{"specversion":"1.0","id":"1","source":"/s","type":"t",' + extra + "}"
    decoded = decode_structured(document.encode())
    assert decoded.data == json.loads(document)["data"]
    assert json.loads(decoded.raw) == decoded.data


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "cloudevents_not_json"),
        (b"[1]", "cloudevents_not_json"),
        (b'{"specversion":"1.0","data":1', "cloudevents_not_json"),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":1]',
            "cloudevents_not_json",
        ),
        (b'{"id":"1","source":"s","type":"t"}', "cloudevents_version"),
        (b'{"specversion":"0.3","id":"1","source":"s","type":"t"}', "cloudevents_version"),
        (b'{"specversion":"1.0","source":"s","type":"t"}', "cloudevents_attribute"),
        (b'{"specversion":"1.0","id":"","source":"s","type":"t"}', "cloudevents_attribute"),
        (b'{"specversion":"1.0","id":1,"source":"s","type":"t"}', "cloudevents_attribute"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}', "cloudevents_attribute"),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"*"}',
            "cloudevents_data",
        ),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"MQ==","data":1}',
            "cloudevents_data",
        ),
    ],
)
def test_what_is_no_event_is_a_permanent_error_with_a_code(body, code):
    with pytest.raises(PermanentError) as caught:
        decode_structured(body)
    assert caught.value.code == code
    assert caught.value.hint


def test_base64_data_is_decoded_by_its_content_type():
    base = {**BASE, "specversion": "1.0"}
    encoded = base64.b64encode(b'{"n":1}').decode()
    assert decode_structured(orjson.dumps({**base, "data_base64": encoded})).data == {"n": 1}
    plain = {**base, "datacontenttype": "text/plain", "data_base64": encoded}
    assert decode_structured(orjson.dumps(plain)).data == '{"n":1}'
    image = {**base, "datacontenttype": "image/png", "data_base64": encoded}
    assert decode_structured(orjson.dumps(image)).data == encoded


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"n":1}'),
        ("application/vnd.shop+json; charset=utf-8", b"[1]"),
        ("text/plain; charset=latin-1", "Müller".encode("latin-1")),
        ("application/xml", "<n>ü</n>".encode()),
        ("image/png", b"\x89PNG\x00\xff"),
    ],
)
def test_a_body_of_any_type_comes_back_byte_for_byte(content_type, body):
    value = data_of_body(body, content_type)
    json.loads(value)
    for column in (content_type, [content_type, "application/json"]):
        events = outgoing([value, b"1"], datacontenttype=column)
        assert bodies(events)[0] == body
        again = decode_structured(structured(events)[0])
        assert data_of_body(body, content_type) == again.raw


def test_binary_data_is_written_as_data_base64():
    value = data_of_body(b"\x00\xff", "image/png")
    document = json.loads(structured(outgoing([value], datacontenttype="image/png"))[0])
    assert base64.b64decode(document["data_base64"]) == b"\x00\xff"
    assert "data" not in document


def test_text_that_is_not_in_its_charset_is_a_permanent_error():
    with pytest.raises(PermanentError) as caught:
        data_of_body(b"\xff", "text/plain")
    assert caught.value.code == "cloudevents_data"


def test_a_header_that_is_not_utf8_is_a_permanent_error():
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"\xff"),
        ("ce_source", b"s"),
        ("ce_type", b"t"),
    ]
    with pytest.raises(PermanentError) as caught:
        decode_binary(headers, KAFKA_PREFIX)
    assert caught.value.code == "cloudevents_attribute"


def test_the_mode_of_a_message_is_known_by_its_headers():
    structured_type = [("Content-Type", "application/cloudevents+json; charset=utf-8")]
    assert content_mode(structured_type, HTTP_PREFIX) == "structured"
    batched = [("content-type", b"application/cloudevents-batch+json")]
    assert content_mode(batched, KAFKA_PREFIX) == "batched"
    assert content_mode([("CE-SpecVersion", "1.0")], HTTP_PREFIX) == "binary"
    assert content_mode([("content-type", "application/json")], HTTP_PREFIX) is None
    with pytest.raises(PermanentError) as caught:
        content_mode([("content-type", "application/cloudevents+avro")], HTTP_PREFIX)
    assert caught.value.code == "cloudevents_format"


def test_booleans_and_integers_have_their_canonical_strings_in_headers():
    events = outgoing([b"1", b"1"], sampled=[True, False], rank=7)
    assert [dict(h)["ce_sampled"] for h in binary_headers(events, KAFKA_PREFIX)] == [
        b"true",
        b"false",
    ]
    assert dict(binary_headers(events, KAFKA_PREFIX)[0])["ce_rank"] == b"7"
