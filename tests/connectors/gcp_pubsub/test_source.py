"""What a subscription's messages become, and what happens to the connection."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from connectors.errors import FatalError
from connectors.gcp_pubsub import SOURCE_GCP_PUBSUB
from connectors.testing import wait_until
from tests.connectors.gcp_pubsub.driving import events, read, reading, source
from tests.services.pubsub import PROJECT


@pytest.fixture
def topic(pubsub):
    return pubsub.topic()


def of(pubsub, topic, *messages, **config):
    """Return the events of these messages and the errors among them, by their data's order."""
    subscription = pubsub.subscription(topic)
    # One by one: the fake keeps no order among messages of one call.
    with reading(source(pubsub, subscription, **config)) as reader:
        found, errors = [], []
        for message in messages:
            pubsub.publish(topic, [message])
            (batch,) = read(reader, 1)
            batch.column("data")
            found.append(batch.event(0))
            errors.append((batch.errors.get(0), batch.column("wire")[0], batch.column("raw")[0]))
        return found, errors


def test_a_message_of_json_becomes_an_event_of_its_own_id_and_time(pubsub, topic):
    message = {"data": b'{"n":1}', "ordering_key": "k", "attributes": {"traceparent": "00-1"}}
    (event,), _ = of(pubsub, topic, message)
    assert event.data == {"n": 1}
    assert event.id == pubsub.messages(topic)[0]["ID"]
    assert event.source.startswith(f"//pubsub.googleapis.com/projects/{PROJECT}/subscriptions/")
    assert (event.type, event.key) == ("gcp.pubsub.message", "k")
    assert event.extensions == {"partitionkey": "k", "traceparent": "00-1"}
    assert event.time[:2] == "20"


def test_cloudevents_are_recognised_in_both_modes(pubsub, topic):
    binary = {
        "data": b'{"n":1}',
        "attributes": {
            "ce-specversion": "1.0",
            "ce-id": "a",
            "ce-source": "/50%25",
            "ce-type": "order.paid",
            "content-type": "application/json",
        },
    }
    document = {"specversion": "1.0", "id": "b", "source": "/s", "type": "t", "data": {"n": 2}}
    structured = {"data": json.dumps(document).encode()}
    named = {**structured, "attributes": {"content-type": "application/cloudevents+json"}}
    found, errors = of(pubsub, topic, binary, structured, named)
    assert [(e.id, e.source, e.type, e.data) for e in found] == [
        ("a", "/50%25", "order.paid", {"n": 1}),
        ("b", "/s", "t", {"n": 2}),
        ("b", "/s", "t", {"n": 2}),
    ]
    assert [error for error, _, _ in errors] == [None] * 3


def test_what_can_not_be_read_fails_alone_and_keeps_its_bytes(pubsub, topic):
    broken = {"data": b"{}", "attributes": {"ce-specversion": "1.0", "ce-id": "a"}}
    latin = "caf\u00e9".encode("latin-1")
    empty = {"attributes": {"note": "no data"}}
    found, errors = of(pubsub, topic, broken, {"data": latin}, {"data": b"not JSON"}, empty)
    assert [error and error.code for error, _, _ in errors] == [
        "cloudevents_attribute",
        "data_not_json",
        "data_not_json",
        None,
    ]
    assert [wire or raw for _, wire, raw in errors] == [b"{}", latin, b"not JSON", None]
    assert found[3].data is None


def test_messages_of_an_ordering_key_come_in_order_as_they_are_settled(pubsub, topic):
    subscription = pubsub.subscription(topic, enable_message_ordering=True)
    for n in range(12):
        pubsub.publish(topic, [{"data": b"%d" % n, "ordering_key": f"k{n % 3}"}])
    seen = {"k0": [], "k1": [], "k2": []}
    with reading(source(pubsub, subscription)) as reader:
        while sum(map(len, seen.values())) < 12:
            for batch in read(reader, 1):
                for event in events([batch]):
                    seen[event.key].append(event.data)
                reader.acknowledge(batch.after)
    assert seen == {"k0": [0, 3, 6, 9], "k1": [1, 4, 7, 10], "k2": [2, 5, 8, 11]}


def test_the_number_of_deliveries_is_passed_on_where_the_subscription_counts_them(pubsub, topic):
    dead = {"dead_letter_topic": f"projects/{PROJECT}/topics/{pubsub.topic()}"}
    policy = {**dead, "max_delivery_attempts": 5}
    a_source = source(pubsub, pubsub.subscription(topic, dead_letter_policy=policy))
    pubsub.publish(topic, [{"data": b"1"}])
    attempts = []
    for _ in range(2):
        with reading(a_source) as reader:
            (event,) = events(read(reader, 1))
            attempts.append(event.extensions["deliveryattempt"])
    assert attempts[1] == attempts[0] + 1


