"""Adding to streams: trimming, refusals, order."""

from __future__ import annotations

import json

import pytest

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, RetryableError
from tests.connectors.redis_stream.driving import fresh, sink


@pytest.fixture
def client(redis_url, valkey):
    with valkey.client() as made:
        yield made


def events(numbers, topic=None, size=0):
    chosen = list(numbers)
    values = [json.dumps({"n": n, "pad": "x" * size}).encode() for n in chosen]
    ids = [f"event-{n}" for n in chosen]
    attributes = {"id": ids, "source": "/t", "type": "t"}
    return Outgoing(values, [None] * len(chosen), lambda: attributes, topic)


def numbers(client, stream):
    return [json.loads(fields["data"])["n"] for _, fields in client.xrange(stream)]


@pytest.fixture
def open_sink(redis_url):
    opened = []

    def make(**config):
        made = sink(redis_url, format="json", **config)
        made.open(SinkOpening({}))
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()


def test_a_topic_names_the_stream(open_sink, client):
    stream = fresh()
    assert open_sink().deliver(events(range(3), stream)) == {}
    assert numbers(client, stream) == [0, 1, 2]


def test_no_stream_at_all_is_said(open_sink):
    failures = open_sink().deliver(events(range(2)))
    assert {error.code for error in failures.values()} == {"redis_no_stream"}


def test_a_stream_is_trimmed_to_about_its_length(open_sink, client):
    stream = fresh()
    made = open_sink(stream=stream, max_length=500, pipeline_size=100)
    assert made.deliver(events(range(2000))) == {}
    # `~` removes whole nodes, of 100 entries unless the server is told otherwise.
    assert 500 <= client.xlen(stream) <= 700
    assert numbers(client, stream)[-1] == 1999


def test_old_entries_are_trimmed(open_sink, client):
    stream = fresh()
    for n in range(300):
        client.xadd(stream, {"data": "{}"}, id=f"{n + 1}-0")
    assert open_sink(stream=stream, max_age="1h").deliver(events(range(1))) == {}
    assert client.xlen(stream) <= 101


def test_what_a_full_server_refuses_is_tried_again_and_keeps_its_order(open_sink, client):
    stream = fresh()
    made = open_sink(stream=stream, pipeline_size=10)
    assert made.deliver(events(range(5))) == {}
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1kb")
    try:
        failures = made.deliver(events(range(5, 40)))
        assert sorted(failures) == list(range(35))
        assert all(isinstance(error, RetryableError) for error in failures.values())
    finally:
        client.config_set("maxmemory", "0")
    assert numbers(client, stream) == list(range(5))
    assert made.deliver(events(range(5, 40))) == {}
    assert numbers(client, stream) == list(range(40))


def test_a_server_that_fills_up_in_the_middle_takes_a_beginning_of_the_batch(open_sink, client):
    stream = fresh()
    made = open_sink(stream=stream, pipeline_size=10)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", str(used + 3_000_000))
    try:
        failures = made.deliver(events(range(400), size=20_000))
        assert failures
        assert all(isinstance(error, RetryableError) for error in failures.values())
    finally:
        client.config_set("maxmemory", "0")
    # What was added is a beginning: none behind a refused one.
    assert numbers(client, stream) == list(range(400 - len(failures)))
    assert sorted(failures) == list(range(400 - len(failures), 400))


def test_a_replica_refuses_and_is_tried_again_on_a_new_connection(open_sink, client):
    stream = fresh()
    made = open_sink(stream=stream)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        failures = made.deliver(events(range(3)))
        assert all(isinstance(error, RetryableError) for error in failures.values())
        assert len(failures) == 3
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
    before = client.info("stats")["total_connections_received"]
    assert made.deliver(events(range(3))) == {}
    # It has connected anew: behind the same name there may be another server by now.
    assert client.info("stats")["total_connections_received"] == before + 1


def test_a_key_that_is_no_stream_stops_the_flow(open_sink, client):
    stream = fresh()
    client.set(stream, "text")
    failures = open_sink(stream=stream).deliver(events(range(2)))
    assert all(isinstance(error, FatalError) for error in failures.values())
    assert {error.code for error in failures.values()} == {"redis_wrong_type"}


def test_a_server_that_went_away_is_tried_again_until_it_is_back(open_sink, valkey):
    stream = fresh()
    made = open_sink(stream=stream)
    assert made.deliver(events(range(2))) == {}
    valkey.stop()
    failures = made.deliver(events(range(2, 4)))
    assert all(isinstance(error, RetryableError) for error in failures.values())
    assert len(failures) == 2
    valkey.start_again()
    assert made.deliver(events(range(2, 4))) == {}
    with valkey.client() as client:
        assert numbers(client, stream) == [0, 1, 2, 3]
