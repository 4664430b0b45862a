"""What an event says of a row: identities, TOAST, key changes, TRUNCATE, partitions, filters."""

from __future__ import annotations

import pytest

from connectors.errors import FatalError
from tests.connectors.postgres_cdc.cdc import Flow, execute, fetch, on_both_versions, simple

pytestmark = pytest.mark.postgres

BIG = "x" * 5000
TABLE = (
    "CREATE TABLE t (id int NOT NULL, code int NOT NULL, name text, big text)",
    "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
    "CREATE UNIQUE INDEX by_code ON t (code)",
)
IDENTITIES = {
    "default": "ALTER TABLE t ADD PRIMARY KEY (id)",
    "index": "ALTER TABLE t REPLICA IDENTITY USING INDEX by_code",
    "full": "ALTER TABLE t ADD PRIMARY KEY (id), REPLICA IDENTITY FULL",
}
KEYS = {"default": "public.t/1", "index": "public.t/7", "full": "public.t/1"}


def started(database, *statements, **more):
    """Return a flow whose slot is there, before anything has changed."""
    execute(database, *statements)
    flow = Flow(database, snapshot="never", **more)
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
    return flow


@on_both_versions
@pytest.mark.parametrize("identity", IDENTITIES)
def test_each_identity_gives_as_much_of_the_old_row_as_the_wal_has(database, identity):
    flow = started(database, *TABLE, IDENTITIES[identity])
    execute(
        database,
        f"INSERT INTO t VALUES (1, 7, 'a', '{BIG}')",
        "UPDATE t SET name = 'b'",
        "DELETE FROM t",
    )
    with flow.open() as reading:
        insert, update, delete = reading.take(3)
    whole = {"id": 1, "code": 7, "name": "a", "big": BIG}
    assert insert.data == whole
    assert insert.change.before is None
    keys = {"default": {"id": 1}, "index": {"code": 7}}
    if identity == "full":
        assert update.change.before == whole
        assert update.data == whole | {"name": "b"}
        assert "unchangedtoast" not in update.extensions
        assert delete.data == whole | {"name": "b"}
    else:
        # The big value did not change and is not in the WAL: left out and named, never null.
        assert update.change.before is None
        assert update.data == {"id": 1, "code": 7, "name": "b"}
        assert update.extensions["unchangedtoast"] == "big"
        assert delete.data == keys[identity]
    assert delete.change.after is None
    assert {event.key for event in (insert, update, delete)} == {KEYS[identity]}


@on_both_versions
def test_a_changed_toast_value_is_sent_whole(database):
    flow = started(database, *TABLE, IDENTITIES["default"])
    execute(database, f"INSERT INTO t VALUES (1, 7, 'a', '{BIG}')", "UPDATE t SET big = big || 'y'")
    with flow.open() as reading:
        _, update = reading.take(2)
    assert update.data["big"] == BIG + "y"
    assert "unchangedtoast" not in update.extensions


def test_identity_nothing_is_refused_where_updates_are_asked_for_and_fine_for_inserts(database):
    execute(database, *TABLE, "ALTER TABLE t ADD PRIMARY KEY (id), REPLICA IDENTITY NOTHING")
    with pytest.raises(FatalError) as raised, Flow(database).open():
        pass
    assert raised.value.code == "replica_identity_missing"
    assert 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL' in raised.value.hint
    flow = Flow(database, snapshot="never", filter={"operations": ["INSERT"]})
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
        # The publication sends inserts only, so that nothing else is refused by the server.
        execute(database, "INSERT INTO t VALUES (1, 7)", "UPDATE t SET code = 8", "DELETE FROM t")
        (insert,) = reading.take(1)
    assert insert.key == "public.t/1"


def test_a_changed_key_is_one_update_whose_before_has_the_old_key(database):
    flow = started(database, *TABLE, IDENTITIES["default"])
    execute(database, f"INSERT INTO t VALUES (1, 7, 'a', '{BIG}')", "UPDATE t SET id = 2")
    with flow.open() as reading:
        _, update = reading.take(2)
    assert update.change.before == {"id": 1}
    assert update.key == "public.t/2"
    assert update.data == {"id": 2, "code": 7, "name": "a"}


