"""Finding one of ten million recorded executions, and a page of them, on SQLite and PostgreSQL.

A batch of 1,000 orders is recorded by the five steps of `benchmarks.backfill`, and copied 10,000 times with other
times. Looked up are those of a batch of their own.

python -m benchmarks.executions [--count 10000000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
from sqlalchemy import Connection, insert, literal, select

from benchmarks.backfill import BATCH, FLOW, STEPS, fill
from benchmarks.orders import SCHEMA
from flows.history.documents import timeline_document
from flows.history.finding import find_execution
from flows.history.listing import ExecutionFilter, list_executions
from flows.state.contracts import StateStore
from flows.state.database import Database, transaction
from flows.state.store import open_store
from flows.state.tables import history_chunks
from penstock.embedded.postgres import PostgresServer

ROUNDS = 200

_TIMES = ["first_time", "last_time", "recorded_at"]


def multiply(url: str, copies: int) -> None:
    """Copy the oldest chunk, a second further into the past each time."""
    at = history_chunks.c
    same = [each for each in history_chunks.columns if each.name not in {*_TIMES, "id"}]
    names = [each.name for each in same] + _TIMES

    def copy(connection: Connection) -> None:
        with transaction(connection):
            first = connection.execute(select(at.id).order_by(at.id).limit(1)).scalar_one()
            for number in range(1, copies + 1):
                earlier = [at[name] - literal(float(number)) for name in _TIMES]
                row = select(*same, *earlier).where(at.id == first)
                connection.execute(insert(history_chunks).from_select(names, row))

    with closing(Database(url, create=False)) as database:
        database.run(copy)
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE penstock_history_chunks")


def timed(what: str, call: Callable[[], object]) -> str:
    """Return a row of the table: wall clock in milliseconds."""
    call()  # the first reads the disk
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return f"| {what} | {statistics.median(took):.1f} | {took[ROUNDS * 95 // 100]:.1f} | {took[-1]:.1f} |"


def run(folder: Path, url: str, count: int) -> None:
    """Fill a state store and print how long its readers take."""
    flow = folder / "flow.yaml"
    schemas = {"order": {"version": "1.0", "type": "json", "data_schema": SCHEMA}}
    body = FLOW.format(
        folder=folder,
        brokers="127.0.0.1:1",
        target="again",
        schemas=json.dumps(schemas),
        steps=json.dumps(STEPS),
    )
    flow.write_text(body.replace(f"sqlite:///{folder}/state.db", url))
    fill(flow, 2 * BATCH)
    multiply(url, count // BATCH - 2)
    with closing(open_store(url)) as store:
        newest = list_executions(store, ExecutionFilter(flow="bench"), limit=BATCH)
        ids = [each.id for each in newest.executions]
        rng = random.Random(1)
        kind = url.partition(":")[0]
        print(timed(f"{kind}: timeline of one", lambda: _told(store, rng.choice(ids))))
        print(timed(f"{kind}: a page of 50", lambda: _page(store, ExecutionFilter(flow="bench"))))
        failed = ExecutionFilter(flow="bench", status="failed")
        print(timed(f"{kind}: a page of those that failed: none", lambda: _page(store, failed)))


def _told(store: StateStore, execution: str) -> None:
    assert timeline_document(find_execution(store, "bench", execution))["steps"]


def _page(store: StateStore, wanted: ExecutionFilter) -> None:
    list_executions(store, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executions")
    parser.add_argument("--count", type=int, default=10_000_000)
    count = parser.parse_args().count
    print(f"\n{count:,} executions; load of the machine {os.getloadavg()[0]:.1f}")
    print("| ms | median | 95 % | slowest |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another account when this runs as root
        run(folder, f"sqlite:///{folder}/state.db", count)
        settings = {"max_wal_size": "8GB", "fsync": "off"}
        with PostgresServer.start(folder / "pg", 18, settings) as server:
            run(folder, server.dsn(), count)


if __name__ == "__main__":
    main()
