"""A broker that is away: at the start, and in the middle."""

import threading
import time

import pytest

from connectors.contracts import Opening, Shard, SinkOpening
from connectors.errors import FatalError, RetryableError
from connectors.kafka import MESSAGING_KAFKA, SINK_KAFKA, cluster
from penstock.embedded.processes import free_port
from tests.connectors.kafka.driving import (
    SECONDS,
    outgoing,
    publishing,
    read,
    read_until,
    reading,
    source,
    wait_for,
    write,
)

pytestmark = [pytest.mark.slow]


@pytest.fixture
def nobody(monkeypatch):
    """An address where nobody listens, and less patience."""
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2.0)
    return f"127.0.0.1:{free_port()}"


def test_a_source_says_that_no_broker_answers(nobody):
    settings = MESSAGING_KAFKA.settings(brokers=nobody, topics=["orders"])
    a_source = MESSAGING_KAFKA.source("orders", settings)
    with pytest.raises(FatalError) as caught:
        a_source.open(Opening(Shard(), {}))
    error = caught.value
    assert (error.code, error.unreachable) == ("kafka_unreachable", True)
    assert nobody in error.message
    assert "refused" in error.message
    (check,) = a_source.preflight()
    assert (check.ok, check.unreachable) == (False, True)
    assert "security.protocol" in check.hint


def test_a_sink_says_that_no_broker_answers(nobody):
    sink = SINK_KAFKA.sink("out", SINK_KAFKA.settings(brokers=nobody, topic="orders"))
    with pytest.raises(FatalError) as caught:
        sink.open(SinkOpening({}))
    assert caught.value.unreachable
    (check,) = sink.preflight([])
    assert (check.ok, check.unreachable) == (False, True)
    sink.close()


@pytest.mark.kafka
def test_a_source_reads_on_when_its_broker_comes_back(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":0}')
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 1)
        kafka.stop()
        try:
            reader.acknowledge(got.after)
            deadline = time.monotonic() + SECONDS
            while not reader.status():
                assert time.monotonic() < deadline
                assert reader.poll(1000, 0.1) is None
            assert "no Kafka broker answers" in reader.status()
        finally:
            kafka.start_again()
        write(kafka, topic, b'{"n":1}')
        assert [event.data["n"] for event in read(reader, 1).events] == [1]
        read_until(reader, lambda _: reader.status() == "")


@pytest.mark.kafka
def test_a_reader_whose_broker_is_away_closes_nevertheless(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":0}')
    a_source = source(kafka, topic)
    with reading(a_source) as reader:
        got = read(reader, 1)
        kafka.stop()
        try:
            reader.acknowledge(got.after)
            closing = threading.Thread(target=reader.close)
            closing.start()
            closing.join(SECONDS)
            assert not closing.is_alive()
        finally:
            kafka.start_again()


@pytest.mark.kafka
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_sink_loses_and_doubles_nothing_while_its_broker_is_away(kafka, end):
    topic = kafka.create_topic(2)
    failed = []
    with publishing(kafka, topic=topic, publish_format="json") as sink:
        running = threading.Event()
        written = []

        def publish():
            for turn in range(60):
                values = [b"%d" % n for n in range(turn * 100, turn * 100 + 100)]
                failed.extend(sink.deliver(outgoing(values, keys=["k"] * 100)).items())
                written.extend(values)
                if turn == 10:
                    running.set()

        publisher = threading.Thread(target=publish)
        publisher.start()
        assert running.wait(SECONDS)
        getattr(kafka, end)()
        try:
            wait_for(
                lambda: not publisher.is_alive() or sink._errors.down, "the broker to be missed"
            )
        finally:
            kafka.start_again()
        publisher.join(100)
        assert not publisher.is_alive()
    assert failed == []
    assert len(written) == 6000
    found = [m.value() for m in kafka.read_all(topic, 6000)]
    assert found == written


@pytest.mark.kafka
def test_a_sink_gives_up_after_its_delivery_timeout_and_works_again_afterwards(kafka):
    topic = kafka.create_topic()
    options = {"delivery.timeout.ms": 1000}
    with publishing(kafka, topic=topic, publish_format="json", options=options) as sink:
        # A broker that was started just now takes its time with a producer's first event.
        wait_for(lambda: sink.deliver(outgoing([b"1"])) == {}, "the sink to work")
        kafka.stop()
        try:
            failed = sink.deliver(outgoing([b"2", b"3"]))
        finally:
            kafka.start_again()
        assert [(type(e), e.code) for e in failed.values()] == [
            (RetryableError, "kafka_delivery")
        ] * 2
        assert "within 1 s" in failed[0].message
        wait_for(lambda: sink.deliver(outgoing([b"4"])) == {}, "the sink to work again")
    found = [m.value() for m in kafka.read_all(topic, 2)]
    assert found[0] == b"1"
    assert found[-1] == b"4"
