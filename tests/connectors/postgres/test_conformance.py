"""The promises of connectors.contracts, kept by the PostgreSQL sink in each of its modes."""

from __future__ import annotations

import psycopg
import pytest

from connectors.postgres import SINK_POSTGRES
from connectors.testing import SinkConformance

pytestmark = pytest.mark.postgres


class TableUnderTest:
    """`turn` tells the order of arrival; `n` is what an event is known by."""

    def __init__(self, dsn, **config):
        self.dsn = dsn
        self.settings = SINK_POSTGRES.settings(connection=dsn, table="arrived", **config)
        key = "" if config.get("mode") == "insert" else "PRIMARY KEY"
        self.run(f"CREATE TABLE arrived (turn bigserial, n int {key}, key text)")

    def run(self, statement):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def make(self):
        return SINK_POSTGRES.sink("rows", self.settings)

    def arrived(self):
        rows = self.run("SELECT n, key FROM arrived ORDER BY turn")
        return [{"n": n, "key": key} for n, key in rows]

    def refuse(self, numbers):
        listed = ", ".join(map(str, numbers))
        self.run(f"ALTER TABLE arrived ADD CHECK (n NOT IN ({listed}))")
        return True


class TestInsert(SinkConformance):
    @pytest.fixture
    def subject(self, database):
        return TableUnderTest(database, mode="insert")


class TestUpsert(SinkConformance):
    @pytest.fixture
    def subject(self, database):
        return TableUnderTest(database, batch_size=100)


class TestMerge(SinkConformance):
    @pytest.fixture
    def subject(self, database16):
        return TableUnderTest(database16, mode="merge")
