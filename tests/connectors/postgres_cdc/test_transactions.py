"""Where transactions begin and end, as events: each once, in its place, with the right counts, whatever is interrupted."""

from __future__ import annotations

import struct

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import Batch
from connectors.contracts import SnapshotRequest
from connectors.postgres_cdc import chunks
from connectors.postgres_cdc.assemble import Assembler
from connectors.postgres_cdc.columns import Columns, Shape
from connectors.postgres_cdc.position import StreamPosition
from connectors.postgres_cdc.runs import Counts, Interest, Run
from connectors.postgres_cdc.tables import message_table
from connectors.postgres_cdc.transactions import Transactions
from connectors.postgres_cdc.types import TypeCatalog
from tests.connectors.postgres_cdc.cdc import Flow, execute, on_both_versions
from tests.connectors.postgres_cdc.test_incremental import follow, is_done
from tests.connectors.postgres_cdc.test_kills import CHILD, Child
from tests.connectors.postgres_cdc.test_messages import emit
from tests.connectors.postgres_cdc.test_pgoutput import HEAD, begin, change, commit, relation
from tests.connectors.postgres_cdc.test_snapshot import ROWS

pytestmark = pytest.mark.postgres

TABLES = (ROWS, "CREATE TABLE u (id int PRIMARY KEY)", "CREATE TABLE other (id int)")


def asking(database, **more):
    return Flow(database, **({"transaction_metadata": True, "snapshot": "never"} | more))


def kinds(events):
    return [event.change.operation for event in events]


def counts(event):
    assert event.change.operation == "END"
    of_tables = {
        each["data_collection"]: each["event_count"] for each in event.data["data_collections"]
    }
    return event.data["event_count"], of_tables


def in_order(events):
    positions = [event.position for event in events]
    sequences = [event.extensions["sequence"] for event in events]
    return (
        positions == sorted(set(positions))
        and sequences == sorted(set(sequences))
        and len({event.id for event in events}) == len(events)
    )


@on_both_versions
def test_each_transaction_with_events_begins_and_ends_with_one_and_the_end_counts_them(database):
    execute(database, *TABLES)
    flow = asking(
        database,
        tables=("t", "u"),
        messages=["outbox"],
        schema_changes=True,
        filter={"operations": ["INSERT", "UPDATE", "TRUNCATE"]},
    )
    with flow.open() as reading:
        reading.started()
        with psycopg.connect(database) as connection:
            (xid,) = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("INSERT INTO other VALUES (1)")
            connection.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
            connection.execute(emit("1"))
            connection.execute(emit("2", "not.asked.for"))
            connection.execute("INSERT INTO u VALUES (1)")
            connection.execute("DELETE FROM t WHERE id = 2")
            connection.execute("UPDATE t SET n = 3")
        execute(database, "INSERT INTO other VALUES (2)", "DELETE FROM t", emit("3", "other"))
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO t VALUES (9, 9)")
            connection.rollback()
        execute(database, emit("4", transactional=False), "TRUNCATE t, u")
        execute(database, "ALTER TABLE u ADD COLUMN x int", "INSERT INTO u VALUES (2)")
        events = reading.take(7 + 1 + 4 + 4)
    assert kinds(events) == [
        *("BEGIN", "INSERT", "INSERT", "MESSAGE", "INSERT", "UPDATE", "END"),
        "MESSAGE",
        *("BEGIN", "TRUNCATE", "TRUNCATE", "END"),
        *("BEGIN", "ALTER", "INSERT", "END"),
    ]
    first, end = events[0], events[6]
    assert first.data == {
        "status": "BEGIN",
        "id": xid,
        "event_count": None,
        "data_collections": None,
    }
    assert (first.type, end.type) == ("transaction.begin", "transaction.end")
    assert first.key == end.key == f"transaction/{xid}"
    assert {event.extensions["transactionid"] for event in events[:7]} == {xid}
    assert "transactionid" not in events[7].extensions
    assert {event.time for event in events[:7]} == {first.time}
    assert end.data["id"] == xid
    assert counts(end) == (5, {"public.t": 3, "public.u": 1})
    assert counts(events[11]) == (2, {"public.t": 1, "public.u": 1})
    assert counts(events[15]) == (2, {"public.u": 2})
    assert in_order(events)


