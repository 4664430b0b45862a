"""The stream through whatever comes: interleaved transactions, restarts, cuts, stalls, silence."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from connectors.contracts import EndOfSource, Lag
from connectors.testing import no_leaks, wait_until
from penstock.embedded.postgres import PostgresServer
from tests.connectors.postgres_cdc.cdc import Flow, execute, fetch, number
from tests.services.fixtures import open_folder

pytestmark = pytest.mark.postgres


@pytest.fixture
def flow(database):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, n int)")
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
    return flow


def ids(events):
    return [event.data["id"] for event in events]


def interleave(dsn):
    """Write rows whose WAL is mixed while their transactions commit in the other order."""
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        for row in range(4):
            first.execute("INSERT INTO t VALUES (%s, 0)", [10 + row])
            second.execute("INSERT INTO t VALUES (%s, 0)", [20 + row])
        second.commit()
        first.commit()
    # First the one that committed first, though its rows are later in the WAL.
    return [20, 21, 22, 23, 10, 11, 12, 13]


def test_interleaved_transactions_resume_behind_every_event(flow):
    expected = interleave(flow.dsn)
    before = dict(flow.positions)
    with flow.open() as reading:
        events = reading.take(8, settle=False)
    assert ids(events) == expected
    assert [event.position for event in events] == sorted(event.position for event in events)
    for done, event in enumerate(events, 1):
        flow.positions = {flow.slot: event.position}
        with flow.open(until_caught_up=True) as reading:
            rest = drained(reading)
        assert ids(rest) == expected[done:]
        assert [one.id for one in rest] == [one.id for one in events[done:]]
    flow.positions = before


def drained(reading):
    """Read to the end without settling."""
    events = []
    while True:
        try:
            batch = reading.reader.poll(1000, 0.2)
        except EndOfSource:
            return events
        if batch is not None:
            events += [batch.event(index) for index in range(batch.size)]


def test_batches_may_end_in_the_middle_of_a_transaction_and_settle_there(flow):
    execute(flow.dsn, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i")
    seen = []
    while len(seen) < 10:
        with flow.open() as reading:
            batch = reading.batch(3)
            seen += [data["id"] for data in batch.column("data")]
    assert seen == list(range(1, 11))


def test_the_slot_never_moves_past_what_is_settled(flow):
    execute(flow.dsn, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i")
    confirmed = flow.confirmed()
    with flow.open() as reading:
        reading.take(10, settle=False)
        ((sent,),) = fetch(flow.dsn, "SELECT pg_current_wal_lsn()::text")
        # Keepalives come and say that the server has sent everything.
        wait_until(lambda: reading.reader.lag()[flow.slot].bytes == 0 or polled(reading), "sent")
        assert flow.confirmed() == confirmed
    assert flow.confirmed() == confirmed < number(sent)


def polled(reading):
    reading.reader.poll(10, 0.02)
    return False


def test_a_rolled_back_transaction_leaves_no_event(flow):
    with psycopg.connect(flow.dsn) as connection:
        connection.execute("INSERT INTO t VALUES (1, 0)")
        connection.rollback()
        connection.execute("INSERT INTO t VALUES (2, 0)")
        connection.execute("SAVEPOINT a")
        connection.execute("INSERT INTO t VALUES (3, 0)")
        connection.execute("ROLLBACK TO a")
        connection.execute("INSERT INTO t VALUES (4, 0)")
    with flow.open() as reading:
        events = reading.take(2)
    assert ids(events) == [2, 4]


def test_a_large_transaction_comes_in_bounded_batches(flow):
    execute(flow.dsn, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 60000) i")
    with flow.open() as reading:
        count = 0
        while count < 60000:
            batch = reading.batch(1000)
            assert batch.size <= 1000
            assert batch.column("data")[0]["id"] == count + 1
            count += batch.size
    assert number_of_last(flow) > 0


def test_a_filtered_transaction_that_spans_many_reads_counts_each_of_its_events(database):
    # One transaction, judged change by change: its run grows while the batch is being filled.
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, n int)")
    flow = Flow(database, filter={"condition": "NEW.n = 0"})
    with flow.open() as reading:
        reading.idle()
        execute(database, "INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 20000) i")
        seen = []
        while len(seen) < 10000:
            batch = reading.batch(1000)
            columns = [batch.column(name) for name in ("id", "raw", "key", "operation")]
            assert {len(column) for column in columns} == {batch.size}
            assert batch.size <= 1000
            seen += [row["id"] for row in batch.column("data")]
    assert seen == list(range(2, 20001, 2))


def number_of_last(flow):
    return int(flow.positions[flow.slot].split("/")[1], 16)


def test_a_terminated_walsender_is_replaced_and_nothing_is_lost_or_repeated(flow):
    with flow.open() as reading:
        expected = 0
        seen = []
        for turn in range(4):
            execute(
                flow.dsn,
                f"INSERT INTO t SELECT i, 0 FROM generate_series({expected}, {expected + 9}) i",
            )
            expected += 10
            # In mid-transaction, with part of it unsettled.
            seen += ids(one_by_one(reading, 5, settle=turn % 2 == 0))
            terminate(flow)
            seen += ids(one_by_one(reading, 5))
    assert seen == list(range(expected))


def one_by_one(reading, count, *, settle=True):
    return reading.take(count, limit=1, settle=settle)


def terminate(flow):
    """End the walsender, once there is one."""
    wait_until(
        lambda: fetch(
            flow.dsn,
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            "WHERE slot_name = %s AND active",
            flow.slot,
        ),
        "a walsender to terminate",
    )


def test_reconnecting_shows_in_the_status_and_goes_away(flow, proxies):
    upstream = flow.dsn.partition("@")[2].partition("/")[0]
    proxy = proxies(upstream)
    flow = through(flow, flow.dsn.replace(upstream, proxy.address))
    with flow.open() as reading:
        execute(flow.direct, "INSERT INTO t VALUES (1, 0)")
        assert ids(reading.take(1)) == [1]
        proxy.cut()
        wait_until(lambda: "reconnecting" in reading.reader.status(), "a status that says so")
        execute(flow.direct, "INSERT INTO t VALUES (2, 0)")
        proxy.restore()
        assert ids(reading.take(1)) == [2]
        assert reading.reader.status() == ""


def through(flow, dsn):
    again = Flow(dsn, slot_name=flow.slot, snapshot="never")
    again.positions = dict(flow.positions)
    again.direct = flow.dsn
    return again


def test_an_idle_slot_moves_on_while_another_database_is_busy(flow, postgres):
    execute(postgres.dsn(), "DROP TABLE IF EXISTS busy", "CREATE TABLE busy (v text)")
    with flow.open() as reading:
        for _ in range(3):
            execute(
                postgres.dsn(),
                "INSERT INTO busy SELECT repeat('x', 500) FROM generate_series(1, 500)",
            )
            ((end,),) = fetch(flow.dsn, "SELECT pg_current_wal_lsn()::text")
            deadline = time.monotonic() + 30
            while flow.confirmed() < number(end):
                assert time.monotonic() < deadline
                reading.idle()
    execute(postgres.dsn(), "DROP TABLE busy")
    # What it moved past is in the position too: the next start finds both together.
    with flow.open() as reading:
        execute(flow.dsn, "INSERT INTO t VALUES (1, 0)")
        assert ids(reading.take(1)) == [1]


@pytest.fixture
def impatient():
    """A server that drops a walsender whose client is silent for a second."""
    settings = {"wal_sender_timeout": "1s", "fsync": "off"}
    with open_folder() as folder, PostgresServer.start(folder, 18, settings) as server:
        yield server


def test_the_server_is_answered_while_nobody_polls_with_a_full_queue(impatient):
    dsn = impatient.create_database("test_stalled")
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, v text)")
    flow = Flow(dsn, snapshot="never", slot_name="stalled")
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
        execute(dsn, "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 40000) i")
        reading.take(1, limit=1)
        (pid,) = walsender(flow)
        # A sink that stalls for longer than wal_sender_timeout.
        ((then,),) = fetch(dsn, "SELECT now()")
        wait_until(
            lambda: fetch(dsn, "SELECT now() > %s + interval '3 seconds'", then)[0][0], "a while"
        )
        assert walsender(flow) == (pid,)
        count = 1
        while count < 40000:
            count += reading.batch(1000).size
    log = impatient.log.read_text()
    assert "replication timeout" not in log


def walsender(flow):
    return fetch(
        flow.dsn, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", flow.slot
    )[0]


def test_a_server_that_stops_and_starts_again_is_read_on(flow, postgres):
    with flow.open() as reading:
        execute(flow.dsn, "INSERT INTO t VALUES (1, 0)")
        assert ids(reading.take(1, settle=False)) == [1]
        postgres.stop()
        wait_until(lambda: "reconnecting" in reading.reader.status(), "a status that says so")
        postgres.start_again()
        execute(flow.dsn, "INSERT INTO t VALUES (2, 0)")
        assert ids(reading.take(1)) == [2]
    with flow.open(until_caught_up=True) as reading:
        assert reading.rest() == []


def test_a_server_killed_in_mid_snapshot_is_read_on(database, postgres):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i",
    )
    flow = Flow(database)
    with flow.open() as reading:
        seen = ids(reading.take(100, limit=100))
        postgres.kill()
        postgres.start_again()
        while len(seen) < 30000:
            seen += [data["id"] for data in reading.batch(1000).column("data")]
        execute(database, "DELETE FROM t WHERE id = 7")
        assert reading.take(1)[0].change.operation == "DELETE"
    assert seen == list(range(1, 30001))


def test_no_thread_and_no_connection_is_left_after_closing(flow):
    with flow.open() as reading:
        reading.idle()
    with no_leaks(seconds=10), flow.open() as reading:
        execute(flow.dsn, "INSERT INTO t VALUES (1, 0)")
        reading.take(1)
        terminate(flow)
    wait_until(
        lambda: (
            not fetch(
                flow.dsn,
                "SELECT FROM pg_stat_activity WHERE application_name = 'penstock orders' "
                "AND datname = current_database()",
            )
        ),
        "the server to see all connections closed",
    )


def test_closing_does_not_wait_for_a_slot_that_waits_for_a_transaction(database):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)")
    with psycopg.connect(database) as blocking:
        blocking.execute("INSERT INTO t VALUES (1)")
        flow = Flow(database)
        with no_leaks(seconds=10), flow.open() as reading:
            wait_until(lambda: "waits for transactions" in reading.reader.status(), "the wait")
        assert blocking.info.transaction_status == TransactionStatus.INTRANS
        assert (
            fetch(database, "SELECT FROM pg_replication_slots WHERE slot_name = %s", flow.slot)
            == []
        )
    with flow.open() as reading:
        assert ids(reading.take(1)) == [1]


def test_acknowledging_never_waits_for_a_feed_that_always_has_something_to_read(flow):
    with flow.open() as reading:
        execute(flow.dsn, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 200000) i")
        wait_until(lambda: not reading.reader._queue.wait_for_room(0), "a full queue")
        # A second of backlog wakes it once; a socket's buffer holds a few hundred.
        waking = threading.Thread(
            target=lambda: [reading.reader._feed.wake() for _ in range(5_000)], daemon=True
        )
        waking.start()
        waking.join(20)
        assert not waking.is_alive()
        assert ids(reading.take(200_000))[-1] == 200_000
        execute(flow.dsn, "INSERT INTO t VALUES (0, 0)")
        assert ids(reading.take(1)) == [0]


def test_lag_is_what_the_slot_holds_back(flow):
    with flow.open() as reading:
        execute(flow.dsn, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i")
        wait_until(lambda: (reading.reader.lag()[flow.slot].bytes or 0) > 100_000, "a lag")
        reading.take(5000)
        none = Lag(bytes=0, seconds=0.0)
        wait_until(lambda: reading.reader.lag()[flow.slot] == none or polled(reading), "no lag")


def test_lag_is_none_once_all_rows_came_from_the_copy(database):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)")
    execute(database, "INSERT INTO t VALUES (1), (2)")
    flow = Flow(database)
    none = Lag(bytes=0, seconds=0.0)
    with flow.open() as reading:
        assert ids(reading.take(2)) == [1, 2]
        wait_until(lambda: reading.reader.lag()[flow.slot] == none or polled(reading), "no lag")


def test_several_flows_read_one_database_each_through_its_own_slot(database):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)")
    with ExitStack() as stack:
        flows = [Flow(database, snapshot="never", slot_name=f"many_{n}") for n in range(3)]
        readings = [stack.enter_context(flow.open()) for flow in flows]
        for reading in readings:
            while not reading.flow.positions:
                reading.idle()
        execute(database, "INSERT INTO t VALUES (1)")
        assert [ids(reading.take(1)) for reading in readings] == [[1], [1], [1]]