def test_keys_of_several_columns_do_not_collide(database):
    flow = started(database, "CREATE TABLE t (a text, b text, PRIMARY KEY (a, b))")
    execute(database, "INSERT INTO t VALUES ('x/y', 'z'), ('x', 'y/z'), ('x%2Fy', 'z')")
    with flow.open() as reading:
        keys = [event.key for event in reading.take(3)]
    assert keys == ["public.t/x%2Fy/z", "public.t/x/y%2Fz", "public.t/x%252Fy/z"]


def test_truncate_is_one_event_per_table_about_the_table(database):
    flow = started(
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE u (id int PRIMARY KEY REFERENCES t)",
        tables=("t", "u"),
    )
    execute(database, "INSERT INTO t VALUES (1)", "TRUNCATE t CASCADE")
    with flow.open() as reading:
        insert, *truncates = reading.take(3)
    assert insert.data == {"id": 1}
    assert {event.subject for event in truncates} == {"public.t", "public.u"}
    assert {(event.type, event.data) for event in truncates} == {
        ("public.t.truncate", None),
        ("public.u.truncate", None),
    }


def test_partitions_appear_as_their_table_in_the_copy_and_in_the_stream(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        "INSERT INTO t VALUES (11, 'b'), (1, 'a')",
    )
    flow = Flow(database)
    with flow.open() as reading:
        assert simple(reading.take(2)) == [
            ("READ", {"id": 1, "v": "a"}),
            ("READ", {"id": 11, "v": "b"}),
        ]
        execute(
            database,
            "INSERT INTO t VALUES (2, 'c')",
            "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (30)",
            "INSERT INTO t VALUES (21, 'd')",
            "UPDATE t SET id = 12 WHERE id = 2",
        )
        events = reading.take(4)
    assert {event.type.rpartition(".")[0] for event in events} == {"public.t"}
    assert simple(events) == [
        ("INSERT", {"id": 2, "v": "c"}),
        ("INSERT", {"id": 21, "v": "d"}),
        # The server moves a row to another partition by deleting and inserting it.
        ("DELETE", {"id": 2}),
        ("INSERT", {"id": 12, "v": "c"}),
    ]


def test_columns_and_where_hold_in_the_copy_and_in_the_stream(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, total int, secret text)",
        "INSERT INTO t VALUES (1, 5, 's'), (2, -5, 's')",
    )
    table = {"table": "t", "columns": ["id", "total"], "where": "id > 0 AND id < 100"}
    with Flow(database, [table]).open() as reading:
        reading.take(2)
        execute(
            database,
            "INSERT INTO t VALUES (3, 7, 's'), (200, 7, 's')",
            "UPDATE t SET secret = 'x' WHERE id = 3",
            "UPDATE t SET id = 300 WHERE id = 3",
        )
        assert simple(reading.take(3)) == [
            ("INSERT", {"id": 3, "total": 7}),
            ("UPDATE", {"id": 3, "total": 7}),
            ("DELETE", {"id": 3}),
        ]


def test_a_snapshot_reads_only_rows_that_the_publication_sends(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, total int)",
        "INSERT INTO t VALUES (1, 5), (2, -5), (101, 5)",
    )
    with Flow(database, [{"table": "t", "where": "id < 100 OR id IS NULL"}]).open() as reading:
        assert [event.data["id"] for event in reading.take(2)] == [1, 2]


def test_a_schema_change_in_mid_stream_gives_the_rows_their_new_shape(database):
    flow = started(database, "CREATE TABLE t (id int PRIMARY KEY, a int)")
    execute(
        database,
        "INSERT INTO t VALUES (1, 10)",
        "CREATE TYPE mood AS ENUM ('ok', 'sad')",
        "ALTER TABLE t ADD b mood[] DEFAULT '{ok}'",
        "INSERT INTO t VALUES (2, 20, '{sad,ok}')",
        "ALTER TABLE t DROP a, ALTER id TYPE bigint",
        "INSERT INTO t VALUES (9007199254740993, '{}')",
        "ALTER TABLE t RENAME b TO moods",
        "UPDATE t SET moods = NULL WHERE id = 2",
    )
    with flow.open() as reading:
        assert [event.data for event in reading.take(4)] == [
            {"id": 1, "a": 10},
            {"id": 2, "a": 20, "b": ["sad", "ok"]},
            {"id": 9007199254740993, "b": []},
            {"id": 2, "moods": None},
        ]


