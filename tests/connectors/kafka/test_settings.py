import json

import pytest
from pydantic import ValidationError

from connectors.errors import FlowFileError
from connectors.kafka import MESSAGING_KAFKA, SINK_KAFKA, SOURCE_KAFKA
from connectors.registry import connector_type

BROKERS = "127.0.0.1:9092"


def settings(a_type=MESSAGING_KAFKA, **config):
    return a_type.settings.model_validate({"brokers": BROKERS, **config})


def refusal(a_type=MESSAGING_KAFKA, **config):
    with pytest.raises(ValidationError) as caught:
        settings(a_type, **config)
    (error,) = caught.value.errors()
    return error["loc"], error["msg"]


@pytest.mark.parametrize("a_type", [SOURCE_KAFKA, SINK_KAFKA, MESSAGING_KAFKA])
def test_each_type_is_found_by_its_name_and_describes_every_setting(a_type):
    assert connector_type(a_type.name) is a_type
    schema = a_type.settings.model_json_schema()
    assert [k for k, v in schema["properties"].items() if not v.get("description")] == []
    json.dumps(schema)


def test_the_defaults_are_those_of_the_dialect():
    found = settings(topics=["orders.in"])
    assert found.brokers == ["127.0.0.1:9092"]
    assert (found.start, found.format, found.on_offset_gone) == ("stored", "auto", "fail")
    assert (found.publish_format, found.options) == ("cloudevents_binary", {})


def test_brokers_are_a_list_or_text_with_commas():
    assert settings(brokers="a:9092, b").brokers == ["a:9092", "b"]
    assert settings(brokers=["a:9092", "[::1]:9092"]).brokers == ["a:9092", "[::1]:9092"]


@pytest.mark.parametrize("brokers", ["", [], "kafka://a:9092", "a:port", "a:99999", 9092, [1]])
def test_a_wrong_broker_address_is_refused_with_an_example(brokers):
    loc, message = refusal(brokers=brokers)
    assert loc[0] == "brokers"
    assert "kafka-1:9092" in message


def test_a_source_names_its_topics_in_one_way():
    assert "one of topic, topics or topics_regex" in refusal(SOURCE_KAFKA)[1]
    assert "one of" in refusal(SOURCE_KAFKA, topic="a", topics_regex="b.*")[1]
    assert "not both" in refusal(topics=["a"], topics_regex="b.*")[1]


def test_a_sink_alone_does_not_take_what_only_a_source_has():
    assert refusal(SINK_KAFKA, topics=["a"])[0] == ("topics",)


@pytest.mark.parametrize("topic", ["a b", "", "ü", "x" * 250, ".."])
def test_a_name_that_kafka_would_refuse_is_refused_at_load(topic):
    assert "topic name" in refusal(topics=[topic])[1]


def test_a_broken_pattern_is_refused():
    assert "regular expression" in refusal(topics_regex="orders.(")[1]


def test_start_takes_words_and_times_with_an_offset():
    assert settings(start="latest").start == "latest"
    assert settings(start="2026-11-01T00:00:00Z").start == 1793491200
    assert settings(start="2026-11-01T01:00:00+01:00").start == 1793491200


@pytest.mark.parametrize("start", ["newest", "2026-11-01T00:00:00", "2026-11-01", 5, None])
def test_any_other_start_is_refused_with_what_is_expected(start):
    loc, message = refusal(start=start)
    assert loc[0] == "start"
    assert "2026-11-01T00:00:00Z" in message


def test_a_property_that_librdkafka_does_not_know_is_refused_with_its_name():
    loc, message = refusal(options={"compresion.type": "zstd"})
    assert loc == ("options",)
    assert 'No such configuration property: "compresion.type"' in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"linger.ms": "soon"}, "Invalid value"),
        ({"security.protocol": "TLS"}, 'Invalid value "TLS"'),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}, "ssl.ca.location"),
    ],
)
def test_a_property_with_a_wrong_value_is_refused(options, said):
    assert said in refusal(options=options)[1]


def test_properties_of_either_role_and_of_any_yaml_type_are_taken():
    settings(options={"compression.type": "zstd", "fetch.min.bytes": 10, "check.crcs": True})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.auto.commit", True),
        ("enable.auto.offset.store", True),
        ("auto.offset.reset", "latest"),
        ("isolation.level", "read_uncommitted"),
        ("group.id", "g"),
        ("acks", 1),
        ("acks", "0"),
        ("request.required.acks", 0),
        ("enable.idempotence", False),
        ("transactional.id", "t"),
        ("bootstrap.servers", "b"),
        ("plugin.library.paths", "/tmp/x"),
    ],
)
def test_a_property_that_would_break_a_guarantee_is_refused_with_the_reason(name, value):
    message = refusal(options={name: value})[1]
    assert f"{name} can't be" in message
    assert len(message.split(": ", 1)[1]) > 20


def test_the_safe_value_of_such_a_property_may_be_written_out():
    settings(options={"acks": "all", "enable.idempotence": True})


def test_no_secret_of_the_options_is_in_an_error():
    options = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "hunter2222",
        "sasl.password": "hunter2222",
    }
    assert "hunter2222" not in refusal(options=options)[1]


def test_a_module_that_is_read_and_names_no_topic_is_refused():
    with pytest.raises(FlowFileError) as caught:
        MESSAGING_KAFKA.source("orders", settings())
    assert caught.value.code == "kafka_no_topics"
    assert "topics_regex" in caught.value.hint
