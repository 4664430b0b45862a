"""What the sink confirms, and what each failure says."""

import psutil
import pytest
from confluent_kafka import Producer

from connectors.contracts import SinkOpening
from connectors.errors import FatalError, PermanentError
from connectors.kafka import SINK_KAFKA
from connectors.kafka.publishing import Publisher
from connectors.kafka.sink import KafkaSink
from tests.connectors.kafka.driving import outgoing, publishing, wait_for

pytestmark = pytest.mark.kafka


def test_events_of_a_key_stay_in_order_in_one_partition(kafka):
    topic = kafka.create_topic(4)
    keys = [f"k{n % 7}" for n in range(1000)]
    values = [b"%d" % n for n in range(1000)]
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        assert sink.deliver(outgoing(values, keys=keys)) == {}
    messages = kafka.read_all(topic, 1000)
    assert len(messages) == 1000
    for number in range(7):
        of_key = [m for m in messages if m.key() == b"k%d" % number]
        assert len({m.partition() for m in of_key}) == 1
        assert [m.value() for m in of_key] == values[number::7]


def test_a_key_has_the_partition_that_other_clients_give_it(kafka):
    topic = kafka.create_topic(8)
    keys = [f"customer-{n}" for n in range(50)]
    java_like = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
    for key in keys:
        java_like.produce(topic, b"java", key=key)
    assert java_like.flush(30) == 0
    java_like.close()
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        assert sink.deliver(outgoing([b"0"] * 50, keys=keys)) == {}
    places = {(m.key(), m.partition()) for m in kafka.read_all(topic, 100)}
    assert len(places) == 50


def test_the_topic_of_a_step_wins_over_the_modules(kafka):
    default, named = kafka.create_topic(), kafka.create_topic()
    with publishing(kafka, topic=default, publish_format="json") as sink:
        assert sink.deliver(outgoing([b"1"], topic=named)) == {}
        assert sink.deliver(outgoing([b"2"])) == {}
    assert [m.value() for m in kafka.read_all(named, 1)] == [b"1"]
    assert [m.value() for m in kafka.read_all(default, 1)] == [b"2"]


def test_without_any_topic_no_event_passes(kafka):
    with publishing(kafka, publish_format="json") as sink:
        failed = sink.deliver(outgoing([b"1", b"2"]))
    assert sorted(failed) == [0, 1]
    assert failed[0].code == "kafka_no_topic"


def test_a_missing_topic_is_fatal_and_says_how_to_make_it(kafka):
    options = {"topic.metadata.propagation.max.ms": 500}
    with publishing(kafka, publish_format="json", options=options) as sink:
        failed = sink.deliver(outgoing([b"1", b"2"], topic="nowhere"))
    assert [(type(e), e.code) for e in failed.values()] == [(FatalError, "topic_missing")] * 2
    assert "nowhere does not exist" in failed[0].message
    assert "kafka-topics.sh" in failed[0].hint


def test_a_name_that_kafka_refuses_fails_its_events_only(kafka):
    topic = kafka.create_topic()
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        failed = sink.deliver(outgoing([b"1"], topic="not a topic"))
        assert (type(failed[0]), failed[0].code) == (PermanentError, "message_refused")
        assert sink.deliver(outgoing([b"2"])) == {}


@pytest.mark.parametrize(
    ("topic_limit", "size"),
    [({}, 2_000_000), ({}, 1_048_000), ({"max_message_bytes": "20000"}, 50_000)],
)
def test_a_message_that_is_too_large_fails_only_itself(kafka, topic_limit, size):
    topic = kafka.create_topic(1, **topic_limit)
    options = {"message.max.bytes": 5_000_000} if size == 1_048_000 else {}
    small = [b'"%04d-%s"' % (n, b"x" * 500) for n in range(100)]
    values = [*small[:50], b'"' + b"x" * size + b'"', *small[50:]]
    with publishing(kafka, topic=topic, publish_format="json", options=options) as sink:
        failed = sink.deliver(outgoing(values, keys=["k"] * 101))
    if size == 1_048_000:
        assert failed == {}
        small = values
    else:
        assert [(k, type(e), e.code) for k, e in failed.items()] == [
            (50, PermanentError, "message_too_large")
        ]
    assert [m.value() for m in kafka.read_all(topic, len(small))] == small


