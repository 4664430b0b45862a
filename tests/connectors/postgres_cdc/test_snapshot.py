"""The rows there are, and then their changes: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import psycopg
import pytest

from connectors.contracts import EndOfSource
from connectors.postgres_cdc import snapshot
from connectors.testing import wait_until
from tests.connectors.postgres_cdc.cdc import Flow, execute, fetch, on_both_versions, simple

pytestmark = pytest.mark.postgres

ROWS = "CREATE TABLE t (id int PRIMARY KEY, n int)"


class Replica:
    """A table as a consumer of the events has it, which sees that no row's history is broken."""

    def __init__(self):
        self.rows = {}
        self.ids = set()

    def apply(self, events, *, crashed=False):
        """Apply events; after a crash in mid-snapshot rows may be read again, or gone unread."""
        for event in events:
            before, after = event.change.before, event.change.after
            operation = event.change.operation
            assert event.id not in self.ids or (crashed and operation == "READ"), event
            self.ids.add(event.id)
            match operation:
                case "READ":
                    was = self.rows.get(after["id"])
                    assert was is None or (crashed and was["n"] <= after["n"]), event
                    self.rows[after["id"]] = after
                case "INSERT":
                    assert after["id"] not in self.rows, event
                    self.rows[after["id"]] = after
                case "UPDATE":
                    old = after["id"] if before is None else before["id"]
                    assert crashed or old in self.rows, event
                    was = self.rows.pop(old, {"n": -1})
                    assert was["n"] < after["n"], event
                    self.rows[after["id"]] = after
                case "DELETE":
                    assert crashed or before["id"] in self.rows, event
                    self.rows.pop(before["id"], None)
                case "TRUNCATE":
                    self.rows.clear()


def table(database):
    return {row[0]: {"id": row[0], "n": row[1]} for row in fetch(database, "SELECT id, n FROM t")}


