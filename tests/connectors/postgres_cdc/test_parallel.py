"""A table's rows read over several connections: in key order, once, and resumed as over one."""

from __future__ import annotations

import random
import threading
import uuid

import psycopg
import pytest

from connectors.batch import Change, Event
from connectors.postgres_cdc import parallel, snapshot
from tests.connectors.postgres_cdc.cdc import PATIENCE, Flow, execute, fetch, on_both_versions
from tests.connectors.postgres_cdc.test_kills import Child
from tests.connectors.postgres_cdc.test_large import FAT, FILL, MEMORY, read_in_a_child
from tests.connectors.postgres_cdc.test_snapshot import ROWS, Replica, Writer, table

pytestmark = pytest.mark.postgres


@pytest.fixture
def small(monkeypatch):
    """Segments and chunks of some rows, so that a small table has many; returns who read them."""
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 40)
    monkeypatch.setattr(parallel, "FIRST_ROWS", 100)
    monkeypatch.setattr(parallel, "SEGMENT", 1000)
    monkeypatch.setattr(parallel, "HELD", 500)
    readers = set()
    reading = parallel.read_rows

    def noted(connection, *rest):
        readers.add(connection.info.backend_pid)
        return reading(connection, *rest)

    monkeypatch.setattr(parallel, "read_rows", noted)
    return readers


def copying():
    return [each for each in threading.enumerate() if each.name.startswith("cdc-copy")]


TABLES = {
    "int": ("k int PRIMARY KEY", "i * 7919 % 100003 - 50000"),
    "uuid": ("k uuid PRIMARY KEY", "md5(i::text)::uuid"),
    "text": ('k text COLLATE "C" PRIMARY KEY', "'ä''\\' || i * 7919 % 100003"),
    "composite": (
        'a int DEFAULT 1, k text COLLATE "C", PRIMARY KEY (a, k)',
        "chr(65 + i % 50) || i",
    ),
}


@on_both_versions
@pytest.mark.parametrize("key", TABLES)
def test_rows_come_once_and_in_the_order_of_their_key_over_several_connections(
    database, small, key
):
    columns, values = TABLES[key]
    execute(
        database,
        f"CREATE TABLE t ({columns})",
        f"INSERT INTO t (k) SELECT {values} FROM generate_series(1, 3000) i",
    )
    flow = Flow(database, snapshot_parallelism=3)
    with flow.open() as reading:
        events = reading.take(3000, limit=500)
        execute(database, f"INSERT INTO t (k) SELECT {values} FROM generate_series(3001, 3001) i")
        (change,) = reading.take(1)
    expected = [str(row[0]) for row in fetch(database, "SELECT k FROM t ORDER BY k")]
    expected.remove(str(change.data["k"]))
    assert [str(event.data["k"]) for event in events] == expected
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert len(small) == 3
    assert copying() == []


def test_a_partitioned_table_and_one_with_a_condition_are_read_whole(database, small):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (1000) TO (9000)",
        "INSERT INTO t SELECT i, 0 FROM generate_series(0, 1999) i",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "INSERT INTO u SELECT i FROM generate_series(0, 1999) i",
    )
    flow = Flow(database, ("t", {"table": "u", "where": "id % 10 = 3"}), snapshot_parallelism=2)
    with flow.open() as reading:
        events = reading.take(2200)
    assert [event.data["id"] for event in events] == [*range(2000), *range(3, 2000, 10)]
    assert len(small) == 3  # one connection reads both tables, and another was opened for each


@pytest.mark.parametrize(
    "columns", ["k text PRIMARY KEY", "k int", "k int, j int DEFAULT 1, PRIMARY KEY (j, k)"]
)
def test_a_table_that_no_index_has_in_key_order_is_read_over_one_connection(
    database, small, columns
):
    execute(
        database,
        f"CREATE TABLE t ({columns})",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t (k) SELECT i FROM generate_series(1, 1000) i",
    )
    flow = Flow(database, snapshot_parallelism=3)
    with flow.open() as reading:
        events = reading.take(1000)
    assert sorted(int(event.data["k"]) for event in events) == list(range(1, 1001))
    assert len(small) == 1


@on_both_versions
def test_a_snapshot_interrupted_again_and_again_goes_on_where_it_was_while_rows_change(
    database, small
):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 1999) i")
    flow = Flow(database, snapshot_parallelism=3)
    replica = Replica()
    writer = Writer(database, 2000)
    assert writer.started.wait(30)
    try:
        for turn in range(5):
            with flow.open() as reading:
                for _ in range(4):
                    batch = reading.batch(90)
                    replica.apply((batch.event(index) for index in range(batch.size)), crashed=True)
                batch = reading.batch(50 + turn, settle=False)
                replica.apply((batch.event(index) for index in range(batch.size)), crashed=True)
                # It is gone by the time the snapshot goes on: somebody has to take it back.
                gone = [event["id"] for event in batch.column("data")[:9]]
                execute(database, f"DELETE FROM t WHERE id IN ({str(gone)[1:-1]})")
            assert copying() == []
    finally:
        writer.stop()
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest(), crashed=True)
    assert replica.rows == table(database)
    assert len(small) > 10


