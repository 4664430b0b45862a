"""A slot that isn't where the flow left it: each kind of trouble by its own name, each policy."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from connectors.errors import FatalError
from connectors.testing import wait_until
from tests.connectors.postgres_cdc.cdc import Flow, execute, fetch, simple

pytestmark = pytest.mark.postgres


@pytest.fixture
def stopped(database):
    """A flow that has read three rows and one change, and was stopped."""
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, 'old' FROM generate_series(1, 3) i",
    )
    flow = Flow(database)
    with flow.open() as reading:
        reading.take(3)
        execute(database, "INSERT INTO t VALUES (4, 'streamed')")
        reading.take(1)
        while flow.confirmed() == 0:
            reading.idle()
    return flow


def with_settings(flow, **more):
    again = Flow(flow.dsn, **more)
    again.positions = dict(flow.positions)
    return again


def refused(flow):
    with pytest.raises(FatalError) as raised, flow.open():
        pass
    assert raised.value.hint
    return raised.value


def advance(flow):
    """Read on with something else: the slot moves, the flow's position does not."""
    wait_for_slot(flow, active=False)
    execute(
        flow.dsn,
        "INSERT INTO t VALUES (5, 'gone')",
        f"SELECT pg_replication_slot_advance('{flow.slot}', pg_current_wal_lsn())",
        "INSERT INTO t VALUES (6, 'after')",
    )


def wait_for_slot(flow, *, active=True):
    deadline = time.monotonic() + 30
    query = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND active = %s"
    while not fetch(flow.dsn, query, flow.slot, active):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def drop(flow):
    """Drop the slot, once the server has noticed that nobody reads it any more."""
    wait_for_slot(flow, active=False)
    execute(flow.dsn, f"SELECT pg_drop_replication_slot('{flow.slot}')")


def test_a_dropped_slot_is_refused_and_nothing_is_made(stopped):
    drop(stopped)
    assert refused(stopped).code == "slot_missing"
    assert (
        fetch(stopped.dsn, "SELECT FROM pg_replication_slots WHERE slot_name = %s", stopped.slot)
        == []
    )


def test_a_dropped_slot_is_made_anew_where_that_is_the_policy_and_a_warning_says_so(
    stopped, caplog
):
    drop(stopped)
    execute(stopped.dsn, "INSERT INTO t VALUES (5, 'lost')")
    flow = with_settings(stopped, on_slot_missing="create")
    with flow.open() as reading:
        wait_for_slot(flow)
        execute(flow.dsn, "INSERT INTO t VALUES (6, 'seen')")
        assert [event.data["id"] for event in reading.take(1)] == [6]
    assert "are lost" in caplog.text


def test_a_slot_ahead_of_the_position_is_refused(stopped):
    advance(stopped)
    error = refused(stopped)
    assert error.code == "slot_ahead"
    assert "trust_slot" in error.hint


@pytest.mark.parametrize("policy", ["trust_slot", "trust_position"])
def test_a_slot_ahead_may_be_trusted(stopped, policy, caplog):
    advance(stopped)
    flow = with_settings(stopped, on_position_mismatch=policy)
    with flow.open() as reading:
        assert [event.data["id"] for event in reading.take(1)] == [6]
    assert policy in caplog.text
    # The next start has nothing to complain of.
    with with_settings(flow).open() as reading:
        execute(flow.dsn, "INSERT INTO t VALUES (7, 'next')")
        assert [event.data["id"] for event in reading.take(1)] == [7]


@pytest.mark.parametrize(
    "more", [{"on_position_mismatch": "snapshot"}, {"snapshot": "when_needed"}]
)
def test_a_slot_ahead_may_be_made_up_for_by_reading_all_rows_again(stopped, more):
    advance(stopped)
    flow = with_settings(stopped, **more)
    with flow.open() as reading:
        events = reading.take(6)
        execute(flow.dsn, "UPDATE t SET v = 'new' WHERE id = 6")
        events += reading.take(1)
    assert [event.change.operation for event in events] == ["READ"] * 6 + ["UPDATE"]
    assert events[4].data == {"id": 5, "v": "gone"}


