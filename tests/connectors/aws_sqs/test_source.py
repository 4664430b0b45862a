"""Receiving: crashes, long steps, deletes that fail, connections that are cut, FIFO order."""

from __future__ import annotations

import time

import pytest

from connectors.aws_sqs.in_flight import InFlight
from connectors.errors import FatalError
from connectors.testing import wait_until
from tests.connectors.aws_sqs.driving import add, opened, source, taken


def crashed(reader):
    """End a reader as a kill would: nothing is deleted or given back any more."""
    reader._in_flight.unsettled = list
    reader._in_flight.next_to_delete = lambda *_: []
    reader.close()


def test_what_was_settled_but_not_deleted_is_deleted_and_does_not_come_again(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(25))
    made = source(url, visibility_timeout="2s")
    reader = opened(made)
    _, after = taken(reader, 25)
    crashed(reader)  # between checkpoint and delete
    assert sum(elasticmq.counts(url)) == 25
    reader = opened(made, after)
    try:
        add(elasticmq, url, [25])
        numbers, after = taken(reader, 1)
        assert numbers == [25]
        reader.acknowledge(after)
        wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted")
        assert reader.poll(10, 0.3) is None
    finally:
        reader.close()


def test_what_was_settled_stays_in_the_checkpoint_until_it_is_deleted(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(5))
    made = source(url, visibility_timeout="5s")
    reader = opened(made)
    _, after = taken(reader, 5)
    crashed(reader)
    reader = opened(made, after)
    add(elasticmq, url, [5])
    _, again = taken(reader, 1)
    crashed(reader)  # before the five have come back
    ids = set(next(iter(after.values())).split()[1:])
    assert ids < set(next(iter(again.values())).split()[1:])
    reader = opened(made, again)
    try:
        wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted", seconds=30)
        assert reader.poll(10, 0.1) is None
    finally:
        reader.close()


def test_a_message_in_a_long_step_is_not_redelivered_while_its_worker_lives(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(15))
    one = opened(source(url, visibility_timeout="2s"), index=0, of=2)
    _, after = taken(one, 15)
    two = opened(source(url, visibility_timeout="2s"), index=1, of=2)
    try:
        deadline = time.monotonic() + 6  # three times as long as they are hidden
        while time.monotonic() < deadline:
            assert two.poll(10, 0.2) is None
            assert elasticmq.counts(url) == (0, 15)
        one.acknowledge(after)
        wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted")
    finally:
        two.close()
        one.close()


def test_what_a_dead_worker_had_comes_to_another_when_it_is_visible_again(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(10))
    made = source(url, visibility_timeout="2s")
    reader = opened(made)
    taken(reader, 10)
    crashed(reader)
    reader = opened(made)
    try:
        assert sorted(taken(reader, 10)[0]) == list(range(10))
    finally:
        reader.close()


def test_how_often_a_message_was_received_is_told(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, [0])
    made = source(url)
    for count in (1, 2):
        reader = opened(made)
        try:
            batch = None
            while batch is None:
                batch = reader.poll(10, 1)
            assert batch.event(0).extensions["receivecount"] == count
        finally:
            reader.close()


def test_a_clean_stop_gives_back_what_is_not_settled_at_once(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(20))
    reader = opened(source(url, visibility_timeout="10m"))
    taken(reader, 20)
    reader.close()
    wait_until(lambda: elasticmq.counts(url) == (20, 0), "all are visible", seconds=3)


def test_a_stop_in_a_long_poll_is_quick_and_gives_back_when_the_poll_is_over(elasticmq):
    url = elasticmq.create_queue()
    reader = opened(source(url, wait_time="3s", visibility_timeout="10m"))
    add(elasticmq, url, range(3))
    taken(reader, 3)
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 3
    reader = opened(source(url, wait_time="3s"))
    try:
        assert sorted(taken(reader, 3)[0]) == [0, 1, 2]
    finally:
        reader.close()


def test_a_poll_that_was_cut_off_is_given_a_second_more_than_it_waits(elasticmq):
    reader = opened(source(elasticmq.create_queue(), wait_time="5s"))
    receivers = reader._receivers
    try:
        count = len(receivers._clients)
        wait_until(lambda: len(receivers._waiting_until) == count, "all polls are under way")
        until = max(receivers._waiting_until.values())
        assert receivers.close() >= until + 1.0 - time.monotonic()
    finally:
        reader.close()


