"""`step.db_query` and `step.db_exec` on a real PostgreSQL and on SQLite."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from pydantic import ValidationError

from connectors.errors import FatalError, PermanentError, RetryableError
from tests.flows.runtime.running import wait_for
from tests.transforms.steps.calling import calling
from transforms.executions import UNSET
from transforms.steps.db import DB_EXEC, DB_QUERY


class Shop:
    """A database with orders 1 to 3 and ways to ask it."""

    def __init__(self, url, ask, query, execute):
        self.url = url
        self.ask = ask
        self._query = query
        self._execute = execute

    def query(self, query, *params, data=({},), keys=None, **config):
        config = {"database": self.url, "query": query, "params": list(params), **config}
        return self._query(config, list(data), keys=keys)

    def execute(self, query, *params, data=({},), keys=None, **config):
        config = {"database": self.url, "query": query, "params": list(params), **config}
        return self._execute(config, list(data), keys=keys)


TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL CHECK (total >= 0), note text);
INSERT INTO orders VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, NULL);
CREATE TABLE log (n int, what text);
"""


@pytest.fixture
def steps():
    with calling(DB_QUERY) as query, calling(DB_EXEC) as execute:
        yield query, execute


@pytest.fixture
def postgres_shop(database, steps):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLES)
        yield Shop(database, lambda sql: connection.execute(sql).fetchall(), *steps)


@pytest.fixture
def sqlite_shop(tmp_path, steps):
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(TABLES)
        yield Shop(f"sqlite:///{path}", lambda sql: connection.execute(sql).fetchall(), *steps)


@pytest.fixture(params=["postgres_shop", "sqlite_shop"])
def shop(request):
    return request.getfixturevalue(request.param)


def test_a_query_gives_each_event_its_rows(shop):
    found, executions = shop.query(
        "SELECT id, note FROM orders WHERE id >= ? ORDER BY id",
        "{{ .data.from }}",
        data=[{"from": 2}, {"from": 9}],
    )

    assert executions.failures == {}
    assert found == [[{"id": 2, "note": "two"}, {"id": 3, "note": None}], []]
    assert executions.steps_view(0)["shown"]["count"] == 2


def test_mode_single_gives_the_first_row_and_says_whether_there_is_one(shop):
    found, executions = shop.query(
        "SELECT id FROM orders WHERE id >= $1 ORDER BY id",
        "{{ .data }}",
        data=[2, 9],
        mode="single",
    )

    assert found == [{"id": 2}, None]
    seen = [executions.steps_view(k)["shown"] for k in (0, 1)]
    assert [(one["found"], one["row"]) for one in seen] == [(True, {"id": 2}), (False, None)]


@pytest.mark.parametrize(
    "value",
    ["x'; DROP TABLE orders; --", "?", "$1", "%s", "{{ .data }}", 'quo"ted', "é☃", "\\", ""],
)
def test_values_are_bound_whatever_they_hold(shop, value):
    shop.execute(
        "UPDATE orders SET note = ? WHERE id = ?", "{{ .data.note }}", 1, data=[{"note": value}]
    )

    found, _ = shop.query("SELECT note FROM orders WHERE note = ?", "{{ .data }}", data=[value])

    assert found == [[{"note": value}]]
    assert len(shop.ask("SELECT 1 FROM orders")) == 3


def test_an_exec_says_how_many_rows_it_changed(shop):
    found, executions = shop.execute(
        "UPDATE orders SET total = total + 1 WHERE id <= ?", "{{ .data }}", data=[2, 0]
    )

    assert found == [{"affected_rows": 2}, {"affected_rows": 0}]
    assert executions.steps_view(0)["shown"]["affected_rows"] == 2
    assert shop.ask("SELECT total FROM orders ORDER BY id") == [(11,), (21,), (30,)]