def test_a_slot_made_anew_under_its_old_name_is_refused(stopped):
    drop(stopped)
    execute(
        stopped.dsn,
        "INSERT INTO t VALUES (5, 'gone')",
        f"SELECT pg_create_logical_replication_slot('{stopped.slot}', 'pgoutput')",
    )
    assert refused(stopped).code == "slot_ahead"


def test_a_dropped_slot_with_when_needed_reads_all_rows_again(stopped):
    drop(stopped)
    flow = with_settings(stopped, snapshot="when_needed")
    with flow.open() as reading:
        assert len(reading.take(4)) == 4


def test_a_position_of_another_cluster_is_refused(stopped, database16):
    execute(
        database16,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        f"CREATE PUBLICATION {stopped.slot} FOR TABLE t",
        f"SELECT pg_create_logical_replication_slot('{stopped.slot}', 'pgoutput')",
    )
    elsewhere = Flow(database16, slot_name=stopped.slot)
    elsewhere.positions = stopped.positions
    assert refused(elsewhere).code == "position_other_cluster"


def test_a_position_beyond_the_servers_wal_is_refused(stopped):
    lsn = "00FFFFFFFFFFFFFF"
    stopped.positions = {stopped.slot: f"0001/{lsn}/00000000"}
    assert refused(stopped).code == "position_beyond_wal"


def test_a_position_that_is_not_ours_is_refused(stopped):
    stopped.positions = {stopped.slot: "42"}
    assert refused(stopped).code == "position_unreadable"


def test_a_slot_of_another_plugin_or_database_is_refused(database, postgres):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)")
    flow = Flow(database)
    execute(postgres.dsn(), f"SELECT pg_create_logical_replication_slot('{flow.slot}', 'pgoutput')")
    try:
        assert refused(flow).code == "slot_not_ours"
    finally:
        execute(postgres.dsn(), f"SELECT pg_drop_replication_slot('{flow.slot}')")
    execute(database, f"SELECT pg_create_physical_replication_slot('{flow.slot}')")
    try:
        error = refused(flow)
        assert "physical" in error.message
    finally:
        drop(flow)


def test_a_slot_that_another_connection_reads_is_waited_for_and_then_refused(stopped, monkeypatch):
    monkeypatch.setattr("connectors.postgres_cdc.feed.ACTIVE_TRIES", 2)
    with stopped.open() as first:
        wait_for_slot(stopped)
        with with_settings(stopped).open() as second:
            statuses = set()
            watcher = Watcher(lambda: statuses.add(second.reader.status()))
            error = second.failure()
            watcher.stop()
        assert error.code == "slot_active"
        assert any("waiting for the slot" in status for status in statuses)
        # The first one was not disturbed.
        execute(stopped.dsn, "INSERT INTO t VALUES (9, 'x')")
        assert simple(first.take(1)) == [("INSERT", {"id": 9, "v": "x"})]


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        ("connectors.postgres_cdc.heartbeat.read_slot", "looking after the replication slot"),
        ("connectors.postgres_cdc.feed.Feed._open_stream", "reading the replication slot"),
    ],
)
def test_a_defect_on_a_thread_of_the_reader_stops_it_with_its_place(
    stopped, monkeypatch, broken, part
):
    def break_down(*_, **__):
        raise ZeroDivisionError("so it is")

    monkeypatch.setattr(broken, break_down)
    with stopped.open() as reading, pytest.raises(FatalError) as raised:
        wait_until(lambda: reading.idle() and False, "the reader stops")
    assert raised.value.code == "internal_error"
    assert f"{part} broke: ZeroDivisionError: so it is" in raised.value.message


def test_a_slot_that_is_freed_in_time_is_taken(stopped):
    first = stopped.open()
    first.__enter__()
    wait_for_slot(stopped)
    with with_settings(stopped).open() as second:
        deadline = time.monotonic() + 20
        while "waiting" not in second.reader.status():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.__exit__(None, None, None)
        execute(stopped.dsn, "INSERT INTO t VALUES (9, 'x')")
        assert second.take(1)[0].data["id"] == 9


