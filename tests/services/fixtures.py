"""The fixtures that give a test its real servers: one of each per pytest process, made when asked.

    postgres, postgres16    PostgresServer      session
    database, database16    DSN of a database   test; dropped afterwards, with its slots
    state_database          DSN of a database   test; with the tables of a state store
    kafka                   KafkaBroker         session
    elasticmq               ElasticMqServer     session
    toxiproxy               Toxiproxy           session
    proxies                 open a Proxy        test; closed afterwards
    valkey                  ValkeyServer        session
    redis_url               URL of it, emptied  test
    pubsub                  PubsubFake          test; what others left would keep it busy
    search                  OpenSearch          session
    s3                      S3Server            session
    bucket                  name of a bucket    test
    receiver                HTTP Server         test; answers what the test says
    kafka_proxy             Proxy for clients of kafka.proxied_bootstrap, test

A test that stops a session's server starts it again. A server that can't be had fails the test.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from flows.state.store import open_store
from penstock.embedded.postgres import PostgresServer
from tests.services.elasticmq import ElasticMqServer
from tests.services.kafka import KafkaBroker
from tests.services.opensearch import OpenSearch
from tests.services.pubsub import PubsubFake
from tests.services.s3 import S3Server
from tests.services.toxiproxy import Proxy, Toxiproxy
from tests.services.valkey import ValkeyServer
from tests.transforms.steps.answering import Server, serving

SERVERS = {
    *("postgres", "postgres16", "postgresql", "postgres_shop"),
    *("database", "database16", "state_database"),
    *("kafka", "kafka_proxy", "elasticmq", "valkey", "redis_url", "pubsub", "search", "s3"),
    *("toxiproxy", "proxies"),
}
"""What starts a server that takes its time: fixtures above, and the marks and parameters that stand for them."""

_POSTGRES_SETTINGS: dict[str, str | int] = {
    "max_connections": 200,
    "max_wal_senders": 60,
    "max_replication_slots": 60,
    # A killed server keeps what the kernel has; only a power cut would lose it.
    "fsync": "off",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts a server out of `make check`."""
    for item in items:
        named = {mark.name for mark in item.iter_markers()}
        if isinstance(item, pytest.Function):
            named |= set(item.fixturenames)
            if hasattr(item, "callspec"):
                named |= {
                    value for value in item.callspec.params.values() if isinstance(value, str)
                }
        if named & SERVERS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with open_folder() as folder, PostgresServer.start(folder, 18, _POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def postgres16() -> Iterator[PostgresServer]:
    with open_folder() as folder, PostgresServer.start(folder, 16, _POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """On PostgreSQL 18, unless a test is parametrised, indirectly, with another version."""
    name = {18: "postgres", 16: "postgres16"}[getattr(request, "param", 18)]
    with fresh_database(request.getfixturevalue(name)) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def state_template(postgres: PostgresServer) -> str:
    """Name a database with the tables of a new state store: copied, they are there much sooner."""
    open_store(postgres.create_database("state_template")).close()
    return "state_template"


@pytest.fixture
def state_database(postgres: PostgresServer, state_template: str) -> Iterator[str]:
    with fresh_database(postgres, state_template) as dsn:
        yield dsn


@pytest.fixture
def database16(postgres16: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres16) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    with open_folder() as folder, KafkaBroker.start(folder) as broker:
        yield broker


@pytest.fixture(scope="session")
def search() -> Iterator[OpenSearch]:
    with open_folder() as folder, OpenSearch.running(folder) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with open_folder() as folder, S3Server.running(folder) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.create_bucket()


@pytest.fixture
def receiver() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    with open_folder() as folder, ValkeyServer.start(folder) as server:
        yield server


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> Iterator[str]:
    with valkey.client() as client:
        client.flushall()
    yield valkey.url
    valkey.start_again()  # nothing, unless the test left it stopped


@pytest.fixture(scope="session")
def elasticmq() -> Iterator[ElasticMqServer]:
    with open_folder() as folder, ElasticMqServer.start(folder) as server:
        yield server


@pytest.fixture
def pubsub() -> Iterator[PubsubFake]:
    with PubsubFake.start() as server:
        yield server


@pytest.fixture(scope="session")
def toxiproxy() -> Iterator[Toxiproxy]:
    with open_folder() as folder, Toxiproxy.start(folder) as server:
        yield server


@pytest.fixture
def proxies(toxiproxy: Toxiproxy) -> Iterator[Callable[[str], Proxy]]:
    """Call it with an upstream's host:port."""
    opened: list[Proxy] = []

    def open_proxy(upstream: str) -> Proxy:
        opened.append(toxiproxy.proxy(upstream))
        return opened[-1]

    yield open_proxy
    for proxy in opened:
        proxy.close()


@pytest.fixture
def kafka_proxy(kafka: KafkaBroker, toxiproxy: Toxiproxy) -> Iterator[Proxy]:
    proxy = toxiproxy.proxy(kafka.proxied_upstream, listen=kafka.proxied_bootstrap)
    yield proxy
    proxy.close()


@contextmanager
def fresh_database(server: PostgresServer, template: str = "template1") -> Iterator[str]:
    """Create a database, give its DSN, and drop it with all that hangs on it."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        # Files that are copied cost a third of pages that go through the WAL.
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        admin.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield server.dsn(name)
    finally:
        server.start_again()  # nothing, unless the test left it stopped
        drop_database(server, name)


def drop_database(server: PostgresServer, name: str, timeout: float = 30) -> None:
    """End its clients and walsenders, drop its slots, drop it.

    A leaked reader may reconnect while this goes on, so the door is shut first.
    """
    database = sql.Identifier(name)
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        deadline = time.monotonic() + timeout
        while True:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            try:
                admin.execute(
                    "SELECT pg_drop_replication_slot(slot_name)"
                    " FROM pg_replication_slots WHERE database = %s AND NOT active",
                    [name],
                )
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                # A walsender takes a moment to notice; a temporary slot goes by itself.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a temporary folder that the account PostgreSQL runs as under root can enter.

    pytest's own `tmp_path` is closed to it.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
