"""The promises of connectors.contracts, kept by the PostgreSQL sink in each of its modes."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.postgres import SINK_POSTGRES, session
from connectors.testing import SinkConformance

pytestmark = pytest.mark.postgres


class TableUnderTest:
    """`turn` tells the order of arrival; `n` is what an event is known by."""

    def __init__(self, dsn, proxies, monkeypatch, **config):
        self.dsn = dsn
        parts = conninfo_to_dict(dsn)
        self.proxy = proxies(f"{parts['host']}:{parts['port']}")
        self.shorten = monkeypatch.setattr
        self.settings = SINK_POSTGRES.settings(connection=dsn, table="arrived", **config)
        key = "" if config.get("mode") == "insert" else "PRIMARY KEY"
        self.run(f"CREATE TABLE arrived (turn bigserial, n int {key}, key text)")

    def run(self, statement):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def make(self):
        return SINK_POSTGRES.sink("rows", self.settings)

    def make_proxied(self, **config):
        by_proxy = make_conninfo(self.dsn, host="127.0.0.1", port=self.proxy.port)
        changes = {"connection": by_proxy, **config}
        return SINK_POSTGRES.sink("rows", self.settings.model_copy(update=changes))

    def make_impatient(self):
        self.shorten(session, "SPARE", 0.5)
        return self.make_proxied(statement_timeout=1.0)

    def arrived(self):
        rows = self.run("SELECT n, key FROM arrived ORDER BY turn")
        return [{"n": n, "key": key} for n, key in rows]

    def refuse(self, numbers):
        listed = ", ".join(map(str, numbers))
        self.run(f"ALTER TABLE arrived ADD CHECK (n NOT IN ({listed}))")
        return True


class TestInsert(SinkConformance):
    @pytest.fixture
    def subject(self, database, proxies, monkeypatch):
        return TableUnderTest(database, proxies, monkeypatch, mode="insert")


class TestUpsert(SinkConformance):
    @pytest.fixture
    def subject(self, database, proxies, monkeypatch):
        return TableUnderTest(database, proxies, monkeypatch, batch_size=100)


class TestMerge(SinkConformance):
    @pytest.fixture
    def subject(self, database16, proxies, monkeypatch):
        return TableUnderTest(database16, proxies, monkeypatch, mode="merge")
