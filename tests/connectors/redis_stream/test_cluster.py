"""Redis Cluster: streams on several nodes, slots that move while they are read and filled, a failover."""

from __future__ import annotations

import json
import threading

import pytest

from connectors.contracts import EndOfSource, Outgoing, SinkOpening
from connectors.errors import FatalError
from connectors.testing import Recipe, SinkConformance, SourceConformance, wait_until
from tests.connectors.redis_stream.driving import add, fresh, opened, pending, sink, source, taken
from tests.connectors.templates import compile_template
from tests.services.fixtures import open_folder
from tests.services.valkey_cluster import ValkeyCluster

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster():
    with open_folder() as folder, ValkeyCluster.running(folder) as running:
        yield running


@pytest.fixture
def client(cluster):
    with cluster.client() as made:
        yield made


@pytest.fixture
def streams(cluster):
    """Give the names of three streams, each at another node."""
    return [cluster.stream_of(node) for node in cluster.masters]


class StreamInCluster:
    """As in test_conformance.py, without a proxy: the nodes tell their own addresses."""

    def __init__(self, url, client):
        self.client = client
        self.stream = fresh()
        self.source = source(url, self.stream, cluster={}, consumer="reader")
        config = {"streams": [self.stream], "group": "shop", "key_field": "k", "cluster": {}}
        self.recipe = Recipe("source.redis_stream", {"url": url, "consumer": "reader", **config})
        self.emitted = 0

    def emit(self, count):
        add(self.client, self.stream, range(self.emitted, self.emitted + count))
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        (group,) = self.client.xinfo_groups(self.stream)
        return group["entries-read"] - pending(self.client, self.stream)


class WrittenInCluster:
    def __init__(self, url, client):
        self.url = url
        self.client = client
        self.stream = fresh()

    def make(self):
        return sink(self.url, stream=self.stream, format="json", cluster={})

    def arrived(self):
        found = [fields for _, fields in self.client.xrange(self.stream)]
        return [json.loads(fields["data"]) for fields in found]

    def refuse(self, numbers):
        return False


class TestRedisClusterSource(SourceConformance):
    @pytest.fixture
    def subject(self, cluster, client):
        return StreamInCluster(cluster.url, client)


class TestRedisClusterSink(SinkConformance):
    @pytest.fixture
    def subject(self, cluster, client):
        return WrittenInCluster(cluster.url, client)


def outgoing(numbers):
    chosen = list(numbers)
    values = [json.dumps({"n": n}).encode() for n in chosen]
    shared = {"id": [str(n) for n in chosen], "source": "/s", "type": "t"}
    return Outgoing(values, [None] * len(chosen), lambda: shared)


def outgoing_to(stream, numbers):
    events = outgoing(numbers)
    shared = {**events.attributes(), "type": stream}
    return Outgoing(events.values, events.keys, lambda: shared)


def in_stream(client, stream):
    return [json.loads(fields["data"])["n"] for _, fields in client.xrange(stream)]


def ended(reader):
    try:
        assert reader.poll(10, 0.1) is None
    except EndOfSource:
        return True
    return False


def test_streams_of_several_nodes_are_read_and_acknowledged_where_they_are(
    cluster, client, streams
):
    made = source(cluster.url, streams[0], streams=streams, cluster={})
    assert [check.ok for check in made.preflight()] == [True] * 4
    reader = opened(made)
    try:
        for turn, stream in enumerate(streams):
            add(client, stream, range(turn * 100, turn * 100 + 100))
        found, after = taken(reader, 300)
        assert sorted(found) == list(range(300))
        reader.acknowledge(after)
        for stream in streams:
            wait_until(lambda stream=stream: pending(client, stream) == 0, "all is acknowledged")
        wait_until(
            lambda: [lag.events for lag in reader.lag().values()] == [0, 0, 0], "the lag is told"
        )
    finally:
        reader.close()


def test_streams_of_one_slot_are_read_together(cluster, client):
    tag = fresh()
    names = [f"{{{tag}}}-one", f"{{{tag}}}-two"]
    reader = opened(source(cluster.url, names[0], streams=names, cluster={}))
    try:
        for turn, name in enumerate(names):
            add(client, name, range(turn * 10, turn * 10 + 10))
        assert sorted(taken(reader, 20)[0]) == list(range(20))
        assert len(reader._fetchers) == 1
    finally:
        reader.close()


