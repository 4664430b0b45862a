"""The promises of connectors.contracts, kept by the stream and by the snapshot."""

from __future__ import annotations

import psycopg
import pytest

from connectors.testing import SourceConformance
from tests.connectors.postgres_cdc.cdc import Flow, execute, number


class StreamUnderTest:
    """Three rows that are updated in turn; the slot is there before the first change."""

    def __init__(self, dsn):
        execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, n int)")
        self.flow = Flow(dsn, snapshot="never")
        self.source = self.flow.source
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


class SnapshotUnderTest:
    """A table that is filled; what is read first are the rows there are."""

    def __init__(self, dsn):
        execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
        self.flow = Flow(dsn)
        self.source = self.flow.source
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
    def subject(self, database):
        return StreamUnderTest(database)


@pytest.mark.postgres
class TestSnapshot(SourceConformance):
    @pytest.fixture
    def subject(self, database):
        return SnapshotUnderTest(database)


@pytest.mark.postgres
class TestStreamOn16(SourceConformance):
    @pytest.fixture
    def subject(self, database16):
        return StreamUnderTest(database16)
