"""Columns that change in mid-stream, as events: once, in their place, whatever is interrupted."""

from __future__ import annotations

import psycopg
import pytest

from tests.connectors.postgres_cdc.cdc import Flow, execute, on_both_versions
from tests.connectors.postgres_cdc.test_snapshot import ROWS

pytestmark = pytest.mark.postgres


def asking(database, **more):
    return Flow(database, **({"schema_changes": True} | more))


def differences(event):
    assert event.change.operation == "ALTER"
    return [event.data[name] for name in ("added", "dropped", "changed")]


def kinds(events):
    return [event.change.operation for event in events]


@on_both_versions
def test_a_change_of_columns_comes_before_the_first_row_that_has_them(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1)")
    flow = asking(database, output={"include_after": True})
    with flow.open() as reading:
        reading.take(1)
        execute(
            database,
            "INSERT INTO t VALUES (2, 2)",
            "ALTER TABLE t ADD COLUMN label varchar(10), ALTER COLUMN n TYPE bigint",
            "INSERT INTO t VALUES (3, 3, 'x')",
            "ALTER TABLE t ALTER COLUMN label TYPE varchar(20)",
            "ALTER TABLE t DROP COLUMN n",
            "UPDATE t SET label = 'y' WHERE id = 3",
        )
        events = reading.take(5)
    assert kinds(events) == ["INSERT", "ALTER", "INSERT", "ALTER", "UPDATE"]
    first, second = events[1], events[3]
    assert differences(first) == [["label"], [], ["n"]]
    assert differences(second) == [[], ["n"], ["label"]]
    assert first.data["columns"] == [
        {"name": "id", "type": "integer", "identity": True},
        {"name": "n", "type": "bigint", "identity": False},
        {"name": "label", "type": "character varying(10)", "identity": False},
    ]
    assert (first.type, first.key, first.data["schema"], first.data["table"]) == (
        "public.t.alter",
        "public.t",
        "public",
        "t",
    )
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert len({event.id for event in events}) == 5
    assert events[2].time == first.time


def test_what_is_no_change_of_columns_makes_no_event_and_neither_does_a_new_connection(database):
    execute(database, ROWS)
    flow = asking(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
        execute(
            database,
            "INSERT INTO t VALUES (1, 1)",
            "CREATE INDEX ON t (n)",
            "ALTER TABLE t ALTER COLUMN n SET DEFAULT 7, REPLICA IDENTITY FULL",
            "INSERT INTO t VALUES (2, 2)",
            "ALTER TABLE t ADD COLUMN x int",
            "ALTER TABLE t DROP COLUMN x",
            "INSERT INTO t VALUES (3, 3)",
        )
        assert kinds(reading.take(3)) == ["INSERT"] * 3
        execute(
            database,
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            f"WHERE slot_name = '{flow.slot}'",
            "INSERT INTO t VALUES (4, 4)",
        )
        assert kinds(reading.take(1)) == ["INSERT"]
    with flow.open() as reading:
        execute(database, "INSERT INTO t VALUES (5, 5)")
        assert kinds(reading.take(1)) == ["INSERT"]


def test_a_change_while_the_flow_is_stopped_comes_when_it_goes_on(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1)")
    flow = asking(database)
    with flow.open() as reading:
        reading.take(1)
        execute(database, "INSERT INTO t VALUES (2, 2)")
        reading.take(1)
    execute(database, "ALTER TABLE t RENAME COLUMN n TO m", "INSERT INTO t VALUES (3, 3)")
    with flow.open() as reading:
        changed, row = reading.take(2)
    assert differences(changed) == [["m"], ["n"], []]
    assert row.data == {"id": 3, "m": 3}


def test_a_change_between_the_snapshot_and_the_first_change_of_a_row_is_one(database):
    execute(database, ROWS, "INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = asking(database)
    with flow.open() as reading:
        reading.take(1, limit=1)
    execute(database, "ALTER TABLE t ADD COLUMN x int", "UPDATE t SET x = 1 WHERE id = 1")
    with flow.open() as reading:
        events = reading.take(3)
    assert kinds(events) == ["READ", "ALTER", "UPDATE"]
    assert differences(events[1]) == [["x"], [], []]


WHOLE = [1, "a", 2, 3, "b", 4]
"""What a transaction with two changes of columns in it holds."""


def one_transaction(database):
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO t VALUES (1, 1)")
        connection.execute("ALTER TABLE t ADD COLUMN a int")
        connection.execute("INSERT INTO t VALUES (2, 2), (3, 3)")
        connection.execute("ALTER TABLE t ADD COLUMN b int")
        connection.execute("INSERT INTO t VALUES (4, 4)")


def brief(events):
    return [
        event.data["added"][0] if event.change.operation == "ALTER" else event.data["id"]
        for event in events
    ]


@pytest.mark.parametrize("settled", range(7))
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("afterwards", [True, False])
def test_a_restart_within_a_transaction_misses_and_repeats_nothing_whatever_is_asked_for_by_then(
    database, settled, before, afterwards
):
    execute(database, ROWS)
    flow = asking(database, snapshot="never", schema_changes=before)
    with flow.open() as reading:
        reading.started()
    one_transaction(database)
    whole = WHOLE if before else [each for each in WHOLE if isinstance(each, int)]
    if settled > len(whole):
        return
    with flow.open() as reading:
        first = [event for _ in range(settled) for event in reading.take(1, limit=1)]
    later = asking(database, snapshot="never", schema_changes=afterwards)
    later.positions = flow.positions
    execute(database, "INSERT INTO t VALUES (9, 9)")
    with later.open(until_caught_up=True) as reading:
        rest = reading.rest()
    expected = [*whole[settled:], 9]
    if not afterwards:
        expected = [each for each in expected if isinstance(each, int)]
    elif not before and not settled:
        # Nothing of it was numbered yet: it is as if it had been asked for from the start.
        expected = [*WHOLE, 9]
    assert brief(first) == whole[:settled]
    assert brief(rest) == expected
    assert len({event.id for event in first + rest}) == len(first + rest)


def test_what_is_read_and_not_settled_comes_again_under_the_same_ids(database):
    execute(database, ROWS)
    flow = asking(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
        one_transaction(database)
        first = reading.take(6, settle=False)
    with flow.open() as reading:
        again = reading.take(6)
    assert brief(first) == brief(again) == WHOLE
    assert [event.id for event in first] == [event.id for event in again]
    assert [event.data for event in first] == [event.data for event in again]


def test_without_the_setting_positions_say_nothing_of_columns(database):
    execute(database, ROWS)
    flow = Flow(database, snapshot="never")
    with flow.open() as reading:
        reading.started()
        one_transaction(database)
        assert kinds(reading.take(4)) == ["INSERT"] * 4
    assert "shapes" not in flow.positions[flow.slot]