CHILD = """
import json, sys
from connectors.postgres_cdc import parallel, snapshot
from tests.connectors.postgres_cdc.cdc import Flow
snapshot.CHUNK_ROWS = 200
parallel.FIRST_ROWS, parallel.SEGMENT = 100, 4000
flow = Flow(sys.argv[1], snapshot_parallelism=3)
flow.positions = json.loads(sys.argv[2])
with flow.open() as reading:
    while True:
        batch = reading.reader.poll(100, 0.1)
        if batch is None:
            continue
        changes = batch.column("change")
        print(json.dumps({
            "events": [
                [identity, change.operation, change.before, change.after]
                for identity, change in zip(batch.column("id"), changes)
            ],
            "after": batch.after,
        }), flush=True)
        reading.settle(batch.after)
"""


@pytest.mark.chaos
def test_kills_while_several_connections_read_lose_and_repeat_nothing(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 2999) i")
    chance = random.Random(5)
    replica = Replica()
    positions = {}
    reads = 0
    writer = Writer(database, 3000)
    assert writer.started.wait(30)
    try:
        for point in ("mid_snapshot:3", "", "mid_snapshot:2", "", "after_snapshot", ""):
            child = Child(database, positions, point, CHILD)
            limit = 10_000 if point else chance.randrange(3, 9)
            for line in child.lines(limit):
                positions |= line["after"]
                reads += sum(operation == "READ" for _, operation, _, _ in line["events"])
                replica.apply(
                    (
                        Event(identity, "", "", None, change=Change(operation, before, after))
                        for identity, operation, before, after in line["events"]
                    ),
                    crashed=True,
                )
            assert child.end() == -9
    finally:
        writer.stop()
    assert reads < 4000  # it was not started over
    flow = Flow(database, snapshot_parallelism=3)
    flow.positions = positions
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest(), crashed=True)
    assert replica.rows == table(database)


def test_a_connection_that_is_lost_while_others_read_costs_no_row_and_repeats_none(database, small):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 9000) i")
    flow = Flow(database, snapshot_parallelism=3)
    with flow.open() as reading:
        events = reading.take(100, limit=100)
        # It has read its share, as far as it may hold it, and waits for its turn.
        (pid, *_) = sorted(small)
        execute(database, f"SELECT pg_terminate_backend({pid})")
        events += reading.take(8900)
    assert [event.data["id"] for event in events] == list(range(1, 9001))
    assert len(small) > 3


def test_one_who_waits_to_lock_the_table_is_not_waited_for(database, small, monkeypatch, caplog):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i")
    joining = parallel._joined
    waiting = []

    def once_somebody_waits(connection, *rest):
        if not waiting:
            waiting.append(
                threading.Thread(target=execute, args=[database, "ALTER TABLE t ADD COLUMN x int"])
            )
            waiting[0].start()
            locks = "SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass"
            while not fetch(database, locks):
                pass
        return joining(connection, *rest)

    monkeypatch.setattr(parallel, "_joined", once_somebody_waits)
    flow = Flow(database, snapshot="only", snapshot_parallelism=3)
    with flow.open() as reading:
        assert [event.data["id"] for event in reading.rest()] == list(range(1, 1001))
    waiting[0].join(PATIENCE)
    assert not waiting[0].is_alive()
    assert "over 1 of 3 connections" in caplog.text
    assert len(small) == 1


def test_a_table_larger_than_the_memory_allowed_is_read_over_several_connections(database):
    rows = 110_000
    execute(database, FAT, FILL.format(1, rows))
    count, total, size, grown = read_in_a_child(database, "initial", rows, snapshot_parallelism=4)
    assert (count, total) == (rows, rows * (rows + 1) // 2)
    assert size > MEMORY
    assert grown < MEMORY


def test_keys_at_the_edges_of_segments_are_read_once(database, small):
    """Nothing is between two segments, also where a table's end is a segment's."""
    execute(database, "CREATE TABLE t (id uuid PRIMARY KEY)")
    keys = [uuid.UUID(int=number) for number in range(300)]
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s)", [(key,) for key in keys])
    for count in (101, 150, 200, 300):
        flow = Flow(database, slot_name=f"edges_{count}", snapshot="only", snapshot_parallelism=2)
        execute(database, f"DELETE FROM t WHERE id >= '{uuid.UUID(int=count)}'")
        with flow.open() as reading:
            found = [event.data["id"] for event in reading.rest()]
        assert found == [str(key) for key in keys[:count]]
        with psycopg.connect(database) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO t VALUES (%s) ON CONFLICT DO NOTHING", [(key,) for key in keys]
            )
