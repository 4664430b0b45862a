"""Confluent's format, against Confluent's own serializers and Penstock's registry."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from pydantic import ValidationError

from connectors.errors import FatalError, RetryableError
from connectors.kafka import MESSAGING_KAFKA, SINK_KAFKA
from flows.state.store import open_store
from penstock.embedded.processes import free_port
from tests.connectors.kafka.driving import outgoing, publishing, read, reading, source, write
from tests.penstock.api.served import serving

pytestmark = pytest.mark.kafka

SCHEMA = json.dumps({"title": "order", "type": "object", "required": ["n"]})


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    state = f"sqlite:///{folder}/state.db"
    open_store(state).close()
    with serving(folder, state) as served:
        yield served


def registered(registry, topic, schema=SCHEMA):
    body = {"schema": schema, "schemaType": "JSON"}
    answer = registry.client.post(f"/subjects/{topic}-value/versions", json=body)
    return answer.raise_for_status().json()["id"]


def writing(kafka, registry, topic):
    return publishing(
        kafka,
        topic=topic,
        publish_format="confluent_json",
        schema_registry={"url": registry.api.url},
    )


def test_confluents_deserializer_reads_what_is_published(kafka, registry):
    topic = kafka.create_topic()
    number = registered(registry, topic)
    with writing(kafka, registry, topic) as sink:
        assert sink.deliver(outgoing([b'{"n":1}', None])) == {}
    first, tombstone = kafka.read_all(topic, 2)
    assert first.value() == b"\0" + number.to_bytes(4, "big") + b'{"n":1}'
    assert tombstone.value() is None
    context = SerializationContext(topic, MessageField.VALUE)
    with SchemaRegistryClient({"url": registry.api.url}) as client:
        assert JSONDeserializer(None, schema_registry_client=client)(first.value(), context) == {
            "n": 1
        }


def test_what_confluents_serializer_writes_is_read_with_the_schemas_id(kafka, registry):
    topic = kafka.create_topic()
    context = SerializationContext(topic, MessageField.VALUE)
    config = {"auto.register.schemas": True, "subject.name.strategy": topic_subject_name_strategy}
    with SchemaRegistryClient({"url": registry.api.url}) as client:
        value = JSONSerializer(SCHEMA, client, conf=config)({"n": 7}, context)
    write(kafka, topic, value, None)
    with reading(source(kafka, topic, format="confluent_json")) as reader:
        got = read(reader, 2)
    assert [event.data for event in got.events] == [{"n": 7}, None]
    assert got.events[0].extensions == {"schemaid": int.from_bytes(value[1:5], "big")}
    assert got.errors == [None, None]


def test_a_value_whose_id_is_in_a_header_is_read_as_it_is(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}', headers=[("__value_schema_id", b"\x01" + bytes(16))])
    with reading(source(kafka, topic, format="confluent_json")) as reader:
        got = read(reader, 1)
    assert [event.data for event in got.events] == [{"n": 1}]


@pytest.mark.parametrize("value", [b'{"n":1}', b"", b"\0\0\0\0\1", b"\1\0\0\0\1{}"])
def test_a_value_without_an_id_fails_alone_and_keeps_its_bytes(kafka, value):
    topic = kafka.create_topic()
    write(kafka, topic, value, b'\0\0\0\0\1{"n":2}')
    with reading(source(kafka, topic, format="confluent_json")) as reader:
        got = read(reader, 2)
    assert [error and error.code for error in got.errors] == ["confluent_prefix", None]
    assert got.events[1].data == {"n": 2}
    assert got.batches[0].column("wire")[0] == value


def test_a_topic_without_a_schema_stops_the_flow_and_the_preflight_says_so(kafka, registry):
    topic = kafka.create_topic()
    with writing(kafka, registry, topic) as sink:
        (error,) = sink.deliver(outgoing([b"1"])).values()
        assert isinstance(error, FatalError)
        assert error.code == "kafka_schema_missing"
        assert f"{topic}-value" in error.message
        failed = [check for check in sink.preflight([]) if not check.ok]
        assert [check.name for check in failed] == [f"schema of {topic}"]
        registered(registry, topic)
        assert all(check.ok for check in sink.preflight([]))


def test_a_registry_that_is_away_is_tried_again(kafka):
    topic = kafka.create_topic()
    away = {"url": f"http://127.0.0.1:{free_port()}"}
    with publishing(
        kafka, topic=topic, publish_format="confluent_json", schema_registry=away
    ) as sink:
        (error,) = sink.deliver(outgoing([b"1"])).values()
        assert isinstance(error, RetryableError)
        checks = [check for check in sink.preflight([]) if not check.ok]
        assert [check.unreachable for check in checks] == [True]


@pytest.mark.parametrize("kind", [SINK_KAFKA, MESSAGING_KAFKA])
def test_publishing_in_that_format_needs_a_registry(kind):
    with pytest.raises(ValidationError, match="schema_registry, which publish_format"):
        kind.settings(brokers="b:1", topic="t", publish_format="confluent_json")
    kind.settings(brokers="b:1", topic="t")