def test_a_topic_limit_that_cannot_be_asked_for_is_learnt_from_the_first_refusal(
    kafka, monkeypatch
):
    topic = kafka.create_topic(1, max_message_bytes="20000")
    monkeypatch.setattr(Publisher, "_ask_limit", lambda *_: 1_048_588)  # as without the right
    values = [b'"%04d-%s"' % (n, b"x" * 500) for n in range(100)]
    values[50] = b'"' + b"x" * 50_000 + b'"'
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        for _ in range(2):
            failed = sink.deliver(outgoing(values))
            assert [(k, e.code) for k, e in failed.items()] == [(50, "message_too_large")]
    good = values[:50] + values[51:]
    assert [m.value() for m in kafka.read_all(topic, 198)] == good * 2


def test_more_than_the_clients_queue_holds_is_delivered_all_the_same(kafka):
    topic = kafka.create_topic()
    options = {"queue.buffering.max.messages": 10}
    values = [b"%d" % n for n in range(200)]
    with publishing(kafka, topic=topic, publish_format="json", options=options) as sink:
        assert sink.deliver(outgoing(values)) == {}
    assert [m.value() for m in kafka.read_all(topic, 200)] == values


def test_a_key_that_is_no_unicode_fails_only_its_event(kafka):
    topic = kafka.create_topic()
    with publishing(kafka, topic=topic) as sink:
        failed = sink.deliver(outgoing([b"1", b"2"], keys=["\ud800", "k"]))
    assert [(k, e.code) for k, e in failed.items()] == [(0, "key_not_utf8")]
    assert [m.value() for m in kafka.read_all(topic, 1)] == [b"2"]


def test_an_empty_batch_is_nothing(kafka):
    with publishing(kafka, topic=kafka.create_topic()) as sink:
        assert sink.deliver(outgoing([])) == {}
        assert sink.settled_state() is None


def test_preflight_looks_at_each_topic_once(kafka):
    topic = kafka.create_topic(2)
    settings = SINK_KAFKA.settings(brokers=[kafka.bootstrap], topic=topic)
    broker, there, missing = SINK_KAFKA.sink("out", settings).preflight(["nowhere", topic])
    assert broker.ok
    found = {check.name: check for check in (there, missing)}
    assert found[f"topic {topic}"].found == "2 partitions, write allowed"
    assert not found["topic nowhere"].ok
    assert "kafka-topics.sh" in found["topic nowhere"].hint


def test_closing_leaves_no_thread_and_no_connection(kafka):
    topic = kafka.create_topic()
    process = psutil.Process()
    with publishing(kafka, topic=topic) as sink:
        assert sink.deliver(outgoing([b"1"])) == {}
    before = (process.num_threads(), len(process.net_connections()))
    for _ in range(3):
        with publishing(kafka, topic=topic) as sink:
            assert sink.deliver(outgoing([b"1"])) == {}
        sink.close()  # a second time does no harm
    wait_for(
        lambda: process.num_threads() <= before[0] and len(process.net_connections()) <= before[1],
        "threads and connections to end",
    )


def test_opening_twice_needs_no_state(kafka):
    sink = KafkaSink(SINK_KAFKA.settings(brokers=[kafka.bootstrap]))
    assert sink.traits.delivery == "at_least_once"
    sink.open(SinkOpening({"left": "over"}))
    sink.close()


def test_what_was_handed_over_is_on_its_way_while_something_else_is_done(kafka):
    """No confirmation is waited for until that is through."""
    topic = kafka.create_topic()
    seen = []

    def look():
        seen.append([m.value() for m in kafka.read_all(topic, 3)])

    sink = SINK_KAFKA.sink(
        "out",
        SINK_KAFKA.settings(brokers=[kafka.bootstrap], topic=topic, publish_format="json"),
    )
    sink.open(SinkOpening({}, meanwhile=look))
    try:
        assert sink.deliver(outgoing([b"1", b"2", b"3"])) == {}
    finally:
        sink.close()
    assert seen == [[b"1", b"2", b"3"]]
