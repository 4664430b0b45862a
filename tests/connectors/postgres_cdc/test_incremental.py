"""Snapshots while streaming: asked for, and of tables that are new. Each row as it is by then."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from connectors.batch import Change, Event
from connectors.contracts import EndOfSource, SnapshotRequest
from connectors.postgres_cdc import chunks
from connectors.postgres_cdc.incremental import Copy, CopyChunk, Desk, Seen, Windows
from penstock.embedded.postgres import PostgresServer
from tests.connectors.postgres_cdc.cdc import (
    PATIENCE,
    Flow,
    execute,
    fetch,
    on_both_versions,
    simple,
)
from tests.connectors.postgres_cdc.test_kills import CHILD, Child
from tests.connectors.postgres_cdc.test_snapshot import ROWS, Replica, Writer, table
from tests.services.fixtures import open_folder

pytestmark = pytest.mark.postgres


class Mirror(Replica):
    """A replica that is whole: a row that is read again is exactly the one it has."""

    def __init__(self):
        super().__init__()
        self.read = []

    def apply(self, events, *, crashed=False):
        for event in events:
            if event.change.operation == "READ" and self.rows:
                assert self.rows[event.data["id"]] == event.data, event
                assert crashed or event.id not in self.ids
                self.ids.add(event.id)
                self.read.append(event.data["id"])
            else:
                super().apply([event], crashed=crashed)


def follow(reading, until, apply):
    """Read and apply until `until()`; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, reading.reader.status()
        batch = reading.reader.poll(300, 0.05)
        if batch is not None:
            assert not batch.errors
            apply([batch.event(index) for index in range(batch.size)])
            reading.settle(batch.after)


def reported(reading, number):
    return next((one for one in reading.reader.snapshot_reports() if one.id == number), None)


def is_done(reading, number):
    report = reported(reading, number)
    assert report is None or report.error is None, report
    return report is not None and report.done


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "ROWS", 100)
    monkeypatch.setattr(chunks, "FIRST_ROWS", 100)


@on_both_versions
def test_rows_read_again_while_they_change_are_what_the_stream_has_made_of_them(
    database, small_chunks
):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 2999) i")
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        first = reading.take(3000)
        Replica.apply(mirror, first)
        writer = Writer(database, 3000)
        assert writer.started.wait(30)
        try:
            reading.reader.want_snapshots([SnapshotRequest(4, ())])
            follow(reading, lambda: is_done(reading, 4), mirror.apply)
            assert len(mirror.read) > 2000
            assert mirror.read == sorted(mirror.read)
            reading.reader.want_snapshots([])
        finally:
            writer.stop()
        follow(reading, lambda: mirror.rows == table(database), mirror.apply)
    with flow.open(until_caught_up=True) as reading:
        mirror.apply(reading.rest())
    assert mirror.rows == table(database)
    assert len(mirror.read) == len(set(mirror.read))


def test_a_snapshot_goes_on_after_a_restart_and_not_from_its_start(database, small_chunks):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 999) i")
    flow = Flow(database)
    mirror = Mirror()
    request = [SnapshotRequest(1, ("public.t",))]
    writer = None
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(1000))
    writer = Writer(database, 1000)
    assert writer.started.wait(30)
    try:
        for target in (250, 470, 800):
            with flow.open() as reading:
                reading.reader.want_snapshots(request)
                follow(reading, lambda to=target: (mirror.read or [0])[-1] >= to, mirror.apply)
                # What is handed over and not settled comes again.
                reading.reader.poll(30, 0.5)
        with flow.open() as reading:
            reading.reader.want_snapshots(request)
            follow(reading, lambda: is_done(reading, 1), mirror.apply)
            assert reported(reading, 1).rows >= 700
    finally:
        writer.stop()
    assert len(mirror.read) == len(set(mirror.read))
    assert mirror.read == sorted(mirror.read)
    # It is through for good: named again, it is not read again.
    with flow.open() as reading:
        reading.reader.want_snapshots(request)
        execute(database, "INSERT INTO t VALUES (5000, 1)")
        follow(reading, lambda: 5000 in mirror.rows, mirror.apply)
        assert mirror.read == sorted(mirror.read)
    assert '"copied":1' in flow.positions[flow.slot]
    assert '"copy"' not in flow.positions[flow.slot]