def test_a_bounded_read_ends_when_the_streams_of_all_nodes_are_through(cluster, client, streams):
    for stream in streams[:2]:
        add(client, stream, range(5))
    made = source(cluster.url, streams[0], streams=streams, cluster={})
    reader = opened(made, until_caught_up=True)
    try:
        assert sorted(taken(reader, 10)[0]) == sorted([*range(5), *range(5)])
        wait_until(lambda: ended(reader), "the reader is at its end")
    finally:
        reader.close()


def test_no_more_than_max_in_flight_is_pending_over_all_nodes(cluster, client, streams):
    for stream in streams:
        add(client, stream, range(500))
    made = source(cluster.url, streams[0], streams=streams, cluster={}, max_in_flight=300)
    reader = opened(made)
    try:
        found, after = taken(reader, 300)
        wait_until(
            lambda: sum(pending(client, stream) for stream in streams) == 300, "300 are pending"
        )
        assert reader.poll(1000, 0.5) is None
        reader.acknowledge(after)
        assert len(taken(reader, 300)[0]) >= 300
        assert len(found) == 300
    finally:
        reader.close()


def test_a_slot_that_moves_while_its_stream_is_read_is_followed(cluster, client, streams):
    stream = streams[0]
    made = source(cluster.url, stream, streams=streams, cluster={})
    reader = opened(made)
    try:
        add(client, stream, range(50))
        found, first = taken(reader, 50)
        cluster.move(stream, cluster.masters[1])
        # Settled before the move, acknowledged after it: at the node that has the group now.
        reader.acknowledge(first)
        with cluster.client() as anew:
            add(anew, stream, range(50, 100))
            more, second = taken(reader, 50)
            cluster.move(stream, cluster.masters[2])
            add(anew, stream, range(100, 150))
            last, third = taken(reader, 50)
            assert [*found, *more, *last] == list(range(150))
            reader.acknowledge(second)
            reader.acknowledge(third)
            wait_until(lambda: pending(anew, stream) == 0, "all is acknowledged", seconds=60)
        wait_until(lambda: reader.status() == "", "it is well again", seconds=60)
    finally:
        reader.close()


def test_a_slot_that_moves_while_its_stream_is_filled_loses_nothing_and_keeps_its_order(
    cluster, client, streams
):
    stream = streams[1]
    made = sink(cluster.url, stream=stream, format="json", cluster={}, pipeline_size=10)
    made.open(SinkOpening({}))
    stopped = threading.Event()
    there = threading.Event()
    delivered = 0

    def fill():
        nonlocal delivered
        while not stopped.is_set():
            batch = range(delivered, delivered + 20)
            left = list(batch)
            while left:
                failures = made.deliver(outgoing(left))
                assert {error.kind for error in failures.values()} <= {"retryable"}, failures
                left = [left[place] for place in sorted(failures)]
            delivered = batch.stop
            there.set()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for target in (cluster.masters[2], cluster.masters[0], cluster.masters[1]):
            there.clear()
            assert there.wait(30)
            cluster.move(stream, target)
        there.clear()
        assert there.wait(30)
    finally:
        stopped.set()
        thread.join(30)
        made.close()
    with cluster.client() as anew:
        # What was refused, was refused as a whole: so nothing is there twice either.
        assert in_stream(anew, stream) == list(range(delivered))