def test_a_lease_is_prolonged_for_as_long_as_the_event_is_on_its_way(pubsub, topic):
    subscription = pubsub.subscription(topic)
    with reading(source(pubsub, subscription, ack_deadline="10s")) as reader:
        pubsub.publish(topic, [{"data": b"1"}])
        (batch,) = read(reader, 1)
        # The first prolonging is after a third of the deadline.
        wait_until(lambda: pubsub.messages(topic)[0]["Modacks"], "it is prolonged", seconds=20)
        assert pubsub.messages(topic)[0]["Modacks"][0]["AckDeadline"] == 10
        assert pubsub.messages(topic)[0]["Deliveries"] == 1
        reader.acknowledge(batch.after)
        wait_until(lambda: pubsub.messages(topic)[0]["Acks"] == 1, "it is acknowledged")


def test_no_more_is_read_than_may_be_in_flight(pubsub, topic):
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, [{"data": b"%d" % n} for n in range(30)])
    with reading(source(pubsub, subscription, max_in_flight=5)) as reader:
        first = read(reader, 5)
        assert reader.poll(10, 0.5) is None
        reader.acknowledge(first[-1].after)
        assert len(events(read(reader, 5))) >= 5


@pytest.mark.parametrize("trouble", ["cut", "stall"])
def test_a_connection_that_breaks_comes_back_and_nothing_is_lost(pubsub, topic, proxies, trouble):
    proxy = proxies(pubsub.address)
    subscription = pubsub.subscription(topic)

    class Through:
        address = proxy.address

    with reading(source(Through, subscription)) as reader:
        pubsub.publish(topic, [{"data": b"1"}])
        (batch,) = read(reader, 1)
        getattr(proxy, trouble)()
        reader.acknowledge(batch.after)
        pubsub.publish(topic, [{"data": b"2"}])
        if trouble == "cut":
            wait_until(reader.status, "the status tells")
        assert reader.poll(10, 0.2) is None
        proxy.restore()
        assert [event.data for event in events(read(reader, 1))] == [2]
        wait_until(lambda: pubsub.messages(topic)[0]["Acks"], "the first is acknowledged")
        assert reader.poll(10, 0.5) is None


def test_a_subscription_that_is_not_there_is_named(pubsub):
    a_source = source(pubsub, "nothing-here")
    with pytest.raises(FatalError) as caught, reading(a_source):
        pass
    assert caught.value.code == "pubsub_missing"
    assert "projects/test-project/subscriptions/nothing-here" in caught.value.message
    (check,) = a_source.preflight()
    assert not check.ok
    assert not check.unreachable


def test_a_server_that_is_not_there_is_unreachable():
    class Nobody:
        address = "127.0.0.1:1"

    a_source = source(Nobody, "orders")
    with pytest.raises(FatalError) as caught, reading(a_source):
        pass
    assert caught.value.unreachable
    (check,) = a_source.preflight()
    assert check.unreachable


def test_the_emulator_that_the_environment_names_is_used(pubsub, topic, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)

    class Default:
        address = None

    (check,) = source(Default, pubsub.subscription(topic)).preflight()
    assert check.ok


@pytest.mark.slow
def test_a_long_run_is_complete_and_each_message_comes_once(pubsub, topic):
    subscription = pubsub.subscription(topic)
    for first in range(0, 2000, 100):
        pubsub.publish(topic, [{"data": b"%d" % n} for n in range(first, first + 100)])
    seen = []
    with reading(source(pubsub, subscription)) as reader:
        while len(seen) < 2000:
            for batch in read(reader, 1):
                seen += batch.column("data")
                reader.acknowledge(batch.after)
    assert sorted(seen) == list(range(2000))
    assert all(message["Acks"] for message in pubsub.messages(topic))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"project": "My Project"}, "should match pattern"),
        ({"ack_deadline": "5s"}, "greater than or equal to 10"),
        ({"start": "2026-11-01T00:00:00"}, "a time with its offset"),
        ({"start": "earliest"}, "stored, latest"),
        ({"subscription": "projects/p/subscriptions/s"}, "should match pattern"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(changes, expected):
    with pytest.raises(ValidationError, match=expected):
        SOURCE_GCP_PUBSUB.settings(**{"project": PROJECT, "subscription": "s"} | changes)