def one_transaction(database):
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO other VALUES (1), (2)")
        connection.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
        connection.execute("INSERT INTO u VALUES (1)")
        connection.execute("INSERT INTO other VALUES (3)")
        connection.execute("UPDATE t SET n = 3 WHERE id = 2")
        connection.execute("INSERT INTO other VALUES (4)")


WHOLE = ["BEGIN", "INSERT", "INSERT", "INSERT", "UPDATE", "END"]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_reading_goes_on_right_behind_every_event_of_a_transaction(database, limit):
    """By the event's own position, as the conformance kit does, and whatever the batches were."""
    execute(database, *TABLES)
    flow = asking(database, tables=("t", "u"), filter={"condition": "NEW.id < 9"})
    with flow.open() as reading:
        reading.started()
    begins = dict(flow.positions)
    execute(database, "INSERT INTO t VALUES (0, 0)")
    one_transaction(database)
    execute(database, "INSERT INTO t VALUES (9, 0), (8, 0)")
    with flow.open() as reading:
        whole = []
        while len(whole) < 3 + 6 + 3:
            whole += (
                reading.take(1, limit=limit, settle=False)
                if limit == 1
                else batch_of(reading, limit)
            )
    assert kinds(whole) == ["BEGIN", "INSERT", "END", *WHOLE, "BEGIN", "INSERT", "END"]
    assert in_order(whole)
    for done in range(len(whole) + 1):
        flow.positions = {flow.slot: whole[done - 1].position} if done else dict(begins)
        with flow.open(until_caught_up=True) as reading:
            rest = reading.rest(settle=False)
        assert [event.id for event in rest] == [event.id for event in whole[done:]]
        assert [event.data for event in rest] == [event.data for event in whole[done:]]
        assert [event.position for event in rest] == [event.position for event in whole[done:]]
    assert counts(whole[8]) == (4, {"public.t": 3, "public.u": 1})


def batch_of(reading, limit):
    batch = reading.batch(limit, settle=False)
    assert batch.size <= limit
    return [batch.event(index) for index in range(batch.size)]


@pytest.mark.parametrize("settled", range(7))
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("afterwards", [True, False])
def test_a_restart_within_a_transaction_goes_on_with_its_changes_whatever_is_asked_for_by_then(
    database, settled, before, afterwards
):
    execute(database, *TABLES)
    flow = asking(database, tables=("t", "u"), transaction_metadata=before)
    with flow.open() as reading:
        reading.started()
    one_transaction(database)
    whole = WHOLE if before else WHOLE[1:-1]
    if settled > len(whole):
        return
    with flow.open() as reading:
        first = [event for _ in range(settled) for event in reading.take(1, limit=1)]
    later = asking(database, tables=("t", "u"), transaction_metadata=afterwards)
    later.positions = flow.positions
    execute(database, "INSERT INTO t VALUES (9, 9)")
    with later.open(until_caught_up=True) as reading:
        rest = reading.rest()
    expected = whole[settled:]
    if not settled:
        # Nothing of it was numbered yet: it is as if it had been asked for from the start.
        expected = WHOLE
    if not afterwards:
        expected = [each for each in expected if each not in ("BEGIN", "END")]
    nine = ["BEGIN", "INSERT", "END"] if afterwards else ["INSERT"]
    assert kinds(first) == whole[:settled]
    assert kinds(rest) == [*expected, *nine]
    assert in_order(first + rest)
    if "END" in expected:
        assert counts(rest[len(expected) - 1]) == (4, {"public.t": 3, "public.u": 1})


def test_a_transaction_that_was_counted_is_counted_on_while_nobody_asks(database):
    execute(database, *TABLES)
    positions = {}
    seen = []
    for asked, count in ((True, 2), (False, 2), (True, 2)):
        flow = asking(database, tables=("t", "u"), transaction_metadata=asked)
        flow.positions = positions
        with flow.open() as reading:
            if not seen:
                reading.started()
                one_transaction(database)
            seen += [event for _ in range(count) for event in reading.take(1, limit=1)]
    assert kinds(seen) == WHOLE
    assert counts(seen[-1]) == (4, {"public.t": 3, "public.u": 1})
    assert in_order(seen)


