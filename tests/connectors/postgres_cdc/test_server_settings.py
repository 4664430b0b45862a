"""Servers that are set up otherwise: no logical decoding, little WAL kept, no slot free."""

from __future__ import annotations

import time

import pytest

from connectors.contracts import SlotReading
from connectors.errors import FatalError
from connectors.postgres_cdc import heartbeat
from penstock.embedded.postgres import PostgresServer
from tests.connectors.postgres_cdc.cdc import PATIENCE, Flow, execute, fetch
from tests.services.fixtures import open_folder

pytestmark = pytest.mark.postgres


@pytest.fixture
def start():
    """Call it with the server's settings; returns a database's DSN."""
    with open_folder() as folder:
        servers = []

        def start_one(**settings):
            servers.append(PostgresServer.start(folder, 18, {"fsync": "off"} | settings))
            return servers[-1].create_database("test_settings")

        yield start_one
        for server in servers:
            server.__exit__(None, None, None)


def refused(flow):
    with pytest.raises(FatalError) as raised, flow.open():
        pass
    return raised.value


def test_wal_level_replica_is_refused_with_what_to_do(start):
    dsn = start(wal_level="replica")
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    flow = Flow(dsn)
    error = refused(flow)
    assert error.code == "wal_level"
    assert "ALTER SYSTEM SET wal_level = logical; then restart" in error.hint
    assert error.message in [check.found for check in flow.checks() if not check.ok]
    # The rows alone can be read there.
    with Flow(dsn, snapshot="only").open() as reading:
        assert [event.data for event in reading.rest()] == [{"id": 1}]


def invalidate(flow):
    """Write more WAL than the server keeps for a slot."""
    execute(flow.dsn, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    for row in range(100, 105):
        execute(flow.dsn, f"INSERT INTO t VALUES ({row})", "SELECT pg_switch_wal()")
    execute(flow.dsn, "CHECKPOINT")
    ((status,),) = fetch(
        flow.dsn, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", flow.slot
    )
    assert status == "lost"


def test_a_slot_whose_wal_was_removed_is_refused_or_made_anew_by_policy(start):
    dsn = start(max_wal_size="32MB", min_wal_size="32MB")
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    flow = Flow(dsn)
    with flow.open() as reading:
        reading.take(1)
        execute(dsn, "INSERT INTO t VALUES (2)")
        reading.take(1)
    invalidate(flow)
    error = refused(flow)
    assert error.code == "slot_invalidated"
    assert "invalidated" in next(c.found for c in flow.checks() if c.name.startswith("slot "))
    again = Flow(dsn, snapshot="when_needed")
    again.positions = flow.positions
    with again.open() as reading:
        assert [event.data["id"] for event in reading.take(7)] == [1, 2, *range(100, 105)]
        execute(dsn, "DELETE FROM t WHERE id = 1")
        assert reading.take(1)[0].change.operation == "DELETE"


def test_a_slot_that_is_about_to_be_lost_is_told_of_while_the_flow_runs(start, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOOK", 0.0)
    dsn = start(max_slot_wal_keep_size="1MB")
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    flow = Flow(dsn)
    found = next(c.found for c in flow.checks() if c.name == "WAL kept for a slot")
    assert "at most 1MB" in found
    with flow.open() as reading:
        reading.take(1)
        for row in range(100, 105):
            execute(dsn, f"INSERT INTO t VALUES ({row})", "SELECT pg_switch_wal()")
        deadline = time.monotonic() + PATIENCE
        while "about to be lost" not in reading.reader.status():
            assert time.monotonic() < deadline, reading.reader.status()
            reading.reader.poll(10, 0.1)


@pytest.mark.parametrize("beat", ["50ms", 0])
def test_how_much_wal_a_slot_holds_and_may_hold_is_known_with_and_without_a_heartbeat(
    start, monkeypatch, beat
):
    monkeypatch.setattr(heartbeat, "LOOK", 0.05)
    dsn = start(max_slot_wal_keep_size="64MB")
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    flow = Flow(dsn, heartbeat=beat)
    with flow.open() as reading:

        def until(what):
            deadline = time.monotonic() + PATIENCE
            while True:
                found = reading.reader.slots().get(flow.slot)
                if found is not None and what(found):
                    return found
                assert time.monotonic() < deadline, found
                reading.reader.poll(10, 0.05)

        reading.take(1)
        assert isinstance(reading.reader, SlotReading)  # by which a worker's reports have it
        before = until(lambda found: found.active)
        assert before.wal_status == "reserved"
        assert 0 < before.safe_bytes <= 96 << 20  # whole segments of 16 MB are kept
        for row in range(100, 103):
            execute(dsn, f"INSERT INTO t VALUES ({row})", "SELECT pg_switch_wal()")
        # Nothing is settled: it stays where it was, and the room gets less.
        after = until(lambda found: found.retained_bytes > 32 << 20)
        assert after.safe_bytes <= before.safe_bytes - (32 << 20)


def test_no_free_slot_is_refused_with_what_to_do(start):
    dsn = start(max_replication_slots=1)
    execute(
        dsn,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')",
    )
    flow = Flow(dsn)
    assert [c.ok for c in flow.checks() if c.name.startswith("slot ")] == [False]
    with flow.open() as reading:
        error = reading.failure()
    assert error.code == "slots_exhausted"
    assert "max_replication_slots" in error.hint
