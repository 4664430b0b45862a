"""Streams are read by time: the entries of a window, and nothing that a group goes by is touched."""

from __future__ import annotations

import json
import time

import pytest

from connectors.contracts import EndOfSource, Opening, Shard, Surveying, Window
from connectors.errors import FatalError
from tests.connectors.redis_stream.driving import fresh, source

HOUR = 3_600_000
BEGIN = 1_800_000_000_000


@pytest.fixture
def client(redis_url, valkey):
    with valkey.client() as made:
        yield made


def at(hours):
    return BEGIN + int(hours * HOUR)


def fill(client, stream, *hours, **fields):
    """Add an entry of each of these hours, in this order; its data says which."""
    for each in hours:
        client.xadd(stream, {"data": json.dumps(each), **fields}, id=f"{at(each)}-*")


def opened(made, window, positions=None, shard=None):
    return made.open(Opening(shard or Shard(), positions or {}, window=window))


def polled(reader, limit=1000):
    """Return the next batch that has events; None at the end."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            batch = reader.poll(limit, 0.2)
        except EndOfSource:
            return None
        if batch is not None and batch.size:
            return batch
    raise AssertionError(reader.status())


def hours_of(made, window, **more):
    reader = opened(made, window, **more)
    found = []
    try:
        while (batch := polled(reader)) is not None:
            found += batch.column("data")
    finally:
        reader.close()
    return found


def test_a_window_is_half_open_and_read_stream_by_stream_without_the_group(redis_url, client):
    one, other = fresh(), fresh()
    fill(client, one, *range(10))
    fill(client, other, 2.5, 6, 6.5, 8)
    made = source(redis_url, one, streams=[one, other, "not-there"])
    assert hours_of(made, Window(at(2), at(6))) == [2, 3, 4, 5, 2.5]
    assert hours_of(made, Window(at(2) + 1, at(6) + 1)) == [3, 4, 5, 6, 2.5, 6]
    assert hours_of(made, Window(at(20), at(30))) == []
    shares = [hours_of(made, Window(at(6), at(9)), shard=Shard(index, 2)) for index in range(2)]
    assert shares == [[6, 7, 8], [6, 6.5, 8]]
    assert client.xinfo_groups(one) == []


def test_an_event_whose_own_time_is_in_the_window_is_found_where_it_was_added_later(
    redis_url, client
):
    stream = fresh()
    minute = 1 / 60
    event = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/x", "ce_type": "order"}
    fill(client, stream, 3 + 5 * minute, **event, ce_time="2027-01-15T10:59:00Z")
    assert at(3) == 1_800_010_800_000  # 2027-01-15T11:00:00Z
    assert hours_of(source(redis_url, stream), Window(at(2), at(3))) == [3 + 5 * minute]
    assert hours_of(source(redis_url, stream), Window(at(3), at(4))) == []


def test_a_window_goes_on_behind_where_it_was_left(redis_url, client):
    stream = fresh()
    for n in range(25):
        client.xadd(stream, {"data": str(n)}, id=f"{at(1)}-{n + 1}")
    made, window = source(redis_url, stream), Window(at(1), at(2))
    reader = opened(made, window)
    first = polled(reader, 10)
    reader.close()
    assert first.column("data") == list(range(10))
    assert sorted(first.column("position")) == first.column("position")
    assert first.after == {f"{stream}/0": first.column("position")[-1]}
    assert hours_of(made, window, positions=first.after) == list(range(10, 25))


def test_an_entry_is_the_same_event_as_through_the_group(redis_url, client):
    stream = fresh()
    fill(client, stream, 1, k="a")
    made = source(redis_url, stream)
    live = made.open(Opening(Shard(), {}))
    past = opened(made, Window(at(1), at(2)))
    try:
        names = ("id", "source", "type", "time", "timestamp", "key", "extensions")
        of_group, of_window = polled(live), polled(past)
        for name in names:
            assert of_window.column(name) == of_group.column(name)
    finally:
        live.close()
        past.close()


def test_what_was_trimmed_unread_stops_the_reading(redis_url, client):
    stream = fresh()
    fill(client, stream, *range(1, 9))
    reader = opened(source(redis_url, stream), Window(at(0), at(10)))
    try:
        assert polled(reader, 3).size == 3
        client.xtrim(stream, minid=f"{at(6)}-0", approximate=False)
        with pytest.raises(FatalError) as caught:
            polled(reader)
    finally:
        reader.close()
    assert caught.value.code == "redis_trimmed"
    assert stream in caught.value.message


def test_a_lost_connection_is_made_anew(redis_url, client):
    stream = fresh()
    fill(client, stream, *range(1, 9))
    reader = opened(source(redis_url, stream), Window(at(0), at(10)))
    try:
        found = polled(reader, 3).column("data")
        client.client_kill_filter(_type="normal", skipme=True)
        assert reader.poll(3, 0.1) is None
        assert "can't be reached" in reader.status()
        while (batch := polled(reader, 3)) is not None:
            found += batch.column("data")
        assert reader.status() == ""
    finally:
        reader.close()
    assert found == list(range(1, 9))


def test_a_survey_tells_the_first_the_last_and_what_was_trimmed(redis_url, client):
    stream = fresh()
    fill(client, stream, *range(10))
    made = source(redis_url, stream)
    assert isinstance(made, Surveying)
    found = made.survey(Window(at(2), at(6)))
    assert (found.events, found.first, found.last, found.exact) == (10, at(2), at(5), False)
    assert found.gaps == ()
    client.xtrim(stream, minid=f"{at(4)}-0", approximate=False)
    (gap,) = made.survey(Window(at(2), at(6))).gaps
    assert (gap.since, gap.until) == (at(2), at(4))
    assert "4 entries were trimmed or deleted, it begins at 2027-01-15T12:00:00Z" in gap.reason
    assert made.survey(Window(at(5), at(6))).gaps == ()
    client.xtrim(stream, maxlen=0, approximate=False)
    (gap,) = made.survey(Window(at(2), at(6))).gaps
    assert gap.reason.endswith("nothing is left of it")
    assert made.survey(Window(at(20), at(30))).gaps == ()


def test_a_server_that_is_not_there_is_told_at_once(redis_url):
    made = source("redis://127.0.0.1:1", fresh())
    with pytest.raises(FatalError) as caught:
        opened(made, Window(at(0), at(1)))
    assert caught.value.unreachable
    with pytest.raises(FatalError):
        made.survey(Window(at(0), at(1)))
