"""Reading a group: crashes, dead consumers, long steps, trimming, servers that go away."""

from __future__ import annotations

import json
import time

import pytest

from connectors.errors import FatalError
from connectors.progress import Progress
from connectors.redis_stream.buffer import Buffer, Stream
from connectors.redis_stream.connection import TIMEOUT
from connectors.redis_stream.fetching import BLOCK, LOOKS
from connectors.redis_stream.settings import RedisStreamSource
from connectors.testing import wait_until
from tests.connectors.redis_stream.driving import add, fresh, opened, pending, source, taken


@pytest.fixture
def client(redis_url, valkey):
    with valkey.client() as made:
        yield made


def read_by(client, stream, consumer, count):
    """Have another consumer of the group read and not acknowledge."""
    return client.xreadgroup("shop", consumer, {stream: ">"}, count=count)


def test_what_is_settled_but_not_acknowledged_is_acknowledged_at_the_start_and_does_not_come(
    redis_url, client
):
    stream = fresh()
    add(client, stream, range(30))
    reader = opened(source(redis_url, stream))
    _, after = taken(reader, 30)
    reader.close()  # as a crash between checkpoint and acknowledgement leaves it
    assert pending(client, stream) == 30
    add(client, stream, [30])
    reader = opened(source(redis_url, stream), after)
    try:
        assert taken(reader, 1)[0] == [30]
        wait_until(lambda: pending(client, stream) == 1, "the 30 settled ones are acknowledged")
    finally:
        reader.close()


def test_a_batch_that_is_not_settled_comes_again_behind_one_that_is(redis_url, client):
    stream = fresh()
    add(client, stream, range(10))
    reader = opened(source(redis_url, stream))
    first = reader.poll(4, 5)
    second = reader.poll(100, 5)
    assert (first.size, second.size) == (4, 6)
    reader.close()
    reader = opened(source(redis_url, stream), first.after)
    try:
        assert taken(reader, 6)[0] == [4, 5, 6, 7, 8, 9]
    finally:
        reader.close()


def test_entries_keep_their_order_with_one_worker(redis_url, client):
    stream = fresh()
    add(client, stream, range(5000))
    reader = opened(source(redis_url, stream))
    try:
        assert taken(reader, 5000)[0] == list(range(5000))
    finally:
        reader.close()


def test_several_streams_are_read_by_one_worker(redis_url, client):
    streams = [fresh() for _ in range(3)]
    for at, stream in enumerate(streams):
        add(client, stream, range(at * 100, at * 100 + 100))
    reader = opened(source(redis_url, streams[0], streams=streams))
    try:
        numbers, after = taken(reader, 300)
        assert sorted(numbers) == list(range(300))
        assert set(after) == {f"{stream}/0" for stream in streams}
        reader.acknowledge(after)
        wait_until(
            lambda: not any(pending(client, stream) for stream in streams), "all is acknowledged"
        )
    finally:
        reader.close()


def test_workers_share_a_stream_and_each_entry_goes_to_one_of_them(redis_url, client):
    stream = fresh()
    readers = [opened(source(redis_url, stream), index=index, of=2) for index in range(2)]
    found = {}
    try:
        add(client, stream, range(2000))
        deadline = time.monotonic() + 30
        while sum(map(len, found.values())) < 2000:
            assert time.monotonic() < deadline, {k: len(v) for k, v in found.items()}
            for index, reader in enumerate(readers):
                batch = reader.poll(100, 0.05)
                if batch is not None:
                    found.setdefault(index, []).extend(d["n"] for d in batch.column("data"))
                    assert set(batch.column("partition")) == {f"{stream}/{index}"}
                    reader.acknowledge(batch.after)
        assert sorted(n for numbers in found.values() for n in numbers) == list(range(2000))
    finally:
        for reader in readers:
            reader.close()
    assert [reader.owns(f"{stream}/3") for reader in readers] == [False, True]
    assert not readers[0].owns("other/0")


def test_what_a_dead_consumer_left_is_taken_over_and_acknowledged(redis_url, client):
    stream = fresh()
    add(client, stream, range(50))
    client.xgroup_create(stream, "shop", "0")
    read_by(client, stream, "dead", 20)
    reader = opened(source(redis_url, stream, claim_after="1s"))
    try:
        numbers, after = taken(reader, 50)
        assert sorted(numbers) == list(range(50))
        reader.acknowledge(after)
        wait_until(lambda: pending(client, stream) == 0, "nothing is pending")
    finally:
        reader.close()


