"""The sink within transactions: what is seen before and after a commit, fencing, and starting over."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.contracts import SinkOpening, TransactionalSink, TransactionScope
from connectors.errors import FatalError, RetryableError
from connectors.kafka import SINK_KAFKA
from connectors.kafka.positions import Part, Place
from connectors.kafka.publishing import Publisher
from connectors.kafka.transactions import ahead
from tests.connectors.kafka.driving import outgoing, read, reading, source, write

pytestmark = pytest.mark.kafka


@contextmanager
def transacting(broker, scope, **config):
    settings = SINK_KAFKA.settings(brokers=[broker.bootstrap], publish_format="json", **config)
    sink = SINK_KAFKA.sink("out", settings)
    sink.open(SinkOpening({}, transaction=scope))
    try:
        yield sink
    finally:
        sink.close()


@pytest.fixture
def scope():
    name = uuid4().hex[:8]
    return TransactionScope(f"penstock/f/{name}/0", f"group-{name}", f"f/{name}")


@pytest.fixture
def topics(kafka):
    return kafka.create_topic(2), kafka.create_topic()


def place(topic, offset):
    return {f"{topic}/0": f"{offset:020d}"}


def values(kafka, topic, count=0, **options):
    return [m.value() for m in kafka.read_all(topic, count, **options)]


def test_what_is_delivered_is_seen_once_it_is_committed(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        assert isinstance(sink, TransactionalSink)
        assert sink.deliver(outgoing([b"1", b"2"])) == {}
        assert sink.deliver(outgoing([b"3"])) == {}
        assert values(kafka, topic, isolation="read_uncommitted") == [b"1", b"2", b"3"]
        assert values(kafka, topic) == []
        sink.commit(place(read_from, 3), "first")
        assert values(kafka, topic, 3) == [b"1", b"2", b"3"]
        assert sink.committed([f"{read_from}/0", f"{read_from}/1"]) == {"first"}


def test_a_transaction_may_hold_positions_alone(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        sink.commit(place(read_from, 1), "a")
        sink.commit(place(read_from, 1), "b")
        assert sink.committed([f"{read_from}/0"]) == {"b"}


def test_closing_aborts_what_is_open(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        assert sink.deliver(outgoing([b"1"])) == {}
    with transacting(kafka, scope, topic=topic) as sink:
        assert sink.committed([f"{read_from}/0"]) == set()
        assert sink.deliver(outgoing([b"2"])) == {}
        sink.commit(place(read_from, 1), "x")
    assert values(kafka, topic, 1) == [b"2"]


def test_a_second_writer_of_the_same_name_shuts_out_the_first(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as old:
        assert old.deliver(outgoing([b"old"])) == {}
        with transacting(kafka, scope, topic=topic) as new:
            assert new.deliver(outgoing([b"new"])) == {}
            with pytest.raises(FatalError) as caught:
                old.commit(place(read_from, 1), "old")
            assert caught.value.code == "kafka_fenced"
            failed = old.deliver(outgoing([b"late"]))
            assert [error.code for error in failed.values()] == ["kafka_fenced"]
            new.commit(place(read_from, 1), "new")
            assert new.committed([f"{read_from}/0"]) == {"new"}
    assert values(kafka, topic, 1) == [b"new"]


def test_a_refused_record_costs_nothing_of_what_was_delivered_before_and_beside_it(
    kafka, scope, topics, monkeypatch
):
    read_from, _ = topics
    topic = kafka.create_topic(1, max_message_bytes="20000")
    monkeypatch.setattr(Publisher, "_ask_limit", lambda *_: 1_048_588)  # as without the right
    small = [b'"%04d-%s"' % (n, b"x" * 500) for n in range(60)]
    mixed = [*small[20:30], b"y" * 50_000, *small[30:50], b"z" * 30_000, *small[50:]]
    with transacting(kafka, scope, topic=topic) as sink:
        assert sink.deliver(outgoing(small[:20])) == {}
        failed = sink.deliver(outgoing(mixed))
        assert {k: e.code for k, e in failed.items()} == dict.fromkeys(
            (10, 31), "message_too_large"
        )
        sink.commit(place(read_from, 1), "x")
    assert values(kafka, topic, 60) == small


def test_a_key_that_is_no_unicode_fails_only_its_event(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        failed = sink.deliver(outgoing([b"1", b"2"], keys=["\ud800", "k"]))
        assert {k: e.code for k, e in failed.items()} == {0: "key_not_utf8"}
        sink.commit(place(read_from, 1), "x")
    assert values(kafka, topic, 1) == [b"2"]


def test_a_broker_that_was_away_finds_the_transaction_made_again(kafka, scope, topics):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        sink.commit(place(read_from, 1), "before")
        assert sink.deliver(outgoing([b"1", b"2"])) == {}
        kafka.kill()
        kafka.start_again()
        assert sink.deliver(outgoing([b"3"])) == {}
        sink.commit(place(read_from, 3), "after")
        assert sink.committed([f"{read_from}/0"]) == {"after"}
    assert values(kafka, topic, 3) == [b"1", b"2", b"3"]


class DeafProducer(Producer):
    """A client that hears of no commit, as one that has forgotten all brokers."""

    def commit_transaction(self, *_):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", False, True, False))


def keep_on(call):
    for _ in range(10):
        with suppress(RetryableError):
            call()


def test_a_client_that_is_not_answered_is_given_up_only_once_brokers_answer_another(
    kafka, scope, topics, monkeypatch
):
    read_from, topic = topics
    monkeypatch.setattr("connectors.kafka.sink.Producer", DeafProducer)
    monkeypatch.setattr("connectors.kafka.transactions.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("connectors.kafka.transactions._STUCK_SECONDS", 1.5)
    with transacting(kafka, scope, topic=topic) as sink:
        commit = partial(sink.commit, place(read_from, 1), "x")
        assert sink.deliver(outgoing([b"1"])) == {}
        with pytest.raises(RetryableError):  # after a second of it
            commit()
        kafka.kill()
        for _ in range(2):
            with pytest.raises(RetryableError):
                commit()
        kafka.start_again()
        with pytest.raises(RetryableError):  # while they were away does not count
            commit()
        with pytest.raises(FatalError, match="brokers answer, but not in transactions") as caught:
            keep_on(commit)
        assert caught.value.unreachable, "a supervisor starts it again"
    with monkeypatch.context() as restored:
        restored.setattr("connectors.kafka.sink.Producer", Producer)
        with transacting(kafka, scope, topic=topic) as sink:
            assert sink.committed([f"{read_from}/0"]) == set()


def test_a_source_begins_where_its_own_transactions_ended_and_at_no_others(kafka, scope, topics):
    read_from, topic = topics
    write(kafka, read_from, *[b"%d" % n for n in range(10)], partition=0)
    with transacting(kafka, scope, topic=topic) as sink:
        sink.commit(place(read_from, 6), "x")
    with reading(source(kafka, read_from), place(read_from, 2), transaction=scope) as reader:
        assert read(reader, 4).raws == [b"6", b"7", b"8", b"9"]
    with reading(source(kafka, read_from), place(read_from, 8), transaction=scope) as reader:
        assert read(reader, 2).raws == [b"8", b"9"]
    other = TransactionScope(scope.writer, scope.group, "f/another")
    with reading(source(kafka, read_from), place(read_from, 2), transaction=other) as reader:
        assert read(reader, 8).raws[0] == b"2"


def test_only_what_is_further_and_our_own_counts():
    part, stored = Part("t", 0), {"t/0": f"{5:020d}"}
    further = {part: Place(7)}
    assert ahead({part: (7, "penstock:f/s:x")}, stored, "f/s", {}) == further
    assert ahead({part: (7, "penstock:f/s:x")}, {}, "f/s", {}) == further
    assert ahead({part: (5, "penstock:f/s:x")}, stored, "f/s", {}) == {}
    assert ahead({part: (7, "")}, stored, "f/s", {}) == {}
    assert ahead({part: (7, "penstock:f/s2:x")}, stored, "f/s", {}) == {}


def test_what_was_committed_of_the_topic_that_is_there_is_further_than_what_is_stored_of_another():
    part, stored = Part("t", 0), {"t/0": f"{5:020d}@old"}
    of_new, of_old = (3, "penstock:f/s:x@new"), (7, "penstock:f/s:x@old")
    assert ahead({part: of_new}, stored, "f/s", {part: "new"}) == {part: Place(3, "new")}
    assert ahead({part: of_old}, stored, "f/s", {part: "new"}) == {part: Place(7, "old")}
    assert ahead({part: of_old}, {"t/0": f"{5:020d}@new"}, "f/s", {part: "new"}) == {}


def test_a_transaction_is_found_by_its_name_whatever_topic_its_positions_are_of(
    kafka, scope, topics
):
    read_from, topic = topics
    with transacting(kafka, scope, topic=topic) as sink:
        sink.commit({f"{read_from}/0": f"{3:020d}@some/id+of22==", f"{read_from}/1": "1"}, "x")
        assert sink.committed([f"{read_from}/0", f"{read_from}/1"]) == {"x"}
