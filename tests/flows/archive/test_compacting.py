"""Small chunks are put together: what is read stays the same, whoever reads at the time, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from connectors.batch import Arrival, Change
from connectors.contracts import Opening, Shard, Window
from flows.archive import reader as reader_module
from flows.archive.compacting import MOST, compact
from flows.archive.verifying import verify
from flows.runtime.retention import pruner
from tests.flows.archive.archiving import ATTRIBUTES, EVER, batches_of, events, numbers_of
from tests.flows.runtime.test_retention import plan_of

LATER = 100_000.0
"""A time at which what was archived in the first hours after 1970 is old."""


def compacted(archived, *, now=LATER, retention=None):
    return compact(archived.store.archive, "shop", "orders", retention=retention, now=now)


def totals(archived):
    (found,) = archived.store.archive.totals("shop", "orders")
    return found


def slow(archived, *numbers, each=10.0, **more):
    """Archive an event at a time, one in `each` seconds."""
    for n in numbers:
        archived.add(events(n, times=[n * each], **more), now=n * each)


def damages(archived):
    return [each.damage for each in verify(archived.store.archive, "shop", "orders") if each.damage]


def rows(batches):
    return [
        {name: batch.column(name)[k] for name in (*ATTRIBUTES, "change")}
        for batch in batches
        for k in range(batch.size)
    ]


def test_an_archive_of_single_events_becomes_small_and_reads_as_before(archived):
    slow(archived, *range(300), partition="a", subject=["s"], extensions=[{"tenant": "acme"}])
    before, held = rows(archived.read()), totals(archived)
    assert compacted(archived) == 299
    assert rows(archived.read()) == before
    after = totals(archived)
    assert (after.chunks, after.events, after.began_at) == (1, 300, held.began_at)
    assert after.bytes < held.bytes / 10
    assert damages(archived) == []
    assert archived.numbers(Window(1_000_000, 1_050_000)) == [100, 101, 102, 103, 104]
    # What has been put together is not looked at again.
    assert compacted(archived) == 0


def test_more_than_fit_into_one_chunk_or_one_hour_become_several(archived):
    slow(archived, *range(800), each=9.0)
    compacted(archived)
    sizes = [place.count for place in archived.store.archive.every("shop", "orders", 0)]
    assert sizes == [401, 399]
    assert archived.numbers() == list(range(800))
    for n in range(3):
        archived.add(events(*range(90 * n, 90 * n + 90), times=[5.0] * 90), now=20_000.0)
    archived.add(events(*range(MOST)), now=20_000.0)
    compacted(archived)
    sizes = [place.count for place in archived.store.archive.every("shop", "orders", 0)]
    assert sizes == [401, 399, 270, MOST]


def test_what_may_still_grow_is_left_until_its_time_is_over(archived):
    slow(archived, *range(10))
    assert compacted(archived, now=100.0) == 0
    assert compacted(archived, now=4000.0) == 9
    # No event is kept for much longer than its retention.
    slow(archived, *range(1000, 1010), each=20.0)
    assert compacted(archived, retention=400.0, now=LATER) == 5
    assert archived.numbers() == [*range(10), *range(1000, 1010)]


def test_bytes_changes_errors_and_messages_are_kept(archived):
    change = Change("UPDATE", {"n": 0}, {"n": 1})
    message = Arrival("orders", 0, 7, b"k\xff", b"\x00raw", (("h", None), ("h", b"2")))
    odd = events(2, 3, change=[change, Change("DELETE", {"n": 2}, None)], times=[None, 1.0])
    odd.columns["raw"] = [b"{broken", None]
    odd.columns["wire"] = [None, b"\xff\nwire"]
    odd.columns["arrival"] = [message, None]
    odd.column("data")
    again = events(4, 5, change=[change, change], times=[2.0, None])
    again.columns |= {"wire": [b"x", None], "arrival": [None, message]}
    archived.add(odd, now=50.0)
    archived.add(again, now=60.0)
    before, (first,) = rows(archived.read()), archived.read()
    assert compacted(archived) == 1
    (batch,) = archived.read()
    assert rows([batch]) == before
    assert batch.column("wire") == [None, b"\xff\nwire", b"x", None]
    assert batch.column("arrival") == [message, None, None, message]
    assert {index: error.code for index, error in batch.errors.items()} == {
        index: error.code for index, error in first.errors.items()
    }
    # Those without a time are still found by when they were archived, each by its own.
    assert [n for b in archived.read(Window(50_000, 50_001)) for n in b.column("id")] == ["e2"]
    assert [n for b in archived.read(Window(60_000, 60_001)) for n in b.column("id")] == ["e5"]


def test_a_job_that_had_stopped_goes_on_behind_where_it_stood(archived):
    for n in range(120):
        archived.add(events(n, times=[n * 10.0], partition="aabacb"[n % 6]), now=n * 10.0)
    stopped = {}
    for most in (1, 7, 65, 119):
        opening = Opening(shard=Shard(), positions={}, window=EVER)
        positions = stopped[most] = {}
        for batch in batches_of(archived.source.open(opening), 1, most):
            positions.update(batch.after)
    assert compacted(archived) == 119
    for most, positions in stopped.items():
        assert archived.numbers(positions=positions) == list(range(most, 120))


def test_who_reads_while_chunks_are_put_together_reads_each_event_once(archived, monkeypatch):
    monkeypatch.setattr(reader_module, "TOGETHER", 1)
    slow(archived, *range(50))
    reader = archived.source.open(Opening(shard=Shard(), positions={}, window=EVER))
    reading = batches_of(reader)
    found = numbers_of(next(reading))
    # It is a few chunks ahead, and what it is to end with becomes part of a later chunk.
    slow(archived, *range(50, 100))
    assert compacted(archived) == 99
    for batch in reading:
        found += numbers_of(batch)
    assert found == list(range(50))


def test_who_reads_what_is_forgotten_is_still_told(archived, monkeypatch):
    monkeypatch.setattr(reader_module, "TOGETHER", 1)
    slow(archived, *range(50))
    reader = archived.source.open(Opening(shard=Shard(), positions={}, window=EVER))
    reading = batches_of(reader)
    next(reading)
    compacted(archived)
    archived.store.archive.forget("shop", "orders", before=LATER, max_bytes=None)
    with pytest.raises(Exception, match="forgotten while it was being read"):
        list(reading)


def test_a_damaged_chunk_is_marked_and_left_as_it_is(archived):
    slow(archived, *range(30))
    damaged = archived.ids()[10]
    archived.damage(damaged)
    assert compacted(archived) == 27
    assert len(damages(archived)) == 1
    archived.store.archive.give_up("shop", "orders", damaged)
    assert archived.numbers() == [n for n in range(30) if n != 10]


def test_what_has_changed_since_it_was_read_is_not_replaced(archived):
    slow(archived, *range(3))
    first, second, third = archived.ids()
    archive = archived.store.archive
    chunks = {number: archive.chunk(number) for number in (first, second, third)}
    digests = {number: chunk.digest for number, chunk in chunks.items()}
    compaction = archive.compaction("shop", "orders")
    assert not compaction.replace(digests | {second: b"other"}, chunks[first], 0)
    assert not compaction.replace(digests | {third: b"other"}, chunks[first], 0)
    assert archived.ids() == [first, second, third]
    assert archived.numbers() == [0, 1, 2]
    assert totals(archived).chunks == 3


def test_a_kill_leaves_all_chunks_or_the_one_that_they_became(archived):
    slow(archived, *range(40))
    program = (
        "import sys; from flows.state.store import open_store;"
        "from flows.archive.compacting import compact; store = open_store(sys.argv[1]);"
        "compact(store.archive, 'shop', 'orders', retention=None, now=1e5)"
    )
    url = archived.store._database._url
    for point, left in (("mid_archive_compaction", 40), ("after_archive_compaction", 1)):
        killed = subprocess.run(
            [sys.executable, "-c", program, url],
            env=os.environ | {"PENSTOCK_FAIL_POINT": point},
            timeout=60,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        assert (len(archived.ids()), totals(archived).chunks) == (left, left)
        assert archived.numbers() == list(range(40))
        assert damages(archived) == []
    assert compacted(archived) == 0


def test_it_happens_when_retention_runs(archived, tmp_path):
    slow(archived, *range(20))
    plan = plan_of(tmp_path, {"retention": "36500d"})
    assert json.loads(archived.store.archive.every("shop", "orders", 0)[0].partitions) == ["lines"]
    pruner(plan)(archived.store)
    assert len(archived.ids()) == 1
    assert archived.numbers() == list(range(20))
