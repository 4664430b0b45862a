"""Many rows through the CDC reader alone: a table copied, read again, or one large transaction.

python -m benchmarks.cdc_rows copy|again|transaction [--count 1000000] [--connections 4] [--link 5]

`--connections` is snapshot_parallelism; `--link` lets each connection have so many megabytes a second.
Prints rows per second, CPU per row, and the memory that the process grew by; what a step would read
of an event (data, key, id, type) is made.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.cdc import ROWS, TABLE
from connectors.contracts import Opening, Shard, SnapshotRequest
from connectors.postgres_cdc import POSTGRES_CDC
from connectors.postgres_cdc.reader import PostgresCdcReader
from connectors.postgres_cdc.source import PostgresCdcSource
from penstock.embedded.postgres import PostgresServer
from tests.services.fixtures import open_folder
from tests.services.toxiproxy import Toxiproxy


def take(reader: PostgresCdcReader, rows: int) -> None:
    """Read so many rows."""
    count = 0
    while count < rows:
        batch = reader.poll(1000, 0.5)
        if batch is None:
            continue
        for name in ("raw", "key", "id", "type"):
            batch.column(name)
        count += batch.size
        reader.acknowledge(batch.after)


def peak() -> int:
    """Return the most memory this process has had, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def slowed(server: PostgresServer, dsn: str, megabytes: float) -> Iterator[str]:
    """Give the address of the database behind a link of so many megabytes a second a connection."""
    if not megabytes:
        yield dsn
        return
    with open_folder() as folder, Toxiproxy.start(folder) as toxiproxy:
        proxy = toxiproxy.proxy(f"127.0.0.1:{server.port}")
        proxy.limit(int(megabytes * 1000))
        yield make_conninfo(dsn, port=proxy.port)


def measure(dsn: str, what: str, rows: int, *, connections: int, link: str) -> str:
    """Run one and return the line that says how it went; `link`: where the reader connects to."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("CREATE PUBLICATION bench FOR TABLE orders")
        if what == "transaction":
            connection.execute("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')")
        connection.execute(ROWS, (1, rows))
    settings = POSTGRES_CDC.settings.model_validate(
        {
            "connection": link,
            "snapshot_parallelism": connections,
            "slot_name": "bench",
            "tables": [{"table": "orders"}],
            "snapshot": "never" if what == "transaction" else "initial",
        }
    )
    before = peak()
    source = PostgresCdcSource("bench", settings)  # type: ignore[arg-type]  # the model it is of
    with closing(source.open(Opening(Shard(), {}))) as reader:
        if what == "again":
            take(reader, rows)
            reader.want_snapshots([SnapshotRequest(1, ())])
        wall, cpu = time.monotonic(), time.process_time()
        take(reader, rows)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    grown = (peak() - before) / 1000
    return f"{what}: {rows / wall:,.0f} rows/s, {cpu / rows * 1e6:.1f} us of CPU a row, {grown:.0f} MB more"


def main() -> None:
    """Run what the command line says."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=["copy", "again", "transaction"])
    options.add_argument("--count", type=int, default=1_000_000)
    options.add_argument("--connections", type=int, default=1)
    options.add_argument("--link", type=float, default=0.0)
    given = options.parse_args()
    with open_folder() as folder, PostgresServer.start(folder) as server:
        dsn = server.create_database("bench")
        with slowed(server, dsn, given.link) as link:
            line = measure(dsn, given.what, given.count, connections=given.connections, link=link)
    print(line)


if __name__ == "__main__":
    main()