def test_by_default_what_a_dead_consumer_left_is_taken_over_within_a_minute():
    """Its last sign of life came as it died, a look just before it was due, and an answer late."""
    claim_after = RedisStreamSource.model_fields["claim_after"].default
    between_looks = claim_after / LOOKS + BLOCK / 1000
    assert claim_after + between_looks + TIMEOUT < 60


def test_what_is_on_its_way_for_long_is_not_taken_from_a_worker_that_lives(redis_url, client):
    stream = fresh()
    add(client, stream, range(10))
    one = opened(source(redis_url, stream, claim_after="1s"), index=0, of=2)
    held, after = taken(one, 10)
    # Until it has been the other's turn to claim several times; the dataflow of `one` does nothing.
    two = opened(source(redis_url, stream, claim_after="1s"), index=1, of=2)
    try:
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            assert two.poll(10, 0.2) is None
        assert {row["name"]: row["pending"] for row in client.xinfo_consumers(stream, "shop")}[
            next(
                r["name"] for r in client.xinfo_consumers(stream, "shop") if r["name"].endswith("0")
            )
        ] == len(held)
        one.acknowledge(after)
        wait_until(lambda: pending(client, stream) == 0, "all is acknowledged")
    finally:
        two.close()
        one.close()


def test_what_the_server_sent_and_nobody_received_is_read_after_a_reconnect(
    redis_url, client, proxies
):
    stream = fresh()
    proxy = proxies(redis_url.removeprefix("redis://").partition("/")[0])
    reader = opened(source(f"redis://{proxy.address}/0", stream))
    try:
        add(client, stream, range(5))
        assert taken(reader, 5)[0] == [0, 1, 2, 3, 4]
        proxy.stall()
        add(client, stream, range(5, 25))
        wait_until(lambda: reader.status() or pending(client, stream) == 25, "it was sent, or lost")
        proxy.cut()
        wait_until(lambda: "can't be reached" in reader.status(), "the status says so")
        proxy.restore()
        assert sorted(taken(reader, 20)[0]) == list(range(5, 25))
        wait_until(lambda: not reader.status(), "all is well again")
    finally:
        reader.close()


def test_a_server_that_is_restarted_is_read_on_with_nothing_lost(redis_url, valkey):
    stream = fresh()
    reader = opened(source(redis_url, stream))
    try:
        with valkey.client() as client:
            add(client, stream, range(100))
        _, after = taken(reader, 100)
        valkey.stop()
        reader.acknowledge(after)
        wait_until(lambda: "can't be reached" in reader.status(), "the status says so")
        valkey.start_again()
        with valkey.client() as client:
            add(client, stream, range(100, 200))
            assert taken(reader, 100)[0] == list(range(100, 200))
            wait_until(lambda: pending(client, stream) == 100, "what was settled is acknowledged")
    finally:
        reader.close()


def test_a_group_that_somebody_removes_goes_on_behind_what_was_read(redis_url, client):
    stream = fresh()
    add(client, stream, range(10))
    reader = opened(source(redis_url, stream))
    try:
        taken(reader, 10)
        client.xgroup_destroy(stream, "shop")
        add(client, stream, range(10, 15))
        assert taken(reader, 5)[0] == list(range(10, 15))
    finally:
        reader.close()


def test_a_stream_that_is_made_anew_is_read_from_its_beginning(redis_url, client):
    stream = fresh()
    add(client, stream, range(10))
    reader = opened(source(redis_url, stream))
    try:
        taken(reader, 10)
        client.delete(stream)
        client.xadd(stream, {"data": '{"n": 77}'}, id="1-1")
        assert taken(reader, 1)[0] == [77]
    finally:
        reader.close()


def test_a_lost_group_goes_on_where_the_state_store_stands(redis_url, client):
    stream = fresh()
    add(client, stream, range(10))
    reader = opened(source(redis_url, stream))
    after = reader.poll(4, 5).after
    reader.close()
    client.xgroup_destroy(stream, "shop")
    reader = opened(source(redis_url, stream), after)
    try:
        assert taken(reader, 6)[0] == list(range(4, 10))
    finally:
        reader.close()


def test_entries_trimmed_before_they_were_read_are_reported(redis_url, client, capsys):
    stream = fresh()
    add(client, stream, range(10))
    client.xgroup_create(stream, "shop", "0")
    read_by(client, stream, "other", 2)
    client.xtrim(stream, maxlen=5, approximate=False)
    reader = opened(source(redis_url, stream))
    try:
        assert taken(reader, 5)[0] == list(range(5, 10))
    finally:
        reader.close()
    told = capsys.readouterr().out
    assert "redis_entries_trimmed" in told
    assert "entries=3" in told.replace("\x1b[0m", "").replace("\x1b[35m", "").replace(
        "\x1b[36m", ""
    )