def test_while_a_slot_is_being_moved_its_stream_waits_and_others_go_on(cluster, client, streams):
    stream, other = streams[0], streams[1]
    reader = opened(source(cluster.url, stream, streams=streams, cluster={}))
    made = sink(cluster.url, stream="{{ .type }}", format="json", cluster={})
    made.open(SinkOpening({}, compile_template=compile_template))
    try:
        add(client, stream, range(5))
        assert taken(reader, 5)[0] == list(range(5))
        cluster.begin_move(stream, cluster.masters[2])
        wait_until(lambda: "on its way to another node" in reader.status(), "it says so")
        values = [json.dumps({"n": n}).encode() for n in (5, 6)]
        shared = {"id": "1", "source": "/s", "type": [stream, other]}
        failures = made.deliver(Outgoing(values, [None] * 2, lambda: shared))
        assert {place: (e.code, e.kind) for place, e in failures.items()} == {
            0: ("redis_slot_moved", "retryable")
        }
        assert taken(reader, 1)[0] == [6]
        cluster.end_move(stream, cluster.masters[2])
        wait_until(lambda: made.deliver(outgoing_to(stream, [5])) == {}, "it is added")
        assert taken(reader, 1)[0] == [5]
        assert reader.status() == ""
    finally:
        reader.close()
        made.close()


def test_events_of_a_template_go_to_streams_at_their_nodes(cluster, client, streams):
    made = sink(cluster.url, stream="{{ .type }}", format="json", cluster={})
    made.open(SinkOpening({}, compile_template=compile_template))
    try:
        shared = {"id": "1", "source": "/s", "type": [streams[n % 3] for n in range(9)]}
        values = [json.dumps({"n": n}).encode() for n in range(9)]
        assert made.deliver(Outgoing(values, [None] * 9, lambda: shared)) == {}
        assert [in_stream(client, s) for s in streams] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    finally:
        made.close()


def test_another_address_is_asked_when_the_first_node_is_away(cluster, client, streams):
    addresses = ["127.0.0.1:1", f"127.0.0.1:{cluster.masters[2].port}"]
    made = source("redis://127.0.0.1:2/0", streams[0], cluster={"addresses": addresses})
    reader = opened(made)
    try:
        add(client, streams[0], range(3))
        assert taken(reader, 3)[0] == [0, 1, 2]
    finally:
        reader.close()


def test_a_cluster_of_which_no_node_answers_is_unreachable():
    made = source("redis://127.0.0.1:2/0", "s", cluster={"addresses": ["127.0.0.1:1"]})
    (check,) = made.preflight()
    assert (check.ok, check.unreachable) == (False, True)
    with pytest.raises(FatalError) as caught:
        opened(made)
    assert (caught.value.code, caught.value.unreachable) == ("redis_unavailable", True)


def test_a_server_that_is_in_no_cluster_is_said_to_be(redis_url):
    for made in (source(redis_url, "s", cluster={}), sink(redis_url, stream="s", cluster={})):
        with pytest.raises(FatalError) as caught:
            made.open(SinkOpening({})) if hasattr(made, "deliver") else opened(made)
        assert caught.value.code == "redis_cluster"
        assert "Take `cluster` away" in caught.value.hint


def test_a_node_of_a_cluster_that_is_named_as_a_server_is_refused_with_what_to_set(cluster):
    with pytest.raises(FatalError) as caught:
        opened(source(cluster.url, fresh()))
    assert caught.value.code == "redis_cluster"
    assert "Set `cluster`" in caught.value.hint


@pytest.mark.slow
def test_a_failover_of_a_node_is_followed_in_reading_and_adding():
    with open_folder() as folder, ValkeyCluster.running(folder, replicas=1) as running:
        lost, replica = running.nodes[0], running.nodes[3]
        stream, kept = running.stream_of(lost), running.stream_of(running.nodes[1])
        reader = opened(source(running.url, stream, streams=[stream, kept], cluster={}))
        made = sink(running.url, stream=stream, format="json", cluster={})
        made.open(SinkOpening({}))
        try:
            assert made.deliver(outgoing(range(10))) == {}
            assert taken(reader, 10)[0] == list(range(10))
            with lost.client() as asking:
                offset = asking.info("replication")["master_repl_offset"]
            with replica.client() as asking:
                wait_until(
                    lambda: asking.info("replication")["slave_repl_offset"] >= offset,
                    "the replica has it",
                )
            lost.stop()
            wait_until(
                lambda: made.deliver(outgoing([10])) == {}, "the new master adds", seconds=60
            )
            assert taken(reader, 1, seconds=60)[0][-1] == 10
            assert running.owner(stream) is replica
        finally:
            reader.close()
            made.close()