class Writer:
    """Walks rows through insert, updates, moves, delete and re-insert, until it is stopped."""

    def __init__(self, database, rows):
        self._database = database
        self._rows = rows
        self._stop = threading.Event()
        self.started = threading.Event()
        self.changed = 0
        """Rows, counted once they are committed."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        chance = random.Random(7)
        n = 10_000
        with psycopg.connect(self._database, autocommit=True) as connection:
            while not self._stop.wait(0.001):
                n += 1
                row = chance.randrange(self._rows)
                with connection.transaction():
                    match chance.randrange(6):
                        case 0:
                            done = connection.execute("DELETE FROM t WHERE id = %s", [row])
                        case 1:
                            to = chance.randrange(self._rows)
                            done = connection.execute(
                                "UPDATE t SET id = %s, n = %s WHERE id = %s "
                                "AND NOT EXISTS (SELECT FROM t WHERE id = %s)",
                                [to, n, row, to],
                            )
                        case 2:
                            done = connection.execute(
                                "INSERT INTO t VALUES (%s, %s) ON CONFLICT DO NOTHING", [row, n]
                            )
                        case _:
                            done = connection.execute("UPDATE t SET n = %s WHERE id = %s", [n, row])
                self.changed += done.rowcount
                self.started.set()

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@on_both_versions
def test_rows_written_during_the_snapshot_are_seen_once_and_in_order(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 4999) i")
    flow = Flow(database)
    replica = Replica()
    writer = Writer(database, 5000)
    assert writer.started.wait(30)
    try:
        with flow.open() as reading:
            read = 0
            while read < 5500:
                batch = reading.batch(500)
                read += batch.size
                replica.apply(batch.event(index) for index in range(batch.size))
    finally:
        writer.stop()
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest())
    assert replica.rows == table(database)


@on_both_versions
@pytest.mark.parametrize("applied", [False, True])
def test_an_interrupted_snapshot_goes_on_where_it_was_while_rows_change(
    database, monkeypatch, applied
):
    """What was handed over and not settled at the crash may have had its effect, or none."""
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 100)
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 1999) i")
    flow = Flow(database)
    replica = Replica()
    writer = Writer(database, 2000)
    assert writer.started.wait(30)
    try:
        for turn in range(5):
            with flow.open() as reading:
                for _ in range(4):
                    batch = reading.batch(90)
                    replica.apply((batch.event(index) for index in range(batch.size)), crashed=True)
                # What is read and not settled comes again.
                batch = reading.batch(50 + turn, settle=False)
                if applied:
                    replica.apply((batch.event(index) for index in range(batch.size)), crashed=True)
                    # It is gone by the time the snapshot goes on: somebody has to take it back.
                    gone = [event["id"] for event in batch.column("data")[:9]]
                    execute(database, f"DELETE FROM t WHERE id IN ({str(gone)[1:-1]})")
    finally:
        writer.stop()
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest(), crashed=True)
    assert replica.rows == table(database)
    # The state of the snapshot is dropped once the stream is past it.
    with flow.open() as reading:
        execute(database, "INSERT INTO t VALUES (-1, 1)")
        reading.take(1)
    assert "read" not in flow.positions[flow.slot]


def test_a_truncate_between_two_parts_of_a_snapshot_leaves_what_the_table_has(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 99) i")
    flow = Flow(database)
    rows = {}

    def apply(events):
        for event in events:
            if event.change.operation == "TRUNCATE":
                rows.clear()
            else:
                rows[event.data["id"]] = event.data

    with flow.open() as reading:
        apply(reading.take(50, limit=50))
    execute(database, "TRUNCATE t", "INSERT INTO t SELECT i, 1 FROM generate_series(40, 90) i")
    with flow.open(until_caught_up=True) as reading:
        apply(reading.rest())
    assert rows == table(database)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("bigint", [-(2**63), -1, 0, 9, 10, 2**63 - 1]),
        ("text", ["", "A", "B", "Z", "a", "b", "ä", "é", "漢", "😀", "a b", "a\tb", "it's \\x"]),
        ("varchar(10)", ["10", "9", "a"]),
        ("char(4)", ["a", "ab", "b"]),
        ("uuid", [str(uuid.UUID(int=n * 7919**9)) for n in range(8)]),
    ],
)
@pytest.mark.parametrize("composite", [False, True])
def test_a_snapshot_resumes_after_any_key_of_any_type(database, key, values, composite):
    columns = "a, b" if composite else "b"
    execute(database, f"CREATE TABLE t (a int DEFAULT 1, b {key}, PRIMARY KEY ({columns}))")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO t VALUES (%s, %s)",
            [[part, value] for part in ([1, 2] if composite else [1]) for value in values],
        )
    flow = Flow(database)
    expected = len(values) * (2 if composite else 1)
    seen = []
    while len(seen) < expected:
        with flow.open() as reading:
            batch = reading.batch(1)
            seen += [batch.event(0).data]
            reading.batch(3, settle=False) if len(seen) < expected else None
    assert len({(row["a"], row["b"]) for row in seen}) == expected
    with flow.open(until_caught_up=True) as reading:
        assert reading.rest() == []


def test_a_table_without_a_key_is_read_again_whole_and_its_rows_keep_their_ids(database):
    execute(
        database,
        "CREATE TABLE t (v text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT 'same' FROM generate_series(1, 10)",
    )
    flow = Flow(database)
    with flow.open() as reading:
        first = reading.take(10, limit=10, settle=False)
        assert len({event.id for event in first}) == 10
    with flow.open() as reading:
        again = reading.take(10)
        execute(database, "INSERT INTO t VALUES ('new')")
        assert simple(reading.take(1)) == [("INSERT", {"v": "new"})]
    assert [event.id for event in again] == [event.id for event in first]
    assert {event.key for event in again} == {"public.t"}


def test_a_crash_before_the_first_checkpoint_reads_all_rows_and_their_later_changes_once(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = Flow(database)
    with flow.open() as reading:
        reading.take(2, settle=False)
    execute(database, "UPDATE t SET n = 3 WHERE id = 1", "INSERT INTO t VALUES (4, 4)")
    with flow.open() as reading:
        assert simple(reading.take(3)) == [
            ("READ", {"id": 1, "n": 3}),
            ("READ", {"id": 2, "n": 2}),
            ("READ", {"id": 4, "n": 4}),
        ]
        execute(database, "DELETE FROM t WHERE id = 1")
        assert simple(reading.take(1)) == [("DELETE", {"id": 1})]


def identity(event):
    """Return the attributes of a read row but its place in the snapshot, which is a later one."""
    return {name: each for name, each in event.attributes().items() if name != "sequence"}


def test_a_row_read_again_has_its_old_id_unless_it_has_changed(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = Flow(database)
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
        before = reading.take(2, settle=False)
    execute(database, "UPDATE t SET n = 9 WHERE id = 2")
    with flow.open() as reading:
        after = reading.take(2)
    assert identity(before[0]) == identity(after[0])
    # An event with other content is another event: who drops known ids must not drop it.
    assert before[1].id != after[1].id
    assert (before[1].data["n"], after[1].data["n"]) == (2, 9)


def test_events_of_the_snapshot_keep_their_time_when_it_is_resumed(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = Flow(database)
    with flow.open() as reading:
        first = reading.batch(1).event(0)
    with flow.open() as reading:
        second = reading.batch(1).event(0)
    assert first.id.startswith(f"{flow.slot}:snapshot:public.t:1:")
    assert second.id.startswith(f"{flow.slot}:snapshot:public.t:2:")
    assert first.time == second.time
    assert first.extensions["sequence"] < second.extensions["sequence"]


def test_snapshot_only_ends_after_the_rows_and_leaves_nothing_on_the_server(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = Flow(database, snapshot="only")
    with flow.open() as reading:
        assert [event.data["id"] for event in reading.rest()] == [1, 2]
    assert fetch(database, "SELECT FROM pg_replication_slots WHERE slot_name = %s", flow.slot) == []
    assert fetch(database, "SELECT FROM pg_publication") == []
    with flow.open() as reading, pytest.raises(EndOfSource):
        reading.reader.poll(1, 1)


def test_several_tables_and_empty_ones_are_read_one_after_the_other(database):
    execute(
        database,
        ROWS,
        "CREATE TABLE u (id int PRIMARY KEY)",
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "INSERT INTO t SELECT i, 0 FROM generate_series(1, 3) i",
        "INSERT INTO u VALUES (1)",
    )
    flow = Flow(database, ("t", "empty", "u"))
    subjects = []
    for _ in range(4):
        with flow.open() as reading:
            subjects.append(reading.batch(1).event(0).subject)
    assert subjects == ["public.t/1", "public.t/2", "public.t/3", "public.u/1"]
    with flow.open() as reading:
        execute(database, "INSERT INTO empty VALUES (5)")
        assert reading.take(1)[0].subject == "public.empty/5"


def test_a_bounded_read_ends_while_others_go_on_writing(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 9) i")
    flow = Flow(database)
    writer = Writer(database, 10)
    assert writer.started.wait(30)
    try:
        with flow.open(until_caught_up=True) as reading:
            assert reading.rest()
        before = writer.changed
        # Of two, the second was begun after the first read had ended.
        wait_until(lambda: writer.changed > before + 1, "the others go on writing")
        with flow.open(until_caught_up=True) as reading:
            assert reading.rest()
    finally:
        writer.stop()


def test_rows_hidden_by_a_policy_refuse_the_snapshot_instead_of_missing_in_it(database):
    execute(
        database,
        ROWS,
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY odd ON t USING (id % 2 = 1)",
        "DROP ROLE IF EXISTS restricted",
        "CREATE ROLE restricted LOGIN REPLICATION",
        "GRANT SELECT ON t TO restricted",
    )
    flow = Flow(database.replace("postgres@", "restricted@"), snapshot="only")
    try:
        with flow.open() as reading:
            error = reading.failure()
        assert error.code == "postgres_permission"
        assert "row-level security" in error.message
    finally:
        execute(database, "DROP OWNED BY restricted", "DROP ROLE restricted")


CHILD = """
import sys
from tests.connectors.postgres_cdc.cdc import Flow
flow = Flow(sys.argv[1])
with flow.open() as reading:
    while True:
        batch = reading.batch(100, settle=False)
        for key in batch.column("key"):
            print(key, flush=True)
"""


@pytest.mark.parametrize(("point", "expected"), [("mid_snapshot", 100), ("after_snapshot", 300)])
def test_the_fail_points_of_the_snapshot_are_where_their_names_say(database, point, expected):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 300) i")
    environment = os.environ | {"PENSTOCK_FAIL_POINT": point, "PYTHONPATH": str(Path.cwd())}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, database],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == -9, child.stderr.decode()
    assert len(child.stdout.splitlines()) == expected