def test_entries_trimmed_while_they_were_pending_are_reported_and_let_go(redis_url, client, capsys):
    stream = fresh()
    add(client, stream, range(6))
    reader = opened(source(redis_url, stream))
    taken(reader, 6)
    reader.close()
    client.xtrim(stream, maxlen=2, approximate=False)
    reader = opened(source(redis_url, stream))
    try:
        assert taken(reader, 2)[0] == [4, 5]
        wait_until(lambda: pending(client, stream) == 2, "what is gone is let go")
    finally:
        reader.close()
    assert "redis_entries_trimmed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("start", "expected"), [("0", [0, 1, 2, 3]), ("$", [3]), ("2-0", [2, 3]), ("time", [1, 2, 3])]
)
def test_a_new_group_starts_where_it_is_told(redis_url, client, start, expected):
    stream = fresh()
    at = 1_790_000_000_000
    ids = ["1-0", "2-0", "3-0"] if start != "time" else [f"{at - 1}-9", f"{at}-0", f"{at + 5}-0"]
    for n, entry in enumerate(ids):
        client.xadd(stream, {"data": json.dumps({"n": n})}, id=entry)
    given = "2026-09-21T14:13:20Z" if start == "time" else start
    reader = opened(source(redis_url, stream, start=given))
    try:
        wait_until(lambda: client.xinfo_groups(stream), "the group is there")
        client.xadd(stream, {"data": '{"n": 3}'})
        assert taken(reader, len(expected))[0] == expected
    finally:
        reader.close()


def test_no_more_is_read_than_may_be_on_its_way(redis_url, client):
    stream = fresh()
    add(client, stream, range(500))
    reader = opened(source(redis_url, stream, max_in_flight=100))
    try:
        _, after = taken(reader, 100)
        assert reader.poll(1000, 0.5) is None
        assert pending(client, stream) == 100
        reader.acknowledge(after)
        assert taken(reader, 100)[0][:100] == list(range(100, 200))
    finally:
        reader.close()


def test_the_lag_is_what_the_group_has_to_read_and_what_waits_here(redis_url, client):
    stream = fresh()
    reader = opened(source(redis_url, stream, max_in_flight=10))
    try:
        add(client, stream, range(500))
        first = reader.poll(5, 10)
        wait_until(
            lambda: (reader.lag()[f"{stream}/0"].events or 0) == 500 - first.size,
            "all but what was handed over is behind",
        )
    finally:
        reader.close()


def test_a_password_that_is_wrong_stops_it_and_is_not_shown(redis_url, client):
    client.config_set("requirepass", "hunter2")
    client.execute_command("AUTH", "hunter2")
    try:
        wrong = redis_url.replace("redis://", "redis://:wrong-secret@")
        with pytest.raises(FatalError) as caught:
            opened(source(wrong, fresh()))
        assert caught.value.code == "redis_authentication"
        assert "wrong-secret" not in str(caught.value)
        (check,) = source(wrong, fresh()).preflight()
        assert not check.ok
    finally:
        client.config_set("requirepass", "")


def test_a_server_that_is_not_there_is_unreachable(redis_url):
    with pytest.raises(FatalError) as caught:
        opened(source("redis://127.0.0.1:1/0", fresh()))
    assert caught.value.unreachable
    (check,) = source("redis://127.0.0.1:1/0", fresh()).preflight()
    assert check.unreachable


def test_a_key_that_is_no_stream_stops_it(redis_url, client):
    stream = fresh()
    client.set(stream, "text")
    with pytest.raises(FatalError) as caught:
        opened(source(redis_url, stream))
    assert caught.value.code == "redis_wrong_type"


def test_what_is_on_its_way_to_the_dataflow_is_never_in_nobodys_hands():
    # Else a reconnect at that moment would take it for an entry that nobody has received.
    buffer = Buffer()
    stream = Stream("s", "s/0", Progress(0))
    buffer.put(stream, [(b"1-0", [b"data", b"1"]), (b"2-0", [b"data", b"2"])])
    assert len(buffer.take(1, 0)) == 1
    assert buffer.held(stream) == {b"1-0", b"2-0"}
    buffer.take(1, 0)
    assert buffer.held(stream) == {b"2-0"}
    buffer.take(1, 0)
    assert buffer.held(stream) == set()