def test_a_paused_snapshot_waits_and_a_cancelled_one_is_over(database, small_chunks):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 999) i")
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(1000))
        reading.reader.want_snapshots([SnapshotRequest(1, ())])
        follow(reading, lambda: len(mirror.read) > 200, mirror.apply)
        reading.reader.want_snapshots([SnapshotRequest(1, (), paused=True)])
        execute(database, "INSERT INTO t VALUES (2000, 0)")
        follow(reading, lambda: 2000 in mirror.rows, mirror.apply)
        so_far = len(mirror.read)
        assert so_far < 1000
        reading.reader.want_snapshots([SnapshotRequest(1, ())])
        follow(reading, lambda: len(mirror.read) > so_far, mirror.apply)
    # Cancelled while the flow was down, with another one behind it.
    so_far = len(mirror.read)
    with flow.open() as reading:
        reading.reader.want_snapshots([SnapshotRequest(2, ())])
        follow(reading, lambda: is_done(reading, 2), mirror.apply)
    assert mirror.read[so_far:] == sorted(mirror.rows)


def test_a_table_added_to_the_flow_is_read_and_the_others_are_left_alone(database):
    execute(
        database,
        ROWS,
        "CREATE TABLE u (id int PRIMARY KEY, n int)",
        "INSERT INTO t VALUES (1, 1)",
        "INSERT INTO u VALUES (7, 7), (8, 8)",
    )
    with Flow(database).open() as reading:
        assert simple(reading.take(1)) == [("READ", {"id": 1, "n": 1})]
        execute(database, "UPDATE t SET n = 1")
        reading.take(1)
        positions = reading.flow.positions
    publication = Flow(database).slot
    execute(
        database,
        f"ALTER PUBLICATION {publication} ADD TABLE u",
        "UPDATE t SET n = 2",
        "UPDATE u SET n = 9 WHERE id = 8",
    )
    both = Flow(database, ("t", "u"))
    both.positions = positions
    with both.open(until_caught_up=True) as reading:
        assert simple(reading.rest()) == [
            ("UPDATE", {"id": 1, "n": 2}),
            ("UPDATE", {"id": 8, "n": 9}),
            ("READ", {"id": 7, "n": 7}),
            ("READ", {"id": 8, "n": 9}),
        ]
    with both.open(until_caught_up=True) as reading:
        assert reading.rest() == []
    never = Flow(database, ("t",))
    never.positions = both.positions
    with never.open(until_caught_up=True) as reading:
        assert reading.rest() == []


def test_what_can_not_be_read_is_refused_with_the_reason_and_costs_the_stream_nothing(database):
    execute(
        database,
        ROWS,
        "CREATE TABLE u (v numeric PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 1)",
    )
    flow = Flow(database, ("t", "u"))
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(1))
        refused = [SnapshotRequest(1, ("public.u",)), SnapshotRequest(3, ("public.t",))]
        reading.reader.want_snapshots(refused)
        follow(
            reading,
            lambda: (one := reported(reading, 1)) is not None and one.error is not None,
            mirror.apply,
        )
        assert reported(reading, 1).error.code == "snapshot_needs_key"
        reading.reader.want_snapshots([SnapshotRequest(2, ("public.x",)), refused[1]])
        follow(
            reading,
            lambda: (one := reported(reading, 2)) is not None and one.error is not None,
            mirror.apply,
        )
        assert reported(reading, 2).error.code == "snapshot_unknown_table"
        reading.reader.want_snapshots(refused[1:])
        follow(reading, lambda: is_done(reading, 3), mirror.apply)
    assert mirror.read == [1]


def test_rows_that_are_larger_than_a_chunk_is_meant_to_be_are_read_a_few_at_a_time(
    database, monkeypatch
):
    monkeypatch.setattr(chunks, "SIZE", 100_000)
    monkeypatch.setattr(chunks, "MOST", 400_000)
    fat = "INSERT INTO t SELECT i, i, repeat('x', 100000) FROM generate_series(1, 40) i"
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, n int, v text)", fat)
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(40))
        reading.reader.want_snapshots([SnapshotRequest(1, ())])
        follow(reading, lambda: is_done(reading, 1), mirror.apply)
    assert mirror.read == list(range(1, 41))