def test_a_group_keeps_its_order_through_settling_and_a_crash(elasticmq):
    url = elasticmq.create_queue(fifo=True)
    add(elasticmq, url, range(60))
    made = source(url, visibility_timeout="2s")
    reader = opened(made)
    batch = None
    while batch is None:
        batch = reader.poll(1000, 1)
    seen = [(batch.column("key")[k], d["n"]) for k, d in enumerate(batch.column("data"))]
    assert {key for key, _ in seen} <= {"k0", "k1", "k2"}
    crashed(reader)  # settled, and nothing of it deleted
    reader = opened(made, batch.after)
    try:
        while len(seen) < 60:
            batch = reader.poll(1000, 5)
            if batch is not None:
                seen += [
                    (batch.column("key")[k], d["n"]) for k, d in enumerate(batch.column("data"))
                ]
                reader.acknowledge(batch.after)
        assert sorted(n for _, n in seen) == list(range(60))
        for rest in range(3):
            of_group = [n for key, n in seen if key == f"k{rest}"]
            assert of_group == list(range(rest, 60, 3))
    finally:
        reader.close()


def test_several_workers_share_a_queue(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(200))
    readers = [opened(source(url), index=index, of=2) for index in range(2)]
    found = []
    try:
        deadline = time.monotonic() + 30
        while len(found) < 200:
            assert time.monotonic() < deadline
            for reader in readers:
                batch = reader.poll(100, 0.05)
                if batch is not None:
                    found += [data["n"] for data in batch.column("data")]
                    reader.acknowledge(batch.after)
        assert sorted(found) == list(range(200))
        wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted")
    finally:
        for reader in readers:
            reader.close()
    name = url.rpartition("/")[2]
    assert [reader.owns(f"{name}/5") for reader in readers] == [False, True]


def test_a_cut_and_a_stalled_connection_are_mended_with_nothing_lost(elasticmq, proxies):
    url = elasticmq.create_queue()
    proxy = proxies(elasticmq.address)
    made = source(url, endpoint=f"http://{proxy.address}", visibility_timeout="3s")
    reader = opened(made)
    try:
        add(elasticmq, url, range(30))
        found, after = taken(reader, 10)
        proxy.cut()
        wait_until(lambda: "can't be reached" in reader.status(), "the status says so")
        reader.acknowledge(after)
        proxy.restore()
        while set(found) != set(range(30)):
            more, after = taken(reader, 1)
            found += more
            reader.acknowledge(after)
        assert sorted(found) == list(range(30))
        wait_until(lambda: elasticmq.counts(url) == (0, 0), "all are deleted", seconds=30)
        wait_until(lambda: not reader.status(), "all is well again")
    finally:
        reader.close()


def test_no_more_is_received_than_may_be_on_its_way(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(100))
    reader = opened(source(url, max_in_flight=30))
    try:
        _, after = taken(reader, 20)
        assert elasticmq.counts(url)[1] <= 30
        reader.acknowledge(after)
        assert len(taken(reader, 10)[0]) >= 10
    finally:
        reader.close()


def test_the_lag_is_the_depth_of_the_queue(elasticmq):
    url = elasticmq.create_queue()
    add(elasticmq, url, range(70))
    reader = opened(source(url, max_in_flight=20))
    try:
        partition = url.rpartition("/")[2] + "/0"
        wait_until(lambda: (reader.lag()[partition].events or 0) >= 50, "the depth is told")
    finally:
        reader.close()


def test_a_queue_that_is_not_there_is_told(elasticmq):
    url = elasticmq.create_queue() + "-no"
    with pytest.raises(FatalError) as caught:
        opened(source(url))
    assert caught.value.code == "sqs_queue_missing"
    (check,) = source(url).preflight()
    assert not check.ok


def test_a_server_that_is_not_there_is_unreachable():
    made = source("http://127.0.0.1:1/queue/jobs")
    with pytest.raises(FatalError) as caught:
        opened(made)
    assert caught.value.unreachable
    (check,) = made.preflight()
    assert check.unreachable


def message(name, handle):
    return {"MessageId": name, "ReceiptHandle": handle, "Body": "{}"}


def test_a_message_that_comes_again_is_not_handed_over_twice_and_deleted_by_its_last_handle():
    held = InFlight([])
    held.arrived([message("a", "1")], hidden_until=10, now=0)
    assert [each["MessageId"] for each in held.take(10, 0)[0]] == ["a"]
    held.arrived([message("a", "2")], hidden_until=20, now=0)
    assert held.take(10, 0)[0] == []
    held.settled([b"a"])
    assert held.next_to_delete(10, 0) == [(b"a", "2")]


def test_one_whose_handle_is_void_is_deleted_when_it_comes_again():
    held = InFlight([])
    held.arrived([message("a", "1")], hidden_until=10, now=0)
    held.take(10, 0)
    held.settled([b"a"])
    held.next_to_delete(10, 0)
    held.gone([b"a"])
    held.arrived([message("a", "2")], hidden_until=20, now=0)
    assert held.take(10, 0)[0] == []
    assert held.next_to_delete(10, 0) == [(b"a", "2")]
    held.deleted([b"a"])
    assert held.size == 0
