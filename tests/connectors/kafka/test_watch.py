"""Positions are committed in their order: of two commits on their way, a broker may keep the older."""

from __future__ import annotations

import time

import pytest

from connectors.contracts import Shard
from connectors.kafka.failures import ClientErrors
from connectors.kafka.positions import Part, TopicChoice
from connectors.kafka.watch import Watch
from connectors.testing.waiting import wait_until

PART = Part("orders", 0)


class SlowClient:
    """Tells of a commit's end once `answer` was called; a broker would not do it for a test."""

    def __init__(self, on_commit):
        self.on_commit = on_commit
        self.commits = []
        self.ended = []
        self.closed = False

    def commit(self, *, offsets, asynchronous):
        assert asynchronous
        self.commits.append([(p.topic, p.partition, p.offset) for p in offsets])
        self._offsets = offsets

    def answer(self):
        self.ended.append(self._offsets)

    def poll(self, _seconds):
        if self.ended:
            self.on_commit(None, self.ended.pop())

    def close(self):
        self.closed = True


@pytest.fixture
def clients():
    return []


@pytest.fixture
def watch(clients):
    def connect(_errors, on_commit):
        clients.append(SlowClient(on_commit))
        return clients[-1]

    made = Watch(
        connect,
        ClientErrors(""),
        TopicChoice(["orders"], None),
        Shard(),
        {PART: ""},
        ids=None,
        look_for_new=False,
        refresh=0.05,
    )
    made._look = lambda: None
    made.start()
    yield made
    made.close()


@pytest.fixture
def client(watch, clients):
    """The client whose commit of 10 is on its way."""
    watch.settle({PART: 10})
    wait_until(lambda: clients and clients[0].commits, "the first is committed", seconds=10)
    (client,) = clients
    return client


def test_a_position_is_committed_once_the_commit_before_has_ended(watch, client):
    watch.settle({PART: 20})
    watch.settle({PART: 30})
    time.sleep(0.3)
    assert client.commits == [[("orders", 0, 10)]]
    client.answer()
    wait_until(lambda: len(client.commits) == 2, "the newest is committed", seconds=10)
    assert client.commits[1] == [("orders", 0, 30)]
    client.answer()


def test_what_is_left_is_committed_at_the_end_behind_what_is_on_its_way(watch, client):
    watch.settle({PART: 20})
    client.answer()
    watch.close()
    assert client.commits[-1] == [("orders", 0, 20)]
    assert client.closed
