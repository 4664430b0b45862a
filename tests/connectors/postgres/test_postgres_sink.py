"""sink.postgres against a real server: what becomes of values, order, refused rows and lost connections."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.postgres import SINK_POSTGRES
from connectors.testing import wait_until
from flows.runtime.sinks import evaluator

pytestmark = pytest.mark.postgres


def events(*values, first=0, **attributes):
    shared = {
        "id": [f"{n:032x}" for n in range(first, first + len(values))],
        "source": "/s",
        "type": "t",
        **attributes,
    }
    encoded = [v if v is None or isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return Outgoing(encoded, [None] * len(values), lambda: shared)


@pytest.fixture
def db(database):
    """Run SQL, and open sinks on a table."""
    opened = []

    def run(statement, *parameters):
        with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
            found = connection.execute(statement, parameters or None)
            return found.fetchall() if found.description else []

    def sink(state=None, connection=database, name="rows", flow="shop", **config):
        settings = SINK_POSTGRES.settings(connection=connection, **{"table": "t", **config})
        made = SINK_POSTGRES.sink(name, settings)
        made.open(SinkOpening(state or {}, compile_jq=evaluator, flow=flow))
        made.settled_state()  # as the runtime asks before the first event
        opened.append(made)
        return made

    yield SimpleNamespace(run=run, sink=sink, dsn=database)
    for each in opened:
        each.close()


def test_values_are_kept_to_the_digit_whatever_their_type(db):
    db.run(
        "CREATE TABLE t (id bigint PRIMARY KEY, n numeric, f float8, j jsonb, raw json, tags text[],"
        " grid int[], at timestamptz, body bytea, kind uuid, ok bool, note varchar(5), d date)"
    )
    text = (
        b'{"id":9007199254740993,"n":12345678901234567890.123456789,"f":0.1,'
        b'"j":{"a":[1,{"b":9007199254740993}]},"raw":{"x":1.10},"tags":["a","b \\"c\\"",null],'
        b'"grid":[[1,2],[3,4]],"at":"2026-11-21T05:07:38.123456Z","body":"AAH/","kind":'
        b'"6b1c4b5e-9c1c-4c1e-8d1e-0123456789ab","ok":true,"note":"h\xc3\xa4","d":null}'
    )
    assert db.sink().deliver(events(text)) == {}
    (row,) = db.run("SELECT *, n::text AS digits, raw::text AS written FROM t")
    assert row["id"] == 9007199254740993
    assert row["digits"] == "12345678901234567890.123456789"
    assert row["j"] == {"a": [1, {"b": 9007199254740993}]}
    assert row["written"] == '{"x":1.10}'
    assert (row["tags"], row["grid"]) == (["a", 'b "c"', None], [[1, 2], [3, 4]])
    assert row["at"].isoformat() == "2026-11-21T05:07:38.123456+00:00"
    assert (row["body"], row["ok"], row["note"], row["d"]) == (b"\x00\x01\xff", True, "hä", None)


def test_a_numeric_as_text_and_a_bytea_in_hex_are_taken_too(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, n numeric(12,3), body bytea)")
    assert db.sink().deliver(events({"id": 1, "n": "1234567.125", "body": "\\x00ff"})) == {}
    (row,) = db.run("SELECT n::text, body FROM t")
    assert row == {"n": "1234567.125", "body": b"\x00\xff"}


def test_a_field_that_is_left_out_keeps_its_default_and_what_was_there(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, a text DEFAULT 'x', b text)")
    sink = db.sink()
    assert sink.deliver(events({"id": 1, "b": "1"})) == {}
    assert sink.deliver(events({"id": 1, "a": "2"}, {"id": 2, "a": None}, first=1)) == {}
    assert db.run("SELECT * FROM t ORDER BY id") == [
        {"id": 1, "a": "2", "b": "1"},
        {"id": 2, "a": None, "b": None},
    ]


def test_the_events_of_a_key_in_one_batch_take_effect_in_their_order(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    changes = [
        ("INSERT", {"id": 1, "a": 1, "b": 1}),
        ("INSERT", {"id": 2, "a": 1, "b": 1}),
        ("UPDATE", {"id": 1, "a": 2, "b": 2}),
        ("UPDATE", {"id": 1, "a": 3}),  # b was not sent along
        ("DELETE", {"id": 2, "a": 1, "b": 1}),
        ("INSERT", {"id": 3, "a": 1, "b": 1}),
        ("DELETE", {"id": 3}),
        ("INSERT", {"id": 3, "a": 9, "b": 9}),
        ("DELETE", {"id": 4}),
    ]
    operations = [operation for operation, _ in changes]
    sink = db.sink(mode="merge")
    assert sink.deliver(events(*(row for _, row in changes), operation=operations)) == {}
    assert db.run("SELECT * FROM t ORDER BY id") == [
        {"id": 1, "a": 3, "b": 2},
        {"id": 3, "a": 9, "b": 9},
    ]


def test_a_delete_that_the_mode_does_not_do_fails_and_says_which_mode_does(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    failures = db.sink().deliver(events({"id": 1}, {"id": 1}, operation=["INSERT", "DELETE"]))
    assert (list(failures), failures[1].code) == ([1], "postgres_operation")
    assert "mode: merge" in failures[1].hint


def test_what_is_about_no_row_is_refused_and_writes_none(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    operations = ["INSERT", "ALTER", "TRUNCATE", "BEGIN", "END"]
    rows = [{"id": n} for n in range(1, len(operations) + 1)]
    failures = db.sink(mode="merge").deliver(events(*rows, operation=operations))
    codes = {place: error.code for place, error in failures.items()}
    assert codes == dict.fromkeys(range(1, len(operations)), "postgres_operation")
    assert db.run("SELECT * FROM t") == [{"id": 1}]


def test_an_older_event_does_not_replace_a_newer_row_nor_delete_it(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz)")
    db.run("INSERT INTO t VALUES (1, 'live', '2026-11-21T10:00:00Z'), (2, 'live', NULL)")
    sink = db.sink(mode="merge", keep_newer="at")
    old, new = "2026-11-21T09:00:00Z", "2026-11-21T11:00:00+00:00"
    assert (
        sink.deliver(
            events(
                {"id": 1, "v": "old", "at": old},
                {"id": 2, "v": "old", "at": old},
                {"id": 3, "v": "new", "at": new},
                {"id": 3, "v": "old", "at": old},
                {"id": 1, "at": old},
                operation=["READ", "READ", "READ", "READ", "DELETE"],
            )
        )
        == {}
    )
    assert db.run("SELECT id, v FROM t ORDER BY id") == [
        {"id": 1, "v": "live"},
        {"id": 2, "v": "old"},
        {"id": 3, "v": "new"},
    ]


def test_a_row_that_the_table_refuses_fails_alone_with_its_sqlstate(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 100), note varchar(3))")
    rows = [{"id": n, "n": n, "note": "abc"} for n in range(60)]
    rows[7]["n"], rows[8]["n"], rows[40]["note"] = 100, "many", "abcd"
    rows[50] = {"id": None, "n": 1, "note": ""}
    failures = db.sink(batch_size=16).deliver(events(*rows))
    assert {place: (type(e), e.code, e.context["sqlstate"]) for place, e in failures.items()} == {
        7: (PermanentError, "postgres_constraint", "23514"),
        8: (PermanentError, "postgres_value", "22P02"),
        40: (PermanentError, "postgres_value", "22001"),
        50: (PermanentError, "postgres_constraint", "23502"),
    }
    assert failures[7].context["constraint"] == "t_n_check"
    assert db.run("SELECT count(*) FROM t") == [{"count": 56}]


def test_a_constraint_that_is_checked_at_the_commit_fails_its_own_event(db):
    db.run("CREATE TABLE kinds (kind text PRIMARY KEY)")
    db.run("INSERT INTO kinds VALUES ('a')")
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, kind text REFERENCES kinds DEFERRABLE INITIALLY DEFERRED)"
    )
    rows = [{"id": n, "kind": "b" if n == 3 else "a"} for n in range(6)]
    failures = db.sink().deliver(events(*rows))
    assert (list(failures), failures[3].code) == ([3], "postgres_constraint")
    assert [row["id"] for row in db.run("SELECT id FROM t ORDER BY id")] == [0, 1, 2, 4, 5]


def test_what_failed_is_written_when_it_comes_again_though_its_batch_was_noted(db):
    db.run("CREATE TABLE t (id int, n int CHECK (n < 100))")
    sink = db.sink(mode="insert")
    state = sink.settled_state()
    assert list(sink.deliver(events({"id": 1, "n": 1}, {"id": 2, "n": 100}))) == [1]
    sink.close()
    db.run("ALTER TABLE t DROP CONSTRAINT t_n_check")
    again = db.sink(state, mode="insert")
    assert again.deliver(events({"id": 1, "n": 1}, {"id": 2, "n": 100})) == {}
    assert db.run("SELECT id FROM t ORDER BY id") == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("value", [None, b"5", b'"text"', b"[1]", b"null"])
def test_what_is_no_object_fails_alone(db, value):
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    failures = db.sink().deliver(events({"id": 1}, value, {"id": 2}))
    assert (list(failures), failures[1].code) == ([1], "postgres_no_object")
    assert len(db.run("SELECT * FROM t")) == 2


def test_a_field_without_a_column_fails_unless_it_may_be_left_out(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, half int GENERATED ALWAYS AS (id / 2) STORED)")
    strict, lenient = db.sink(), db.sink(unknown_fields="ignore")
    failures = strict.deliver(events({"id": 1, "extra": 1}, {"id": 2, "half": 9}, {"x": 1}))
    assert {k: e.code for k, e in failures.items()} == {
        0: "postgres_unknown_field",
        2: "postgres_unknown_field",
    }
    assert lenient.deliver(events({"id": 1, "extra": 1}, first=9)) == {}
    assert db.run("SELECT * FROM t ORDER BY id") == [{"id": 1, "half": 0}, {"id": 2, "half": 1}]


def test_a_column_that_is_added_or_dropped_meanwhile_is_noticed(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, a int)")
    sink = db.sink(unknown_fields="ignore")
    strict = db.sink()
    assert strict.deliver(events({"id": 1, "a": 1})) == {}
    db.run("ALTER TABLE t ADD COLUMN b int")
    assert strict.deliver(events({"id": 1, "b": 2}, first=1)) == {}
    assert sink.deliver(events({"id": 2, "a": 1, "b": 2}, first=2)) == {}
    db.run("ALTER TABLE t DROP COLUMN a")
    assert sink.deliver(events({"id": 3, "a": 1, "b": 2}, first=3)) == {}
    failures = strict.deliver(events({"id": 4, "a": 1}, first=4))
    assert failures[0].code == "postgres_unknown_field"
    assert db.run("SELECT id, b FROM t ORDER BY id") == [
        {"id": 1, "b": 2},
        {"id": 2, "b": 2},
        {"id": 3, "b": 2},
    ]


def test_columns_are_made_of_the_event_as_the_mapping_says(db):
    db.run('CREATE TABLE "Odd Name" ("a%b" text PRIMARY KEY, total bigint, kind text, whole jsonb)')
    sink = db.sink(
        table='"Odd Name"',
        columns={
            "a%b": ".data.id",
            "total": ".data.cents * 100",
            "kind": ".type",
            "whole": ".data",
        },
    )
    failures = sink.deliver(events({"id": "x", "cents": 3}, {"id": "y", "cents": {}}, type="sold"))
    assert (list(failures), failures[1].code) == ([1], "jq_error")
    (row,) = db.run('SELECT * FROM "Odd Name"')
    assert row == {"a%b": "x", "total": 300, "kind": "sold", "whole": {"id": "x", "cents": 3}}


def test_an_identity_is_copied_and_a_conflict_in_mode_insert_may_be_left_alone(db):
    db.run("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)")
    assert db.sink(mode="insert").deliver(events({"id": 7, "v": "first"})) == {}
    failures = db.sink(mode="insert").deliver(events({"id": 7, "v": "second"}, {"v": "own"}))
    assert (list(failures), failures[0].context["sqlstate"]) == ([0], "23505")
    assert db.sink(mode="insert", on_conflict="ignore").deliver(events({"id": 7, "v": "3"})) == {}
    assert [row["v"] for row in db.run("SELECT v FROM t ORDER BY v")] == ["first", "own"]


def test_what_was_written_and_not_settled_is_not_written_again_whatever_its_batches(db):
    db.run("CREATE TABLE t (id int)")
    sink = db.sink(mode="insert")
    sink.deliver(events(*({"id": n} for n in range(10))))
    state = sink.settled_state()
    sink.deliver(events(*({"id": n} for n in range(10, 30)), first=10))
    sink.deliver(events(*({"id": n} for n in range(30, 40)), first=30))
    sink.close()
    # It comes in other batches, and half-way it is killed again.
    second = db.sink(state, mode="insert")
    second.deliver(events(*({"id": n} for n in range(10, 17)), first=10))
    state = second.settled_state()
    second.deliver(events(*({"id": n} for n in range(17, 35)), first=17))
    second.close()
    third = db.sink(state, mode="insert")
    third.deliver(events(*({"id": n} for n in range(17, 50)), first=17))
    third.settled_state()
    assert [row["id"] for row in db.run("SELECT id FROM t ORDER BY id")] == list(range(50))
    assert db.run("SELECT * FROM penstock_positions WHERE batch < 0") == []
    # An event that is replayed after it was settled is another matter: its row is written.
    third.deliver(events({"id": 99}, first=20))
    assert db.run("SELECT count(*) FROM t WHERE id = 99") == [{"count": 1}]


def test_what_a_lost_writer_wrote_is_known_to_those_that_get_its_events(db):
    db.run("CREATE TABLE t (id int)")
    lost = db.sink(mode="insert")
    state = lost.settled_state()
    lost.deliver(events(*({"id": n} for n in range(10))))
    lost.close()
    settings = SINK_POSTGRES.settings(connection=db.dsn, table="t", mode="insert")
    for _ in range(2):  # it may be killed before it has said so, and do it again
        SINK_POSTGRES.sink("rows", settings).undo_unsettled(state)
    left, right = db.sink(mode="insert"), db.sink(mode="insert")
    left.deliver(events(*({"id": n} for n in range(6)), first=0))
    right.deliver(events(*({"id": n} for n in range(6, 12)), first=6))
    assert [row["id"] for row in db.run("SELECT id FROM t ORDER BY id")] == list(range(12))
    other = db.sink(mode="insert", flow="another")
    other.deliver(events({"id": 0}))
    assert db.run("SELECT count(*) FROM t WHERE id = 0") == [{"count": 2}]


def test_a_process_that_was_taken_over_from_is_stopped_and_writes_nothing(db):
    db.run("CREATE TABLE t (id int)")
    old = db.sink(mode="insert")
    state = old.settled_state()
    new = db.sink(state, mode="insert")
    error = old.deliver(events({"id": 1}))[0]
    assert (type(error), error.code) == (FatalError, "postgres_fenced")
    assert new.deliver(events({"id": 1})) == {}
    assert db.run("SELECT count(*) FROM t") == [{"count": 1}]


def test_a_commit_whose_answer_is_lost_is_not_made_twice(db, proxies):
    db.run("CREATE TABLE t (id int)")
    db.run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'"
    )
    db.run(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    port = psycopg.conninfo.conninfo_to_dict(db.dsn)["port"]
    proxy = proxies(f"127.0.0.1:{port}")
    sink = db.sink(connection=_through(db.dsn, proxy), mode="insert")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(sink.deliver(events({"id": 1}))))
    thread.start()
    committing = "SELECT 1 FROM pg_stat_activity WHERE query ILIKE 'commit%%' AND state = 'active'"
    wait_until(lambda: db.run(committing), "the commit is under way")
    proxy.cut()
    thread.join(20)
    (failures,) = answers
    assert (type(failures[0]), failures[0].code) == (RetryableError, "postgres_unavailable")
    assert sink.deliver(events({"id": 2}, first=1))[0].code == "postgres_unavailable"
    proxy.restore()
    assert sink.deliver(events({"id": 1}, {"id": 2})) == {}
    assert [row["id"] for row in db.run("SELECT id FROM t ORDER BY id")] == [1, 2]


def _through(dsn, proxy):
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://{parts['user']}@{proxy.address}/{parts['dbname']}"


def test_a_server_that_restarts_is_written_to_again(db, postgres):
    db.run("CREATE TABLE t (id int)")
    sink = db.sink(mode="insert")
    assert sink.deliver(events({"id": 1})) == {}
    postgres.kill()
    assert isinstance(sink.deliver(events({"id": 2}, first=1))[0], RetryableError)
    assert isinstance(sink.deliver(events({"id": 2}, first=1))[0], RetryableError)
    postgres.start_again()
    assert sink.deliver(events({"id": 2}, first=1)) == {}
    assert [row["id"] for row in db.run("SELECT id FROM t ORDER BY id")] == [1, 2]


def test_a_deadlock_is_tried_again_at_once(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, v int)")
    db.run("INSERT INTO t VALUES (1, 0), (2, 0)")
    sink = db.sink(batch_size=1)
    with psycopg.connect(db.dsn) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that it is the sink's that is ended
        other.execute("UPDATE t SET v = 9 WHERE id = 2")
        answers = []
        rows = events({"id": 1, "v": 1}, {"id": 2, "v": 1})
        thread = threading.Thread(target=lambda: answers.append(sink.deliver(rows)))
        thread.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: db.run(waiting), "the sink waits for the other's row")
        other.execute("UPDATE t SET v = 9 WHERE id = 1")
        other.commit()
    thread.join(30)
    assert answers == [{}]
    assert db.run("SELECT v FROM t ORDER BY id") == [{"v": 1}, {"v": 1}]


def test_a_lock_that_outlasts_the_timeout_is_retryable(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    sink = db.sink(statement_timeout="1s")
    with psycopg.connect(db.dsn) as other:
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        error = sink.deliver(events({"id": 1}))[0]
    assert (type(error), error.code) == (RetryableError, "postgres_timeout")
    assert sink.deliver(events({"id": 1})) == {}


def test_a_table_that_goes_away_stops_the_worker_and_pours_nothing_into_the_dead_letters(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    sink = db.sink()
    db.run("DROP TABLE t")
    error = sink.deliver(events({"id": 1}))[0]
    assert (type(error), error.code) == (FatalError, "postgres_refused")


@pytest.mark.parametrize(
    ("make", "config", "code", "hint"),
    [
        (None, {}, "postgres_table_missing", "unquoted names are folded"),
        ("(id int)", {}, "postgres_keys", "name the columns of a unique constraint"),
        ("(id int, b int)", {"keys": ["b"]}, "postgres_keys", 'CREATE UNIQUE INDEX ON "t" ("b");'),
        ("(id int)", {"keys": ["c"]}, "postgres_keys", "Its columns are id."),
    ],
)
def test_a_table_that_can_not_be_written_to_is_refused_with_what_to_do(
    db, make, config, code, hint
):
    if make:
        db.run(f"CREATE TABLE t {make}")
    with pytest.raises(FatalError) as caught:
        db.sink(**config)
    assert caught.value.code == code
    assert hint in caught.value.hint
    settings = SINK_POSTGRES.settings(connection=db.dsn, table="t", **config)
    failed = [check for check in SINK_POSTGRES.sink("s", settings).preflight([]) if not check.ok]
    assert [check.hint for check in failed] == [caught.value.hint]
    assert db.run("SELECT to_regclass('penstock_positions') AS made") == [{"made": None}]


def test_a_user_without_rights_is_told_what_to_grant(db):
    db.run("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)")
    role = f"writer_{psycopg.conninfo.conninfo_to_dict(db.dsn)['dbname']}"
    db.run(f"CREATE ROLE {role} LOGIN")
    try:
        dsn = make_conninfo(db.dsn, user=role)
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        url = f"postgresql://{role}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        settings = SINK_POSTGRES.settings(connection=url, table="t", columns={"id": ".data.id"})
        checks = {check.name: check for check in SINK_POSTGRES.sink("s", settings).preflight([])}
        assert "GRANT SELECT, INSERT, UPDATE ON" in checks['rights to "t"'].hint
        assert "CREATE TABLE IF NOT EXISTS" in checks["position table"].hint
        assert "n is NOT NULL" in checks["columns"].found
        db.run(f"GRANT ALL ON t TO {role}")
        with pytest.raises(FatalError) as caught:
            db.sink(connection=url)
        assert caught.value.code == "postgres_position_table"
        assert "CREATE TABLE IF NOT EXISTS" in caught.value.hint
        assert db.sink(connection=url, position_table=None).settled_state() is None
    finally:
        db.run(f"DROP OWNED BY {role}")
        db.run(f"DROP ROLE {role}")


def test_settled_batches_are_forgotten_in_time(db):
    db.run("CREATE TABLE t (id int)")
    sink = db.sink(mode="insert")
    for n in range(400):
        sink.deliver(events({"id": n}, first=n))
        sink.settled_state()
    (found,) = db.run("SELECT count(*) FROM penstock_positions")
    assert 100 <= found["count"] <= 200
    assert db.run("SELECT count(*) FROM t") == [{"count": 400}]