class Watcher:
    """Calls a function over and over until it is stopped."""

    def __init__(self, look):
        self._done = threading.Event()
        self._look = look
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._done.wait(0.005):
            self._look()

    def stop(self):
        self._done.set()
        self._thread.join(5)


def test_a_slot_dropped_while_the_flow_runs_stops_it(stopped):
    with stopped.open() as reading:
        wait_for_slot(stopped)
        with psycopg.connect(stopped.dsn, autocommit=True) as admin:
            deadline = time.monotonic() + 20
            while True:
                admin.execute(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                    "WHERE slot_name = %s AND active",
                    [stopped.slot],
                )
                try:
                    admin.execute("SELECT pg_drop_replication_slot(%s)", [stopped.slot])
                    break
                except psycopg.errors.ObjectInUse:
                    assert time.monotonic() < deadline
        assert reading.failure().code == "slot_missing"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"tables": [{"table": "nope"}]}, "table_missing"),
        ({"tables": [{"table": "t", "columns": ["id", "nope"]}]}, "column_missing"),
        ({"tables": [{"table": "t", "columns": ["v"]}]}, "columns_without_identity"),
        ({"tables": [{"table": "a_view"}]}, "not_a_table"),
        ({"tables": [{"table": "unlogged"}]}, "table_unlogged"),
        ({"filter": {"condition": "NEW.nope = 1"}}, "condition_column_missing"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_and_preflight_says_the_same(database, more, code):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE VIEW a_view AS SELECT 1 AS id",
        "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
    )
    flow = Flow(database, **more)
    error = refused(flow)
    assert error.code == code
    failed = [check for check in flow.checks() if not check.ok and check.severity == "error"]
    assert error.message in [check.found for check in failed]
    assert error.hint in [check.hint for check in failed]
    # Nothing was left on the server by trying.
    assert fetch(database, "SELECT FROM pg_publication") == []


def test_a_publication_that_lacks_something_is_refused_with_the_sql_that_mends_it(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "CREATE PUBLICATION shared FOR TABLE u WITH (publish = 'insert')",
    )
    flow = Flow(
        database, [{"table": "t", "columns": ["id"], "where": "id > 1"}], publication="shared"
    )
    error = refused(flow)
    assert error.code == "publication_mismatch"
    statements = error.hint.partition("Run: ")[2]
    execute(database, *[one for one in statements.split(";") if one.strip()])
    with flow.open() as reading:
        wait_for_slot(flow)
        execute(database, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        assert reading.take(1)[0].data == {"id": 2}


def test_a_user_without_rights_learns_which(database, postgres):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "DROP ROLE IF EXISTS modest",
        "CREATE ROLE modest LOGIN",
    )
    try:
        flow = Flow(database.replace("postgres@", "modest@"))
        assert refused(flow).code == "postgres_no_replication_right"
        found = {check.name: check for check in flow.checks() if not check.ok}
        assert "GRANT SELECT" in found["table public.t"].hint
        assert "CREATE PUBLICATION" in found[f"publication {flow.slot}"].hint
        execute(database, "ALTER ROLE modest REPLICATION", "GRANT SELECT ON t TO modest")
        error = refused(flow)
        assert error.code == "publication_missing"
        execute(database, error.hint.partition("Run as their owner: ")[2])
        with flow.open() as reading:
            execute(database, "INSERT INTO t VALUES (1)")
            assert reading.take(1)[0].data == {"id": 1}
    finally:
        execute(
            database,
            "DROP OWNED BY modest",
            "DROP ROLE modest",
        )


def test_a_server_that_is_not_there_is_unreachable_and_a_wrong_user_is_not(database):
    error = refused(Flow("host=127.0.0.1 port=1 user=postgres dbname=test_x"))
    assert (error.code, error.unreachable) == ("postgres_unreachable", True)
    error = refused(Flow(database.replace("postgres@", "nobody_there@")))
    assert (error.code, error.unreachable) == ("postgres_auth", False)