def test_a_truncate_while_rows_are_read_leaves_nothing_of_before(database, small_chunks):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 999) i")
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(1000))
        reading.reader.want_snapshots([SnapshotRequest(1, ())])
        follow(reading, lambda: len(mirror.read) > 150, mirror.apply)
        execute(database, "TRUNCATE t", "INSERT INTO t SELECT i, 1 FROM generate_series(0, 900) i")
        follow(reading, lambda: is_done(reading, 1), mirror.apply)
        follow(reading, lambda: len(mirror.rows) == 901, mirror.apply)
    assert mirror.rows == table(database)


def test_a_terminated_walsender_while_rows_are_read_loses_and_repeats_nothing(
    database, small_chunks
):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 999) i")
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(1000))
        reading.reader.want_snapshots([SnapshotRequest(1, ())])
        for so_far in (150, 450):
            follow(reading, lambda to=so_far: len(mirror.read) > to, mirror.apply)
            execute(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        follow(reading, lambda: is_done(reading, 1), mirror.apply)
    assert mirror.read == list(range(1000))


def test_a_commit_in_the_wal_that_others_do_not_see_yet_is_not_undone_by_a_row_read_then():
    """A synchronous standby that is away: the stream has the change, a snapshot has it not."""
    with open_folder() as folder, PostgresServer.start(folder, 18) as server:
        database = server.create_database("shop")
        execute(database, ROWS, "INSERT INTO t VALUES (1, 0), (2, 0)")
        execute(database, "ALTER DATABASE shop SET synchronous_commit = local")
        flow = Flow(database, slot_name="shop")
        mirror = Mirror()
        with flow.open() as reading:
            Replica.apply(mirror, reading.take(2))
            execute(
                server.dsn(),
                "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
                "SELECT pg_reload_conf()",
            )

            def write():
                with psycopg.connect(database, autocommit=True) as connection:
                    connection.execute("SET synchronous_commit = on")
                    connection.execute("UPDATE t SET n = 1 WHERE id = 1")

            writing = threading.Thread(target=write)
            # Noted by the stream: a first snapshot is under way when the change is made.
            execute(database, "INSERT INTO t SELECT i, 0 FROM generate_series(3, 3000) i")
            Replica.apply(mirror, reading.take(2998))
            reading.reader.want_snapshots([SnapshotRequest(1, ())])
            follow(reading, lambda: len(mirror.read) > 0, mirror.apply)
            reading.reader.want_snapshots([])
            writing.start()
            follow(reading, lambda: mirror.rows[1]["n"] == 1, mirror.apply)
            assert fetch(database, "SELECT n FROM t WHERE id = 1") == [(0,)]
            reading.reader.want_snapshots([SnapshotRequest(2, ())])
            seen = len(mirror.read)
            deadline = time.monotonic() + PATIENCE
            while "transactions that ran" not in reading.reader.status():
                assert time.monotonic() < deadline, reading.reader.status()
                reading.idle()
            assert len(mirror.read) == seen
            execute(
                server.dsn(),
                "ALTER SYSTEM RESET synchronous_standby_names",
                "SELECT pg_reload_conf()",
            )
            writing.join(30)
            follow(reading, lambda: is_done(reading, 2), mirror.apply)
        assert mirror.rows == table(database)


def test_a_bounded_read_reads_a_new_table_to_its_end(database, small_chunks):
    execute(database, ROWS, "CREATE TABLE u (id int PRIMARY KEY, n int)")
    with Flow(database).open(until_caught_up=True) as reading:
        assert reading.rest() == []
        positions = reading.flow.positions
    execute(
        database,
        f"ALTER PUBLICATION {Flow(database).slot} ADD TABLE u",
        "INSERT INTO u SELECT i, 0 FROM generate_series(1, 950) i",
    )
    both = Flow(database, ("t", "u"))
    both.positions = positions
    with both.open(until_caught_up=True) as reading:
        events = reading.rest()
        with pytest.raises(EndOfSource):
            reading.reader.poll(1, 0)
    read = [event.data["id"] for event in events if event.change.operation == "READ"]
    assert set(read) | {
        event.data["id"] for event in events if event.change.operation == "INSERT"
    } == set(range(1, 951))


SCRIPT = (
    CHILD.replace("snapshot.CHUNK_ROWS = 200", "chunks.ROWS = chunks.FIRST_ROWS = 200")
    .replace("import snapshot", "import chunks\nfrom connectors.contracts import SnapshotRequest")
    .replace(
        "    while True:",
        "    reading.reader.want_snapshots([SnapshotRequest(1, ())])\n    while True:",
    )
)


@pytest.mark.chaos
def test_kills_while_rows_are_read_lose_nothing_and_do_not_start_over(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 2999) i")
    flow = Flow(database)
    mirror = Mirror()
    with flow.open() as reading:
        Replica.apply(mirror, reading.take(3000))
        execute(database, "UPDATE t SET n = 1 WHERE id = 0")
        Replica.apply(mirror, reading.take(1))
    positions = flow.positions
    writer = Writer(database, 3000)
    assert writer.started.wait(30)
    try:
        for point in ("mid_snapshot:3", "mid_snapshot:6", ""):
            child = Child(database, positions, point, SCRIPT)
            for line in child.lines(10_000 if point else 12):
                positions |= line["after"]
                mirror.apply(
                    Event(identity, "", "", after, change=Change(operation, before, after))
                    for identity, operation, before, after in line["events"]
                )
            assert child.end() == -9
        assert len(mirror.read) > 500
        with flow.open() as reading:
            reading.reader.want_snapshots([SnapshotRequest(1, ())])
            follow(reading, lambda: is_done(reading, 1), mirror.apply)
    finally:
        writer.stop()
    with flow.open(until_caught_up=True) as reading:
        mirror.apply(reading.rest())
    assert mirror.rows == table(database)
    assert mirror.read == sorted(set(mirror.read))


class TestWindows:
    """What the stream notes, without a server: a chunk's rows hold, or it is read again."""

    def open(self, before=()):
        desk = Desk("x", Copy(1, ("public.t",)))
        windows = Windows(desk)
        desk.listen(Copy(1, ("public.t",)))
        epoch, _ = desk.begin(0)
        for xid in before:
            windows.committed(xid)
        name = desk.announce(epoch, "public.t")
        windows.low(name)
        return desk, windows, name, epoch

    def chunk(self, seen):
        return CopyChunk(None, [b"1", b"2"], Seen.parse(seen), ("2",), ends=False)

    def test_a_transaction_met_before_the_window_that_the_chunk_has_not_seen_has_it_read_again(
        self,
    ):
        desk, windows, name, epoch = self.open(before=[100, 105])
        assert desk.offer(epoch, self.chunk("105:110:105"))
        assert windows.high(name, Copy(1, ("public.t",), ("0",))) is None
        again, copy = desk.begin(0)
        assert (again > epoch, copy.after) == (True, ("0",))

    def test_transactions_that_the_chunk_has_seen_leave_its_rows(self):
        desk, windows, name, epoch = self.open(before=[100, 105])
        assert desk.offer(epoch, self.chunk("106:110:107"))
        assert windows.high(name, Copy(1, ("public.t",)))[1] == [b"1", b"2"]
        assert desk.taken(epoch, 0) is True

    def test_numbers_of_transactions_are_compared_across_their_wrapping_around(self):
        epoch = 3 << 32
        seen = Seen.parse(f"{epoch - 5}:{epoch + 7}:{epoch - 5},{epoch + 3}")
        assert seen.has((epoch - 6) & 0xFFFFFFFF)
        assert not seen.has((epoch - 5) & 0xFFFFFFFF)
        assert seen.has(2)
        assert not seen.has(3)
        assert not seen.has(7)

    def test_watermarks_of_others_and_of_earlier_chunks_open_and_close_nothing(self):
        desk, windows, name, epoch = self.open()
        windows.reset(Copy(1, ("public.t",)))
        assert desk.announce(epoch, "public.t") is None
        assert not desk.offer(epoch, self.chunk("1:1:"))
        windows.low(name)
        assert windows.table == ""
        assert windows.high(name, Copy(1, ("public.t",))) is None
        windows.low("y:1")
        assert windows.table == ""