def test_returning_gives_the_rows(shop):
    found, executions = shop.execute(
        "INSERT INTO orders (id, total) VALUES ($1, $1 * 10) RETURNING id, total",
        "{{ .data }}",
        data=[7, 8],
        returning=True,
    )

    assert found == [[{"id": 7, "total": 70}], [{"id": 8, "total": 80}]]
    assert executions.steps_view(1)["shown"]["affected_rows"] == 1


def test_an_event_that_fails_undoes_nothing_of_the_others(shop):
    data = [{"id": n, "total": -1 if n == 105 else n} for n in range(100, 110)]
    found, executions = shop.execute(
        "INSERT INTO orders (id, total) VALUES (?, ?)",
        "{{ .data.id }}",
        "{{ .data.total }}",
        data=[*data, {"id": 1, "total": 1}],
    )

    assert sorted(executions.failures) == [5, 10]
    for error in executions.failures.values():
        assert isinstance(error, PermanentError)
        assert error.code == "db_constraint"
    assert found[5] is UNSET
    kept = [row[0] for row in shop.ask("SELECT id FROM orders WHERE id >= 100 ORDER BY id")]
    assert kept == [n for n in range(100, 110) if n != 105]


def test_statements_of_one_key_take_effect_in_order(shop):
    keys = [f"k{n % 5}" for n in range(300)]
    data = [{"key": int(key[1:]), "n": n} for n, key in enumerate(keys)]
    shop.execute(
        "INSERT INTO orders (id, total) VALUES (?, 0)", "{{ .data }}", data=[10, 11, 12, 13, 14]
    )

    _, executions = shop.execute(
        "UPDATE orders SET total = ? WHERE id = ? + 10",
        "{{ .data.n }}",
        "{{ .data.key }}",
        data=data,
        keys=keys,
    )

    assert executions.failures == {}
    last = shop.ask("SELECT total FROM orders WHERE id >= 10 ORDER BY id")
    assert last == [(295,), (296,), (297,), (298,), (299,)]


def test_a_query_can_change_nothing(shop):
    _, executions = shop.query("DELETE FROM orders")

    assert executions.failures[0].code == "db_read_only"
    assert "step.db_exec" in executions.failures[0].hint
    assert len(shop.ask("SELECT 1 FROM orders")) == 3


@pytest.mark.parametrize("sql", ["SELECT nothing FROM orders", "SELEKT 1", "SELECT 1 FROM nowhere"])
def test_a_statement_that_is_wrong_is_permanent(shop, sql):
    _, executions = shop.query(sql)

    assert isinstance(executions.failures[0], PermanentError)
    assert executions.failures[0].code == "db_statement"


def test_more_rows_than_allowed_and_columns_of_one_name_are_refused_and_not_dropped(shop):
    _, many = shop.query("SELECT id FROM orders", max_rows=2)
    exact, _ = shop.query("SELECT id FROM orders", max_rows=3)
    _, twice = shop.query("SELECT id, total AS id FROM orders")

    assert many.failures[0].code == "db_too_many_rows"
    assert len(exact[0]) == 3
    assert twice.failures[0].code == "db_columns"


def test_an_error_that_the_flow_ignores_is_the_output(shop):
    found, executions = shop.execute(
        "INSERT INTO orders (id, total) VALUES (?, 1)",
        "{{ .data }}",
        data=[1, 50],
        ignore_error=True,
    )

    assert executions.failures == {}
    assert found[0]["affected_rows"] == 0
    assert found[0]["ignored_error"]["code"] == "db_constraint"
    assert found[1] == {"affected_rows": 1}


def test_a_missing_param_is_null(shop):
    assert shop.query("SELECT 1 AS one WHERE CAST(? AS text) IS NULL", "{{ .data.no }}")[0] == [
        [{"one": 1}]
    ]


def test_a_postgres_error_says_its_sqlstate_and_what_it_is_about(postgres_shop):
    _, executions = postgres_shop.execute("INSERT INTO orders VALUES (?, ?)", 1, 1)

    context = executions.failures[0].context
    assert context == {"sqlstate": "23505", "constraint": "orders_pkey", "table": "orders"}