def test_only_the_operations_asked_for_become_events_and_the_slot_moves_past_the_others(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        # Made by somebody else: it sends more than is asked for here.
        "CREATE TABLE other (id int PRIMARY KEY)",
        "CREATE PUBLICATION shared FOR ALL TABLES WITH (publish_via_partition_root = true)",
    )
    flow = Flow(database, snapshot="never", publication="shared", filter={"operations": ["DELETE"]})
    with flow.open() as reading:
        while not flow.positions:
            reading.idle()
        execute(
            database,
            "INSERT INTO t VALUES (1)",
            "INSERT INTO other VALUES (1)",
            "DELETE FROM t",
        )
        assert simple(reading.take(1)) == [("DELETE", {"id": 1})]
        execute(database, "INSERT INTO t SELECT generate_series(1, 1000)")
        ((before,),) = fetch(database, "SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        while flow.confirmed() < before:
            reading.idle()


def test_a_condition_compares_the_old_row_with_the_new_one(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, status text, at timestamptz, n numeric)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 'new'), (2, NULL)",
    )
    flow = Flow(database, filter={"condition": "OLD.status IS DISTINCT FROM NEW.status"})
    with flow.open() as reading:
        assert [event.data["id"] for event in reading.take(1)] == [1]
        execute(
            database,
            "UPDATE t SET n = 1.50",
            "UPDATE t SET status = 'paid' WHERE id = 2",
            "INSERT INTO t VALUES (3, NULL)",
            "DELETE FROM t WHERE id = 2",
        )
        events = reading.take(2)
    assert [(event.change.operation, event.data["id"]) for event in events] == [
        ("UPDATE", 2),
        ("DELETE", 2),
    ]


def test_a_condition_on_the_old_row_without_replica_identity_full_is_refused_with_the_sql(database):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, status text)")
    flow = Flow(database, filter={"condition": "OLD.status <> NEW.status"})
    with pytest.raises(FatalError) as raised, flow.open():
        pass
    assert raised.value.code == "old_row_unavailable"
    assert raised.value.hint == 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL;'
    assert any(raised.value.message == check.found for check in flow.checks() if not check.ok)


@pytest.mark.parametrize(
    ("output", "insert", "update", "delete"),
    [
        (
            {"include_before": True, "include_after": True},
            {"before": None, "after": {"id": 1, "v": 1}},
            {"before": {"id": 1, "v": 1}, "after": {"id": 1, "v": 2}},
            {"before": {"id": 1, "v": 2}, "after": None},
        ),
        (
            {"include_before": True},
            {"before": None},
            {"before": {"id": 1, "v": 1}},
            {"before": {"id": 1, "v": 2}},
        ),
        ({}, {"id": 1, "v": 1}, {"id": 1, "v": 2}, {"id": 1, "v": 2}),
    ],
)
def test_data_is_the_row_or_what_the_output_asks_for(database, output, insert, update, delete):
    flow = started(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        output=output,
    )
    execute(database, "INSERT INTO t VALUES (1, 1)", "UPDATE t SET v = 2", "DELETE FROM t")
    with flow.open() as reading:
        assert [event.data for event in reading.take(3)] == [insert, update, delete]


def test_an_event_carries_the_attributes_of_its_change(database):
    flow = started(database, "CREATE TABLE t (id int PRIMARY KEY)")
    execute(database, "INSERT INTO t VALUES (1), (2)")
    ((name,),) = fetch(database, "SELECT current_database()")
    with flow.open() as reading:
        first, second = reading.take(2)
    assert first.source == f"/postgres/{name}/{flow.slot}"
    slot, lsn, ordinal = first.id.split(":")
    assert (slot, ordinal) == (flow.slot, "1")
    assert second.id == f"{slot}:{lsn}:2"
    assert first.type == "public.t.insert"
    assert first.subject == first.extensions["partitionkey"] == "public.t/1"
    assert first.extensions["sequence"] == f"{lsn}/00000001" < second.extensions["sequence"]
    assert first.extensions["operation"] == "INSERT"
    assert first.time == second.time
    assert first.time.endswith("Z")
