"""Rows into PostgreSQL: our sink beside bare loops on psycopg, in turns; rates and our own CPU time.

python -m benchmarks.postgres_sink [--rows 200000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from connectors.contracts import Outgoing, SinkOpening
from connectors.postgres import SINK_POSTGRES
from penstock.embedded.postgres import PostgresServer

BATCH = 1_000
TABLE = (
    "CREATE TABLE t (id bigint PRIMARY KEY, customer_id int, status text, total numeric,"
    " items jsonb, created_at timestamptz, note text)"
)


def row(number: int) -> bytes:
    """Return an event's data of about 300 bytes."""
    return json.dumps(
        {
            "id": number,
            "customer_id": number % 977,
            "status": "paid",
            "total": "123.45",
            "items": [{"sku": "A-1", "qty": 2}, {"sku": "B-2", "qty": 1}],
            "created_at": "2026-11-21T05:07:38.123456Z",
            "note": "x" * 150,
        }
    ).encode()


def ours(dsn: str, batches: list[list[bytes]], **config: Any) -> None:
    settings = SINK_POSTGRES.settings(connection=dsn, table="t", **config)
    sink = SINK_POSTGRES.sink("rows", settings)
    sink.open(SinkOpening({}))
    sink.settled_state()
    for turn, values in enumerate(batches):
        first = turn * BATCH
        ids = [f"{first + n:032x}" for n in range(len(values))]
        attributes: dict[str, Any] = {"id": ids, "source": "/s", "type": "t"}
        events = Outgoing(values, [None] * len(values), lambda found=attributes: found)
        assert not sink.deliver(events)
        sink.settled_state()
    sink.close()


def decoded(values: list[bytes]) -> list[tuple[Any, ...]]:
    rows = []
    for value in values:
        fields = json.loads(value)
        fields["items"] = json.dumps(fields["items"])
        rows.append(tuple(fields.values()))
    return rows


def executemany(dsn: str, batches: list[list[bytes]]) -> None:
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        for values in batches:
            cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s)", decoded(values))
            connection.commit()


def copied(dsn: str, batches: list[list[bytes]]) -> None:
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        for values in batches:
            with cursor.copy("COPY t FROM STDIN") as copy:
                for fields in decoded(values):
                    copy.write_row(fields)
            connection.commit()


Work = Callable[[str, list[list[bytes]]], None]
WORKS: dict[str, Work] = {
    "sink, insert": lambda dsn, batches: ours(dsn, batches, mode="insert"),
    "sink, upsert": ours,
    "sink, insert, no position table": lambda dsn, batches: ours(
        dsn, batches, mode="insert", position_table=None
    ),
    "psycopg, executemany": executemany,
    "psycopg, COPY": copied,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres_sink")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    batches = [
        [row(number) for number in range(first, first + BATCH)]
        for first in range(0, options.rows, BATCH)
    ]
    count = len(batches) * BATCH
    rates: dict[str, list[float]] = {name: [] for name in WORKS}
    costs: dict[str, list[float]] = {name: [] for name in WORKS}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with PostgresServer.start(folder, 18, {"max_wal_size": "4GB"}) as server:
            for _ in range(options.rounds):
                for what, work in WORKS.items():
                    with psycopg.connect(server.dsn(), autocommit=True) as connection:
                        connection.execute("DROP TABLE IF EXISTS t")
                        connection.execute(TABLE)
                    started, used = time.perf_counter(), time.process_time()
                    work(server.dsn(), batches)
                    rates[what].append(count / (time.perf_counter() - started))
                    costs[what].append((time.process_time() - used) / count * 1e6)
    print("| | rows per second | CPU µs per row, without the server's |\n|---|---|---|")
    for what in WORKS:
        print(
            f"| {what} | {statistics.median(rates[what]):,.0f} | {statistics.median(costs[what]):.1f} |"
        )


if __name__ == "__main__":
    main()