KILLED = (
    CHILD.replace("Flow(sys.argv[1])", "Flow(sys.argv[1], transaction_metadata=True)")
    .replace("change.before, change.after]", "batch.event(index).data]")
    .replace(
        'for identity, change in zip(batch.column("id"), changes)',
        'for index, (identity, change) in enumerate(zip(batch.column("id"), changes))',
    )
)


def test_a_large_transaction_begins_once_and_ends_with_its_count_though_its_reader_is_killed(
    database,
):
    execute(database, ROWS)
    flow = asking(database)
    with flow.open() as reading:
        reading.started()
    execute(database, "INSERT INTO t SELECT i, i FROM generate_series(1, 20000) i")
    positions, seen = flow.positions, []
    for limit in (1, 3, 40, 10_000):
        child = Child(database, positions, "", KILLED)
        for line in child.lines(limit):
            positions |= line["after"]
            seen += line["events"]
            if line["events"] and seen[-1][1] == "END":
                break
        assert child.end() == -9
    assert [kind for _, kind, _ in seen] == ["BEGIN", *["INSERT"] * 20000, "END"]
    assert len({identity for identity, _, _ in seen}) == len(seen)
    assert seen[-1][2]["event_count"] == 20000
    assert seen[-1][2]["data_collections"] == [
        {"data_collection": "public.t", "event_count": 20000}
    ]


def test_a_lost_connection_repeats_and_misses_no_begin_and_no_end(database):
    execute(database, ROWS)
    flow = asking(database)
    seen = []
    with flow.open() as reading:
        reading.started()
        execute(database, "INSERT INTO t SELECT i, i FROM generate_series(1, 3) i")
        for _ in range(2):
            seen += reading.take(2, limit=1)
            execute(
                database,
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                f"WHERE slot_name = '{flow.slot}'",
                "INSERT INTO t SELECT max(id) + 1, 0 FROM t",
            )
        seen += reading.take(11 - len(seen), limit=1)
    assert kinds(seen) == [
        *("BEGIN", "INSERT", "INSERT", "INSERT", "END"),
        *("BEGIN", "INSERT", "END") * 2,
    ]
    assert [counts(event)[0] for event in seen if event.change.operation == "END"] == [3, 1, 1]
    assert in_order(seen)


def test_rows_that_are_read_again_while_streaming_are_in_no_transaction(database, monkeypatch):
    monkeypatch.setattr(chunks, "ROWS", 100)
    monkeypatch.setattr(chunks, "FIRST_ROWS", 100)
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 250) i")
    flow = asking(database)
    seen = []
    with flow.open() as reading:
        reading.started()
        reading.reader.want_snapshots([SnapshotRequest(1, ("public.t",))])
        execute(database, "INSERT INTO t VALUES (300, 0)")
        follow(reading, lambda: is_done(reading, 1), seen.extend)
    changes = [kind for kind in kinds(seen) if kind != "READ"]
    assert changes == ["BEGIN", "INSERT", "END"]
    assert {event.data["id"] for event in seen if event.change.operation == "READ"} >= set(
        range(1, 251)
    )


def test_without_the_setting_positions_say_nothing_of_transactions(database):
    execute(database, *TABLES)
    flow = Flow(database, tables=("t", "u"), snapshot="never")
    with flow.open() as reading:
        reading.started()
        one_transaction(database)
        events = reading.take(4)
    assert "transactionid" not in events[0].extensions
    assert "events" not in flow.positions[flow.slot]


def test_positions_of_a_run_are_what_those_of_its_events_are():
    """They are made from a template; names may hold what means something there, or in JSON."""
    columns = Columns(Shape("slot", "db", False, False, str), 1)
    odd = 'public.a"b,%d{\n'
    counted = Counts(9, {"public.%b": 3, odd: 5, 'x"' + odd: 1})
    for carried in ({}, {"read": {odd: [[1, "%d"]]}}):
        run = Run(message_table(odd), "INSERT", [b""] * 12, range(3, 15), 7, 0.0, carried)
        run.counted = counted
        (at, expected) = (counted, [])
        for ordinal in run.ordinals:
            at = at.plus(run, 1)
            state = {"events": at.state(), **carried}
            expected.append(StreamPosition(1, 7, ordinal, state).text())
        batch = Batch(12, {}, after={}, makers=columns.of_stream, state=[run])
        assert batch.column("position") == expected


