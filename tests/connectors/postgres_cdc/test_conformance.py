"""The promises of connectors.contracts, kept by the stream and by the snapshot."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.testing import Recipe, SourceConformance
from tests.connectors.postgres_cdc.cdc import Flow, execute, number


def address_of(dsn):
    parts = conninfo_to_dict(dsn)
    return f"{parts['host']}:{parts['port']}"


class StreamUnderTest:
    """Three rows that are updated in turn; the slot is there before the first change."""

    def __init__(self, dsn, proxy):
        execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, n int)")
        self.flow = Flow(dsn, snapshot="never")
        self.source = self.flow.source
        self.recipe = recipe(self.flow)
        self.proxy = proxy
        by_proxy = make_conninfo(dsn, host="127.0.0.1", port=proxy.port)
        self.proxied = Flow(by_proxy, snapshot="never", slot_name=self.flow.slot).source
        with self.flow.open() as reading:
            while reading.reader.lag()[self.flow.slot].bytes is None:
                reading.reader.poll(1, 0.1)
        self.emitted = 0
        self.commits = []

    def emit(self, count):
        with psycopg.connect(self.flow.dsn) as connection:
            for n in range(self.emitted, self.emitted + count):
                connection.execute(
                    "INSERT INTO t VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
                    [n % 3, n],
                )
            (lsn,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        self.emitted += count
        self.commits.append((number(lsn), self.emitted))

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        confirmed = self.flow.confirmed()
        return max((count for lsn, count in self.commits if lsn <= confirmed), default=0)


def recipe(flow):
    config = flow.settings.model_dump(mode="json", exclude_unset=True)
    return Recipe("source.postgres_cdc", config | {"heartbeat": "200ms"})


class SnapshotUnderTest:
    """A table that is filled; what is read first are the rows there are."""

    def __init__(self, dsn):
        execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
        self.flow = Flow(dsn)
        self.source = self.flow.source
        self.recipe = recipe(self.flow)
        self.emitted = 0

    def emit(self, count):
        last = self.emitted + count - 1
        execute(
            self.flow.dsn, f"INSERT INTO t SELECT * FROM generate_series({self.emitted}, {last})"
        )
        self.emitted += count

    def numbers(self, batch):
        return [data["id"] for data in batch.column("data")]

    def acknowledged(self):
        return None


@pytest.mark.postgres
class TestStream(SourceConformance):
    @pytest.fixture
    def subject(self, database, proxies):
        return StreamUnderTest(database, proxies(address_of(database)))


@pytest.mark.postgres
class TestSnapshot(SourceConformance):
    @pytest.fixture
    def subject(self, database):
        return SnapshotUnderTest(database)


@pytest.mark.postgres
class TestStreamOn16(SourceConformance):
    @pytest.fixture
    def subject(self, database16, proxies):
        return StreamUnderTest(database16, proxies(address_of(database16)))