def test_postgres_types_are_shown_to_the_digit(postgres_shop):
    found, executions = postgres_shop.query(
        """SELECT 9223372036854775807 AS big, 12345678901234567890.10 AS exact, 0.1::float8 AS f,
           'NaN'::float8 AS nan, true AS yes, '\\x00ff'::bytea AS bytes,
           '{"a": 12345678901234567890}'::jsonb AS doc, '[1]'::json AS list,
           '2026-01-31 12:00:00.5+02'::timestamptz AS at, '2026-01-31 12:00'::timestamp AS local,
           '2026-01-31'::date AS day, ARRAY[1, NULL, 3] AS ints, ARRAY[['a', 'b'], ['c,d', NULL]] AS texts,
           ARRAY[1.50] AS numerics, NULL::int AS none, '1 day'::interval AS span,
           'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid AS id"""
    )

    assert executions.failures == {}
    assert found[0] == [
        {
            "big": 9223372036854775807,
            "exact": "12345678901234567890.10",
            "f": 0.1,
            "nan": "NaN",
            "yes": True,
            "bytes": "AP8=",
            "doc": {"a": 12345678901234567890},
            "list": [1],
            "at": "2026-01-31T10:00:00.5Z",
            "local": "2026-01-31T12:00:00",
            "day": "2026-01-31",
            "ints": [1, None, 3],
            "texts": [["a", "b"], ["c,d", None]],
            "numerics": ["1.50"],
            "none": None,
            "span": "P1D",
            "id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        }
    ]


def test_numerics_are_numbers_where_the_flow_says_so(postgres_shop):
    found, _ = postgres_shop.query(
        "SELECT 12.5::numeric AS a, 12345678901234567890::numeric AS b, ARRAY[1.5] AS c",
        numeric="number",
    )

    assert found == [[{"a": 12.5, "b": 12345678901234567890, "c": [1.5]}]]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 7),
        ("bigint", 2**63 - 1),
        ("numeric", "12345678901234567890.10"),
        ("float8", 0.1),
        ("bool", False),
        ("text", "é"),
        ("jsonb", {"a": [1, None, "x"]}),
        ("jsonb", "text"),
        ("jsonb", [1, 2]),
        ("json", 5),
        ("bytea", "AP8="),
        ("int[]", [1, None, 3]),
        ("text[]", ["a", 'q"u,o', "\\", "", "NULL", None]),
        ("int[]", [[1, 2], [3, 4]]),
        ("int[]", []),
        ("jsonb[]", [{"a": 1}, [2]]),
        ("timestamptz", "2026-01-31T10:00:00.5Z"),
        ("uuid", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        ("mood", "glad"),
        ("mood[]", ["glad"]),
    ],
)
def test_a_value_comes_back_from_postgres_as_it_went_in(postgres_shop, kind, value):
    postgres_shop.query("SELECT 1 AS one")
    with psycopg.connect(postgres_shop.url, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('glad', 'sad')")
        connection.execute(f"CREATE TABLE one (v {kind})")

    found, executions = postgres_shop.execute(
        "INSERT INTO one VALUES (?) RETURNING v", "{{ .data }}", data=[value], returning=True
    )

    assert executions.failures == {}
    assert found == [[{"v": value}]]


@pytest.mark.parametrize("value", ["nul\x00", "\ud800", {"a": "\ud800"}])
def test_what_postgres_cannot_hold_fails_its_event_alone(postgres_shop, value):
    found, executions = postgres_shop.execute(
        "INSERT INTO log (what) VALUES (?)", "{{ .data.v }}", data=[{"v": value}, {"v": "fine"}]
    )

    if isinstance(value, dict):  # as JSON text it is escaped, and a text column takes it
        assert executions.failures == {}
        return
    assert executions.failures[0].code == "db_params"
    assert found[1] == {"affected_rows": 1}


def test_sqlite_values_come_back_as_they_went_in(sqlite_shop):
    data = [[2**63 - 1, 0.5, "é", None, True, {"a": [1]}, 2**70]]

    found, executions = sqlite_shop.query(
        "SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e, ? AS f, ? AS g, x'00ff' AS h",
        *[f"{{{{ .data[{n}] }}}}" for n in range(7)],
        data=data,
    )

    assert executions.failures == {}
    assert list(found[0][0].values()) == [
        2**63 - 1,
        0.5,
        "é",
        None,
        1,
        '{"a":[1]}',
        str(2**70),
        "AP8=",
    ]


SLOW = {
    "postgres_shop": "SELECT pg_sleep(20)",
    "sqlite_shop": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_statement_that_takes_too_long_is_retryable_and_the_next_is_fine(request, name):
    shop = request.getfixturevalue(name)

    _, executions = shop.query(SLOW[name], timeout="200ms")
    found, _ = shop.query("SELECT 1 AS one")

    assert isinstance(executions.failures[0], RetryableError)
    assert executions.failures[0].code == "db_timeout"
    assert found == [[{"one": 1}]]


@pytest.mark.parametrize(
    ("state", "kind", "code"),
    [
        ("40001", RetryableError, "db_conflict"),
        ("40P01", RetryableError, "db_conflict"),
        ("55P03", RetryableError, "db_conflict"),
        ("53100", RetryableError, "db_unavailable"),
        ("57P01", RetryableError, "db_unavailable"),
        ("23514", PermanentError, "db_constraint"),
        ("42501", PermanentError, "db_statement"),
        ("22003", PermanentError, "db_statement"),
        ("P0001", PermanentError, "db_statement"),
    ],
)
def test_what_may_pass_later_is_kept_apart_from_what_never_will(postgres_shop, state, kind, code):
    with psycopg.connect(postgres_shop.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{state}'; END $$"
        )

    _, executions = postgres_shop.execute("INSERT INTO log SELECT fail()", data=[1, 2])

    assert sorted(executions.failures) == [0, 1]
    for error in executions.failures.values():
        assert isinstance(error, kind)
        assert error.code == code
        assert error.context["sqlstate"] == state
        assert "as asked" in error.message


def test_statements_that_meet_another_transaction_really_are_conflicts(postgres_shop):
    """Repeatable read: the row has changed since the statement's snapshot was taken."""
    url = f"{postgres_shop.url}?options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"
    shop = Shop(url, None, postgres_shop._query, postgres_shop._execute)
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_shop.url) as other:
        other.execute("UPDATE orders SET total = 1 WHERE id = 1")
        waiting = pool.submit(shop.execute, "UPDATE orders SET total = 2 WHERE id = 1")
        wait_for(lambda: postgres_shop.ask(waits), "the statement to wait for the row")
        other.commit()
        _, executions = waiting.result(30)

    assert executions.failures[0].code == "db_conflict"
    assert executions.failures[0].context["sqlstate"] == "40001"


def test_a_busy_sqlite_is_retryable(sqlite_shop):
    with closing(sqlite3.connect(sqlite_shop.url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN IMMEDIATE")

        _, executions = sqlite_shop.execute("DELETE FROM orders", timeout="100ms")

    assert isinstance(executions.failures[0], RetryableError)
    assert executions.failures[0].code == "db_conflict"


def test_connections_are_kept_and_replaced_when_the_server_has_ended_them(postgres_shop):
    sql = "SELECT pg_backend_pid() AS pid"
    (rows,), _ = postgres_shop.query(sql)
    run, step = postgres_shop._query, postgres_shop._query.steps[0]
    (again,), _ = run({}, [{}], step=step)
    postgres_shop.ask(f"SELECT pg_terminate_backend({rows[0]['pid']})")

    (after,), executions = run({}, [{}], step=step)

    assert again == rows
    assert executions.failures == {}
    assert after != rows


def test_a_server_that_is_away_is_retryable_and_found_again(postgres_shop, database, proxies):
    shop, proxy = behind_proxy(postgres_shop, database, proxies)
    proxy.cut()

    _, executions = shop.execute("INSERT INTO log VALUES (1)", data=[1, 2])
    step = shop._execute.steps[-1]
    proxy.restore()
    found, _ = shop._execute({}, [{}], step=step)

    for error in executions.failures.values():
        assert isinstance(error, RetryableError)
        assert error.code == "db_unavailable"
    assert sorted(executions.failures) == [0, 1]
    assert found == [{"affected_rows": 1}]
    assert postgres_shop.ask("SELECT count(*) FROM log") == [(1,)]


@pytest.mark.parametrize("size", [1, 3])
def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    postgres_shop, database, proxies, monkeypatch, size
):
    monkeypatch.setattr("transforms.steps.db_postgres._GRACE", 0.2)
    monkeypatch.setattr("transforms.steps.db_postgres._CONNECT_TIMEOUT", 2)
    shop, proxy = behind_proxy(postgres_shop, database, proxies)
    shop.execute("INSERT INTO log VALUES (1)", timeout="300ms")
    step = shop._execute.steps[-1]
    taken = step._database._pool._idle[0][1]
    monkeypatch.setattr(step._database, "_usable", lambda connection: connection or taken)
    proxy.stall()

    _, executions = shop._execute({}, [{}] * size, step=step)
    monkeypatch.undo()
    proxy.restore()
    found, _ = shop._execute({}, [{}], step=step)

    assert {error.code for error in executions.failures.values()} == {"db_unavailable"}
    assert found == [{"affected_rows": 1}]


def behind_proxy(shop, database, proxies):
    info = psycopg.conninfo.conninfo_to_dict(database)
    proxy = proxies(f"{info['host']}:{info['port']}")
    url = f"postgresql://{info['user']}@127.0.0.1:{proxy.port}/{info['dbname']}"
    return Shop(url, None, shop._query, shop._execute), proxy


def test_a_login_that_is_refused_stops_the_worker_and_shows_no_password(postgres_shop, database):
    info = psycopg.conninfo.conninfo_to_dict(database)
    for url in (
        f"postgresql://nobody_here:s3cret@{info['host']}:{info['port']}/{info['dbname']}",
        f"postgresql://{info['user']}:s3cret@{info['host']}:{info['port']}/no_such_database",
    ):
        shop = Shop(url, None, postgres_shop._query, postgres_shop._execute)

        _, executions = shop.query("SELECT 1 AS one")

        error = executions.failures[0]
        assert isinstance(error, FatalError)
        assert error.code == "db_refused"
        assert "s3cret" not in f"{error} {error.context}"


def test_a_sqlite_file_that_is_not_there_stops_the_worker_and_is_not_made(sqlite_shop, tmp_path):
    shop = Shop(f"sqlite:///{tmp_path}/no.db", None, sqlite_shop._query, sqlite_shop._execute)

    _, executions = shop.query("SELECT 1 AS one")

    assert isinstance(executions.failures[0], FatalError)
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"query": "SELECT {{ .data.id }}"}, "params"),
        ({"query": "SELECT ?"}, "as many params"),
        ({"query": "SELECT 1", "params": [1]}, "as many params"),
        ({"query": "SELECT 1; SELECT 2"}, "one statement"),
        ({"query": "SELECT 1", "database": "mysql://x/y"}, "postgresql://"),
        ({"query": "SELECT 1", "database": "sqlite:///:memory:"}, "the file"),
        ({"query": "SELECT 1", "timeout": "0s"}, "greater than"),
    ],
)
def test_what_could_not_run_is_refused_at_load(config, said):
    with pytest.raises(ValidationError, match=said):
        DB_QUERY.settings.model_validate({"database": "sqlite:///x.db", **config})


def test_a_database_named_as_a_module_is_not_built_yet():
    settings = DB_QUERY.settings.model_validate({"module": "shop", "query": "SELECT 1"})

    assert settings.not_built() == ["database: the name of a module"]