# ---- any stream, cut anywhere, without a server ----

transactions = st.lists(
    st.tuples(st.lists(st.sampled_from([1, 1, 2]), max_size=5), st.booleans()),
    min_size=1,
    max_size=6,
)
"""Each transaction's changes, by the relation they are of (2 is nobody's), and whether a message that is in
no transaction follows."""


def stream(script):
    """Return the messages, and from where in them the server sends what is not confirmed, by LSN."""
    messages = [relation(1, "t", [("id", 23, 1)]), relation(2, "other", [("id", 23, 1)])]
    begins = []
    for number, (oids, followed) in enumerate(script, 1):
        lsn = 100 * number
        begins.append((lsn, len(messages)))
        messages.append(begin(lsn, xid=number))
        messages += [change(b"I", oid, new=[b"1"]) for oid in oids]
        # The next commit's record may be right behind.
        messages.append(commit(lsn, lsn + (10 if followed else 100)))
        if followed:
            begins.append((lsn + 50, len(messages)))
            messages.append(HEAD + b"M" + struct.pack(">BQ", 0, lsn + 50) + b"m\0" + bytes(4))
    return messages, begins


def assembler(skip, counted):
    return Assembler(
        Interest({"public.t": None}, frozenset({"INSERT"}), messages=["m"]),
        TypeCatalog([(23, "int4", 0, 0, ",")]),
        {},
        generation=1,
        skip=skip,
        start=0,
        read={},
        transactions=Transactions(wanted=True, stored=counted),
    )


def taken(assembler, messages, at, limit):
    """Take up to `limit` events; return where it stopped, and the events by place, kind and counts."""
    runs, found = [], []
    before = assembler.position("1").text()
    at = assembler.take(messages, at, limit, runs)
    assert sum(len(run.messages) for run in runs) <= limit
    for run in runs:
        counted = run.counted
        for ordinal in run.ordinals:
            counted = counted and counted.plus(run, 1)
            found.append((run.lsn, ordinal, run.operation, counted))
            state = {"events": counted.state()} if counted else {}
            position = StreamPosition(1, run.lsn, ordinal, state).text()
            assert before < position
            before = position
    assert before <= assembler.position("1").text()
    return at, found


def read_all(made, messages, limit):
    at, found = 0, []
    while at < len(messages) or made.in_transaction:
        at, more = taken(made, messages, at, limit)
        found += more
    return found


@given(transactions, st.integers(1, 4))
def test_a_transaction_is_what_it_is_however_many_events_a_batch_has(script, limit):
    messages, _ = stream(script)
    found = read_all(assembler((0, 0), None), messages, limit)
    expected = []
    for number, (oids, followed) in enumerate(script, 1):
        wanted = [place for place, oid in enumerate(oids, 2) if oid == 1]
        if wanted:
            expected.append((100 * number, 1, "BEGIN"))
            expected += [(100 * number, place, "INSERT") for place in wanted]
            expected.append((100 * number, len(oids) + 2, "END"))
        if followed:
            expected.append((100 * number + 50, 1, "MESSAGE"))
    assert [each[:3] for each in found] == expected


@given(transactions, st.integers(1, 4), st.data())
def test_a_stream_that_is_cut_or_left_anywhere_goes_on_with_the_very_next_event(
    script, limit, data
):
    messages, begins = stream(script)
    whole = read_all(assembler((0, 0), None), messages, 1000)
    made = assembler((0, 0), None)
    at, found = 0, []
    while at < len(messages) or made.in_transaction:
        at, more = taken(made, messages, at, limit)
        found += more
        trouble = data.draw(st.sampled_from(["", "", "cut", "left"]))
        if trouble == "cut":
            made.reconnected()
        elif trouble == "left":
            position = made.position("1")
            state = position.state.get("events")
            made = assembler(position.place(), None if state is None else Counts.from_state(state))
        if trouble:
            # The server sends the transaction that the position lies in from its beginning.
            lsn, _ = made.place()
            at = next((place for commits, place in begins if commits >= lsn), len(messages))
            made.take(messages[:2], 0, 10, [])
    assert found == whole
