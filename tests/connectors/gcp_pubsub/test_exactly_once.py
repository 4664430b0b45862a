"""Exactly-once delivery and seeking, against a server that answers as Google documents it."""

from __future__ import annotations

import pytest

from connectors.testing import wait_until
from tests.connectors.gcp_pubsub.driving import ScriptedServer, events, read, reading, source

GONE, LATER = "PERMANENT_FAILURE_INVALID_ACK_ID", "TRANSIENT_FAILURE_UNORDERED_ACK_ID"


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.close()


def settled(reader, count):
    batches = read(reader, count)
    reader.acknowledge(batches[-1].after)
    return [event.id for event in events(batches)]


def acknowledged(server, ack):
    """Whether it was, alone or in a call with others."""
    return any(ack in call for call in server.acks)


def test_what_could_not_be_acknowledged_for_now_is_tried_again_and_nothing_else(server):
    server.answers.put({"ack-2": LATER})
    with reading(source(server, "orders")) as reader:
        server.send(("1", "ack-1"), ("2", "ack-2"))
        assert settled(reader, 2) == ["1", "2"]
        wait_until(lambda: server.acks == [["ack-1", "ack-2"], ["ack-2"]], "ack-2 comes again")


def test_a_message_whose_acknowledgement_came_too_late_is_acknowledged_and_not_read_again(server):
    server.answers.put({"ack-1": GONE})
    with reading(source(server, "orders")) as reader:
        server.send(("1", "ack-1"))
        assert settled(reader, 1) == ["1"]
        wait_until(lambda: server.acks == [["ack-1"]], "it is acknowledged")
        server.send(("1", "ack-1b"), ("2", "ack-2"))
        assert settled(reader, 1) == ["2"]
        wait_until(lambda: acknowledged(server, "ack-1b"), "again")


def test_the_same_after_a_restart_in_between(server):
    server.answers.put({"ack-1": GONE})
    a_source = source(server, "orders")
    with reading(a_source) as reader:
        server.send(("1", "ack-1"))
        assert settled(reader, 1) == ["1"]
        wait_until(lambda: server.acks == [["ack-1"]], "it is acknowledged")
        server.send(("2", "ack-2"))
        (batch,) = read(reader, 1)
    with reading(a_source, batch.after) as reader:
        server.send(("1", "ack-1b"), ("2", "ack-2b"), ("3", "ack-3"))
        assert settled(reader, 1) == ["3"]


def test_a_message_without_a_certain_lease_is_not_handed_over_before_it_comes_again(server):
    server.lift_answers.put({"ack-1": GONE})
    with reading(source(server, "orders")) as reader:
        server.send(("1", "ack-1"), ("2", "ack-2"))
        assert settled(reader, 1) == ["2"]
        server.send(("1", "ack-1b"))
        assert settled(reader, 1) == ["1"]
        wait_until(lambda: acknowledged(server, "ack-1b"), "under its new lease")


def test_a_message_that_comes_again_while_it_is_in_hand_is_acknowledged_under_its_new_lease(server):
    with reading(source(server, "orders")) as reader:
        server.send(("1", "ack-1"))
        (batch,) = read(reader, 1)
        server.send(("1", "ack-1b"), ("2", "ack-2"))
        assert [event.id for event in events(read(reader, 1))] == ["2"]
        reader.acknowledge(batch.after)
        wait_until(lambda: server.acks == [["ack-1b"]], "the newest lease is what counts")


def test_what_is_in_hand_is_given_back_when_the_reader_closes(server):
    with reading(source(server, "orders")) as reader:
        server.send(("1", "ack-1"), ("2", "ack-2"))
        read(reader, 2)
    assert (["ack-1", "ack-2"], 0) in server.lifts


def test_the_subscription_is_sought_to_the_start_on_the_first_start_only(server):
    a_source = source(server, "orders", start="2026-11-01T00:00:00Z")
    with reading(a_source) as reader:
        server.send(("1", "ack-1"))
        (batch,) = read(reader, 1)
    assert server.seeks == [1793491200000]
    with reading(a_source, batch.after):
        pass
    assert len(server.seeks) == 1
