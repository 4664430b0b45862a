"""A standby: decoded on, and failed over to."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import psycopg
import pytest

from connectors.contracts import SnapshotRequest
from connectors.errors import FatalError
from penstock.embedded.postgres import PostgresServer
from tests.connectors.postgres_cdc.cdc import PATIENCE, Flow, execute, fetch, simple
from tests.connectors.postgres_cdc.test_snapshot import ROWS
from tests.services.fixtures import open_folder
from tests.services.standby import replayed, start_standby

pytestmark = pytest.mark.postgres


SETTINGS: dict[str, str | int] = {"wal_sender_timeout": "10s", "fsync": "off"}


@pytest.fixture
def pair():
    """Primary and standby of PostgreSQL 18, and a database's name."""
    with ExitStack() as opened:
        folders = [opened.enter_context(open_folder()) for _ in range(2)]
        primary = opened.enter_context(PostgresServer.start(folders[0], 18, SETTINGS))
        primary.create_database("shop")
        standby = start_standby(primary, folders[1])
        opened.callback(standby.stop, "immediate")
        yield primary, standby


def wait_for(look, what):
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def test_rows_and_changes_are_read_from_a_standby(pair):
    primary, standby = pair
    execute(primary.dsn("shop"), ROWS, "INSERT INTO t VALUES (1, 1)")
    flow = Flow(standby.dsn("shop"), slot_name="shop")
    wait_for(lambda: replayed(primary, standby), "the table on the standby")
    with pytest.raises(FatalError) as raised, flow.open():
        pass
    assert raised.value.code == "publication_missing"
    assert "on the primary" in raised.value.hint
    assert "on the primary" in next(c.hint for c in flow.checks() if not c.ok)
    execute(
        primary.dsn("shop"),
        "CREATE PUBLICATION shop FOR TABLE t WITH (publish_via_partition_root = true)",
    )
    wait_for(lambda: replayed(primary, standby), "the publication on the standby")
    done = threading.Event()

    def log_snapshots():
        # A slot of a standby begins where the primary says what runs there.
        while not done.wait(0.2):
            execute(primary.dsn("shop"), "SELECT pg_log_standby_snapshot()")

    logging = threading.Thread(target=log_snapshots)
    logging.start()
    try:
        with flow.open() as reading:
            assert simple(reading.take(1)) == [("READ", {"id": 1, "n": 1})]
            execute(primary.dsn("shop"), "UPDATE t SET n = 2")
            assert simple(reading.take(1)) == [("UPDATE", {"id": 1, "n": 2})]
            reading.reader.want_snapshots([SnapshotRequest(1, ())])

            def refused():
                reading.idle()
                return [one.error.code for one in reading.reader.snapshot_reports() if one.error]

            wait_for(refused, "an answer")
            assert refused() == ["snapshot_on_standby"]
        execute(primary.dsn("shop"), "DELETE FROM t")
        with flow.open() as reading:
            assert simple(reading.take(1)) == [("DELETE", {"id": 1})]
    finally:
        done.set()
        logging.join()


def test_after_a_failover_nothing_is_lost_or_repeated(pair):
    primary, standby = pair
    dsn = primary.dsn("shop")
    execute(dsn, ROWS, "INSERT INTO t VALUES (1, 1)")
    plain = Flow(dsn, slot_name="shop")
    with plain.open() as reading:
        reading.take(1)
        execute(dsn, "INSERT INTO t VALUES (2, 2)")
        reading.take(1)
    # A slot that was made without it is changed.
    flow = Flow(dsn, slot_name="shop", failover=True)
    flow.positions = plain.positions
    with flow.open() as reading:
        execute(dsn, "INSERT INTO t VALUES (3, 3)")
        assert simple(reading.take(1)) == [("INSERT", {"id": 3, "n": 3})]

        def is_synced():
            reading.idle()
            with psycopg.connect(standby.dsn("shop"), autocommit=True) as connection:
                connection.execute("SELECT pg_sync_replication_slots()")
            return fetch(
                standby.dsn("shop"),
                "SELECT FROM pg_replication_slots WHERE synced AND NOT temporary"
                " AND slot_name = 'shop'",
            )

        wait_for(is_synced, "the slot's copy on the standby")
    with pytest.raises(FatalError) as raised, Flow(standby.dsn("shop"), slot_name="shop").open():
        pass
    assert raised.value.code in ("slot_not_ours", "slot_missing")
    execute(dsn, "INSERT INTO t VALUES (4, 4), (5, 5)")
    wait_for(lambda: replayed(primary, standby), "the rows on the standby")
    primary.kill()
    execute(standby.dsn(), "SELECT pg_promote()")
    after = Flow(standby.dsn("shop"), slot_name="shop", failover=True)
    after.positions = flow.positions
    with after.open() as reading:
        execute(standby.dsn("shop"), "INSERT INTO t VALUES (6, 6)")
        assert simple(reading.take(3)) == [
            ("INSERT", {"id": number, "n": number}) for number in (4, 5, 6)
        ]


def test_a_failover_slot_is_made_as_one_and_needs_version_17(database, database16):
    execute(database, ROWS)
    flow = Flow(database, failover=True)
    with flow.open() as reading:
        execute(database, "INSERT INTO t VALUES (1, 1)")
        reading.take(1)
    statement = "SELECT failover FROM pg_replication_slots WHERE slot_name = %s"
    assert fetch(database, statement, flow.slot) == [(True,)]
    execute(database16, ROWS)
    with pytest.raises(FatalError) as raised, Flow(database16, failover=True).open():
        pass
    assert raised.value.code == "failover_unsupported"
