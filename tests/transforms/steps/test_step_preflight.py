"""`validate --connect` for steps: their servers are looked at, and asked for nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from connectors.errors import FatalError, RetryableError
from penstock.embedded.processes import free_port
from tests.transforms.steps.answering import serving
from tests.transforms.steps.certificates import Authority
from transforms.registry import step_type


def checks(kind, config, folder):
    """Return check → (ok, found, hint, unreachable)."""
    found = step_type(f"step.{kind}")
    settings = found.settings.model_validate(config)
    return {check.name: check for check in found.preflight(settings, folder)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def test_an_http_server_is_connected_to_and_gets_no_request(tmp_path):
    with serving() as server:
        url = f"{server.url}/orders/{{{{ .id }}}}"
        found = checks("http_call", {"url": url, "method": "POST"}, tmp_path)
        assert found["connect"].ok
        assert f"127.0.0.1:{server.port} takes connections" in found["connect"].found
        assert server.seen == []


def test_an_http_server_that_is_not_there_is_unreachable(tmp_path):
    found = checks("http_call", {"url": f"http://127.0.0.1:{free_port()}/"}, tmp_path)
    assert list(found) == ["connect"]
    assert (found["connect"].ok, found["connect"].unreachable) == (False, True)
    assert "refused" in found["connect"].found


def test_a_host_that_does_not_resolve_is_told_apart(tmp_path):
    found = checks("http_call", {"url": "https://no-such-host.invalid/x"}, tmp_path)
    assert found["connect"].unreachable
    assert "no-such-host.invalid can't be resolved" in found["connect"].found


def test_a_host_that_events_name_is_not_tried(tmp_path):
    found = checks("http_call", {"url": "https://{{ .host }}/x"}, tmp_path)
    assert found["connect"].ok
    assert "each event names its own host" in found["connect"].found


def test_tls_is_shaken_hands_on(tmp_path, authority):
    with serving(authority.server_context()) as server:
        trusted = {"url": server.url, "tls": {"ca": str(authority.ca)}}
        found = checks("http_call", trusted, tmp_path)
        assert found["tls"].ok
        assert "TLSv1.3, its certificate is good until" in found["tls"].found
        found = checks("http_call", {"url": server.url}, tmp_path)
        assert (found["connect"].ok, found["tls"].ok, found["tls"].unreachable) == (
            True,
            False,
            False,
        )
        assert "is not trusted" in found["tls"].found
        assert "tls.ca" in found["tls"].hint
        assert server.seen == []


def test_a_port_that_does_not_speak_tls_is_told(tmp_path):
    with serving() as server:
        found = checks("http_call", {"url": f"https://127.0.0.1:{server.port}/"}, tmp_path)
        assert not found["tls"].ok
        assert "the port speaks TLS" in found["tls"].hint


def test_a_proxy_and_a_token_server_are_looked_at_too(tmp_path):
    with serving() as server:
        auth = {"token_url": server.url, "client_id": "shop", "client_secret": "s3cret"}
        found = checks("http_call", {"url": server.url, "auth": auth}, tmp_path)
        assert found["token server"].ok
        proxied = {"url": "http://shop.invalid/", "proxy": server.url}
        found = checks("http_call", proxied, tmp_path)
        assert list(found) == ["proxy"]
        assert found["proxy"].ok
        assert server.seen == []


@pytest.fixture
def shop(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        yield database, connection


QUERIES = [
    ("db_query", "SELECT note FROM orders WHERE id = ?", 1),
    ("db_exec", "INSERT INTO orders VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", 2),
]


@pytest.mark.postgres
@pytest.mark.parametrize(("kind", "query", "params"), QUERIES)
def test_a_statement_is_prepared_on_postgresql_and_not_run(shop, tmp_path, kind, query, params):
    url, connection = shop
    config = {"database": url, "query": query, "params": [1] * params}
    found = checks(kind, config, tmp_path)
    assert [(name, check.ok) for name, check in found.items()] == [
        ("connect", True),
        ("statement", True),
        ("rights", True),
    ]
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.postgres
def test_a_table_that_postgresql_does_not_have_is_named(shop, tmp_path):
    found = checks("db_query", {"database": shop[0], "query": "SELECT 1 FROM ordres"}, tmp_path)
    assert not found["statement"].ok
    assert '"ordres" does not exist' in found["statement"].found


@pytest.mark.postgres
def test_a_right_that_the_role_does_not_have_is_named(shop, tmp_path):
    url, connection = shop
    info = psycopg.conninfo.conninfo_to_dict(url)
    reader = f"reader_{info['dbname']}"
    connection.execute(f"CREATE ROLE {reader} LOGIN")
    connection.execute(f"GRANT SELECT ON orders TO {reader}")
    url = f"postgresql://{reader}@{info['host']}:{info['port']}/{info['dbname']}"
    reads = checks("db_query", {"database": url, "query": "SELECT * FROM orders"}, tmp_path)
    writes = checks("db_exec", {"database": url, "query": "DELETE FROM orders"}, tmp_path)
    connection.execute(f"DROP OWNED BY {reader}")
    connection.execute(f"DROP ROLE {reader}")
    assert reads["rights"].ok
    assert (writes["statement"].ok, writes["rights"].ok) == (True, False)
    assert "permission denied for table orders" in writes["rights"].found
    assert f"GRANT {reader}" in writes["rights"].hint


@pytest.mark.postgres
def test_a_login_that_postgresql_refuses_and_a_server_that_is_away_are_told_apart(shop, tmp_path):
    info = psycopg.conninfo.conninfo_to_dict(shop[0])
    refused = f"postgresql://nobody_here@{info['host']}:{info['port']}/{info['dbname']}"
    with pytest.raises(FatalError):
        checks("db_query", {"database": refused, "query": "SELECT 1"}, tmp_path)
    away = f"postgresql://u@127.0.0.1:{free_port()}/shop"
    with pytest.raises(RetryableError):
        checks("db_query", {"database": away, "query": "SELECT 1"}, tmp_path)


@pytest.fixture
def file(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    return tmp_path / "shop.db"


@pytest.mark.parametrize(("kind", "query", "params"), QUERIES)
def test_a_statement_is_compiled_by_sqlite_and_not_run(file, tmp_path, kind, query, params):
    config = {"database": f"sqlite:///{file}", "query": query, "params": [1] * params}
    found = checks(kind, config, tmp_path)
    assert all(check.ok for check in found.values())
    assert "statement" in found
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_what_is_wrong_with_a_statement_or_a_file_of_sqlite_is_named(file, tmp_path):
    url = f"sqlite:///{file}"
    found = checks("db_query", {"database": url, "query": "SELECT 1 FROM ordres"}, tmp_path)
    assert (found["connect"].ok, found["statement"].ok) == (True, False)
    assert "no such table: ordres" in found["statement"].found
    found = checks("db_query", {"database": f"{url}x", "query": "SELECT 1"}, tmp_path)
    assert list(found) == ["connect"]
    assert not found["connect"].ok
    (tmp_path / "text.db").write_text("no database at all, but long enough to look at")
    config = {"database": f"sqlite:///{tmp_path}/text.db", "query": "SELECT 1"}
    assert not checks("db_query", config, tmp_path)["connect"].ok
