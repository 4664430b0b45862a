"""Logical messages as events, in order with the changes; and transactions by their number."""

from __future__ import annotations

import psycopg
import pydantic
import pytest

from tests.connectors.postgres_cdc.cdc import Flow, execute, on_both_versions
from tests.connectors.postgres_cdc.test_snapshot import ROWS

pytestmark = pytest.mark.postgres


def emit(content, prefix="outbox", *, transactional=True):
    text = "true" if transactional else "false"
    return f"SELECT pg_logical_emit_message({text}, '{prefix}', '{content}')"


def shown(events):
    return [(event.change.operation, event.type, event.data) for event in events]


@on_both_versions
def test_messages_come_in_order_with_the_changes_and_by_their_prefix_alone(database):
    execute(database, ROWS)
    flow = Flow(database, snapshot="never", messages=["outbox", "audit.*"])
    with flow.open() as reading:
        reading.started()
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO t VALUES (1, 1)")
            connection.execute(emit('{"id": 12345678901234567890, "total": 1.50}'))
            connection.execute(emit("no", "other"))
            connection.execute("INSERT INTO t VALUES (2, 2)")
            connection.execute(emit("plain text", "audit.login"))
        with psycopg.connect(database) as connection:
            connection.execute(emit("undone"))
            connection.rollback()
        execute(database, emit("at once", transactional=False))
        execute(database, "SELECT pg_logical_emit_message(true, 'outbox', '\\xff00'::bytea)")
        execute(database, "INSERT INTO t VALUES (3, 3)")
        events = reading.take(7)
    assert shown(events) == [
        ("INSERT", "public.t.insert", {"id": 1, "n": 1}),
        ("MESSAGE", "outbox.message", {"id": 12345678901234567890, "total": 1.5}),
        ("INSERT", "public.t.insert", {"id": 2, "n": 2}),
        ("MESSAGE", "audit.login.message", "plain text"),
        ("MESSAGE", "outbox.message", "at once"),
        ("MESSAGE", "outbox.message", {"base64": "/wA="}),
        ("INSERT", "public.t.insert", {"id": 3, "n": 3}),
    ]
    assert [event.key for event in events[1:5]] == [
        "outbox",
        "public.t/2",
        "audit.login",
        "outbox",
    ]
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert len({event.id for event in events}) == 7


@pytest.mark.parametrize("settled", range(6))
@pytest.mark.parametrize("afterwards", [["outbox"], ["*"], None])
def test_a_restart_within_a_transaction_misses_and_repeats_nothing_whatever_is_asked_for_by_then(
    database, settled, afterwards
):
    execute(database, ROWS)
    flow = Flow(database, snapshot="never", messages=["outbox"])
    with flow.open() as reading:
        reading.started()
    with psycopg.connect(database) as connection:
        for number in (1, 2, 3):
            connection.execute(emit(number))
            connection.execute(emit("not asked for", "other"))
            connection.execute("INSERT INTO t VALUES (%s, 0)", [number])
    execute(database, emit("between", transactional=False))
    with flow.open() as reading:
        if settled:
            before = [event.data for _ in range(settled) for event in reading.take(1, limit=1)]
        else:
            before = []
    after = Flow(database, snapshot="never", messages=afterwards)
    after.positions = flow.positions
    execute(database, "INSERT INTO t VALUES (9, 0)")
    with after.open(until_caught_up=True) as reading:
        rest = [event.data for event in reading.rest() if event.type != "other.message"]
    whole = [part for n in (1, 2, 3) for part in (n, {"id": n, "n": 0})]
    expected = [*whole[settled:], "between", {"id": 9, "n": 0}]
    if afterwards is None:
        expected = [each for each in expected if isinstance(each, dict)]
    assert before == whole[:settled]
    assert rest == expected


def test_messages_that_are_asked_for_later_begin_there(database):
    execute(database, ROWS)
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
    with psycopg.connect(database) as connection:
        connection.execute(emit("early"))
        connection.execute("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)")
    with flow.open() as reading:
        reading.take(2, limit=1)
    later = Flow(database, snapshot="never", messages=["outbox"])
    later.positions = flow.positions
    execute(database, emit("late"))
    with later.open(until_caught_up=True) as reading:
        assert [event.data for event in reading.rest()] == [{"id": 3, "n": 0}, "late"]


def test_changes_carry_the_number_of_their_transaction_where_that_is_asked_for(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1)")
    flow = Flow(database, output={"transaction": True}, messages=["outbox"])
    with flow.open() as reading:
        (read,) = reading.take(1)
        assert "transactionid" not in read.extensions
        with psycopg.connect(database) as connection:
            (xid,) = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE t SET n = 2")
            connection.execute(emit("1"))
            connection.execute("DELETE FROM t")
        execute(database, "INSERT INTO t VALUES (2, 2)")
        events = reading.take(4)
    numbers = [event.extensions["transactionid"] for event in events]
    assert numbers[:3] == [xid] * 3
    assert numbers[3] != xid


def test_our_own_messages_can_not_be_asked_for(database):
    with pytest.raises(pydantic.ValidationError, match="Penstock's own"):
        Flow(database, messages=["penstock.heartbeat"])
    execute(database, ROWS)
    flow = Flow(database, snapshot="never", messages=["*"], heartbeat="100ms")
    with flow.open() as reading:
        reading.started()
        execute(database, emit("mine", "mine"))
        assert shown(reading.take(1)) == [("MESSAGE", "mine.message", "mine")]
