"""Tables and transactions larger than what a process may hold: read in bounded memory, and resumed.

A child reads, as in test_kills: what it prints as one line is an effect and its settling in one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from connectors.batch import Change, Event
from tests.connectors.postgres_cdc.cdc import PATIENCE, Flow, execute, fetch
from tests.connectors.postgres_cdc.test_kills import Child
from tests.connectors.postgres_cdc.test_snapshot import ROWS, Replica, Writer, table

pytestmark = pytest.mark.postgres

MEMORY = 48 << 20
"""Bytes by which reading may grow a process; what it reads is more than this."""

TABLE = 1_000_000 if "PENSTOCK_CHAOS_KILLS" in os.environ else 100_000
"""Rows of the table that is killed in its snapshot."""

READING = """
import json, sys
from tests.connectors.postgres_cdc.cdc import Flow
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if "VmHWM" in line)
flow = Flow(sys.argv[1], snapshot=sys.argv[2], **json.loads(sys.argv[4]))
before, count, total, size = peak(), 0, 0, 0
with flow.open() as reading:
    while count < int(sys.argv[3]):
        batch = reading.batch(1000)
        raws = batch.column("raw")
        count, size = count + batch.size, size + sum(map(len, raws))
        total += sum(row.get("n", 0) for row in batch.column("data"))
        batch.column("id"), batch.column("position")
print(count, total, size, peak() - before)
"""


def read_in_a_child(database, snapshot, rows, **more):
    done = subprocess.run(
        [sys.executable, "-c", READING, database, snapshot, str(rows), json.dumps(more)],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return map(int, done.stdout.split())


FAT = "CREATE TABLE t (id int PRIMARY KEY, n int, filling text)"
FILL = "INSERT INTO t SELECT i, i, repeat('x', 500) FROM generate_series({}, {}) i"


def test_a_transaction_larger_than_the_memory_allowed_is_read_whole(database):
    """The server spills it; what is rolled back in it, to a savepoint or as a whole, is not seen."""
    rows = 300_000
    execute(database, FAT)
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
    with psycopg.connect(database) as connection:
        connection.execute(FILL.format(1, rows // 2))
        connection.execute("SAVEPOINT half")
        connection.execute(FILL.format(10 * rows, 10 * rows + 50_000))
        connection.execute("ROLLBACK TO SAVEPOINT half")
        connection.execute(FILL.format(rows // 2 + 1, rows))
        with psycopg.connect(database) as other:
            other.execute(FILL.format(20 * rows, 20 * rows + 5000))
            other.rollback()
    # The least there is: nearly all of it goes through the server's disk.
    spilling = make_conninfo(database, options="-c logical_decoding_work_mem=64kB")
    count, total, size, grown = read_in_a_child(spilling, "never", rows, slot_name=flow.slot)
    assert (count, total) == (rows, rows * (rows + 1) // 2)
    assert size > 3 * MEMORY
    assert grown < MEMORY
    spilled = "SELECT spill_bytes FROM pg_stat_replication_slots WHERE slot_name = %s"
    deadline = time.monotonic() + PATIENCE
    while fetch(database, spilled, flow.slot)[0][0] < size:
        assert time.monotonic() < deadline, fetch(database, spilled, flow.slot)


def test_a_begin_and_an_end_that_counts_take_no_memory_by_the_size_of_the_transaction(database):
    rows = 110_000
    execute(database, FAT)
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
    execute(database, FILL.format(1, rows))
    more = {"slot_name": flow.slot, "transaction_metadata": True}
    count, total, size, grown = read_in_a_child(database, "never", rows + 2, **more)
    assert (count, total) == (rows + 2, rows * (rows + 1) // 2)
    assert size > MEMORY
    assert grown < MEMORY


def test_a_table_larger_than_the_memory_allowed_is_read_whole(database):
    rows = 110_000
    execute(database, FAT, FILL.format(1, rows))
    count, total, size, grown = read_in_a_child(database, "initial", rows)
    assert (count, total) == (rows, rows * (rows + 1) // 2)
    assert size > MEMORY
    assert grown < MEMORY


def test_a_large_transaction_goes_on_within_itself_after_a_kill(database):
    execute(database, ROWS)
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
    execute(database, "INSERT INTO t SELECT i, i FROM generate_series(1, 20000) i")
    positions = flow.positions
    seen = []
    for limit in (3, 40, 10_000):
        child = Child(database, positions, "")
        for line in child.lines(limit):
            positions |= line["after"]
            seen += [after["id"] for _, _, _, after in line["events"]]
            if len(seen) >= 20000:
                break
        assert child.end() == -9
    assert seen == list(range(1, 20001))


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_large_table_is_copied_through_kills_consistently_and_not_from_the_start(database):
    """Each row's events are a history the row had; what is read again is what was in flight."""
    rows = TABLE
    execute(database, ROWS, f"INSERT INTO t SELECT i, 0 FROM generate_series(0, {rows - 1}) i")
    replica = Replica()
    positions = {}
    reads = 0
    writer = Writer(database, rows)
    assert writer.started.wait(30)
    try:
        for point, limit in ((f"mid_snapshot:{rows // 333}", rows), ("", rows // 250), ("", rows)):
            child = Child(database, positions, point)
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
                if any(position.startswith("0001/") for position in positions.values()):
                    break  # the stream has begun
            assert child.end() == -9
    finally:
        writer.stop()
    assert 0.99 * rows < reads < rows + 5000
    flow = Flow(database)
    flow.positions = positions
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest(), crashed=True)
    assert replica.rows == table(database)
