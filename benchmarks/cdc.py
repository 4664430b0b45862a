"""A backlog of inserted rows in a replication slot, drained to Kafka, beside a bare loop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count as numbers

import orjson
import psycopg

from benchmarks.harness import Figure, measure
from benchmarks.runs import count_line, received, worker_command
from penstock.embedded.postgres import PostgresServer
from tests.services.kafka import KafkaBroker

TABLE = """
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL, total numeric(10,2),
    note text, created_at timestamptz NOT NULL DEFAULT now()
)
"""
ROWS = """
INSERT INTO orders
SELECT k, k %% 10007, 'paid', (k %% 100000) / 100.0, repeat('n', 120), now()
FROM generate_series(%s::int, %s::int) k
"""
SMALL = """
DO $$ BEGIN
    FOR k IN 1..{rows} LOOP
        INSERT INTO orders SELECT k, k % 10007, 'paid', (k % 100000) / 100.0, repeat('n', 120), now();
        COMMIT;
    END LOOP;
END $$
"""
FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - name: rows
    type: source.postgres_cdc
    config: {{ connection: "{dsn}", slot_name: {slot}, snapshot: never, tables: [{{ schema: public, table: orders }}] }}
  - {{ name: out, type: sink.kafka, config: {{ brokers: "{brokers}", topic: {target}, publish_format: {format} }} }}
pipelines:
  bench:
    trigger: {{ type: event, source: rows }}
    steps: {steps}
"""
PASS = [{"name": "send", "type": "step.publish", "config": {"sink": "out"}}]
SHAPE = [
    {"name": "shape", "type": "step.python", "config": {"function": "benchmarks.cdc:shape"}},
    *PASS,
]
_slots = numbers()


def shape(row: dict[str, object]) -> dict[str, object]:
    """Return the row as the shaping step publishes it."""
    return {
        "order": row["id"],
        "customer": row["customer_id"],
        "status": str(row["status"]).upper(),
        "total": row["total"],
        "at": row["created_at"],
    }


def backlog(server: PostgresServer, rows: int, *, small: bool = False) -> tuple[str, str]:
    """Make a database with a slot that has `rows` inserts waiting; return its DSN and the slot.

    A thousand in a transaction, or one if `small`.
    """
    slot = f"bench_{next(_slots)}"
    dsn = server.create_database(slot)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(f"CREATE PUBLICATION {slot} FOR TABLE orders")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        if small:
            connection.execute("SET synchronous_commit = off")
            connection.execute(SMALL.format(rows=rows))  # type: ignore[arg-type]
            return dsn, slot
        for first in range(1, rows + 1, 1000):
            connection.execute(ROWS, (first, min(first + 999, rows)))
    return dsn, slot


def drop(server: PostgresServer, slot: str) -> None:
    """Drop the database and its slot."""
    with psycopg.connect(server.dsn(slot), autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {slot} WITH (FORCE)")


def bare(server: PostgresServer, broker: KafkaBroker, rows: int, *, small: bool = False) -> Figure:
    """Drain a backlog with the bare loop."""
    dsn, slot = backlog(server, rows, small=small)
    target = broker.create_topic()
    command = [sys.executable, "-m", "benchmarks.bare.cdc_loop"]
    figure = measure([*command, dsn, slot, slot, broker.bootstrap, target], rows, count_line)
    verify(broker, target, rows, lambda value: int(value["after"]["id"]))
    drop(server, slot)
    return figure


def penstock(
    server: PostgresServer,
    broker: KafkaBroker,
    rows: int,
    work: str,
    record: str,
    *,
    small: bool = False,
) -> Figure:
    """Drain a backlog with a worker."""
    dsn, slot = backlog(server, rows, small=small)
    target = broker.create_topic()
    with worker_command() as (folder, command):
        flow = folder / "flow.yaml"
        flow.write_text(
            FLOW.format(
                folder=folder,
                record=record,
                dsn=dsn,
                slot=slot,
                brokers=broker.bootstrap,
                target=target,
                format="cloudevents_structured",
                steps=orjson.dumps(SHAPE if work == "shape" else PASS).decode(),
            )
        )
        figure = measure(command(flow, "rows"), rows, received, report_fd=True)
    key = "order" if work == "shape" else "id"
    verify(broker, target, rows, lambda value: int(value["data"][key]))
    drop(server, slot)
    return figure


def verify(broker: KafkaBroker, target: str, rows: int, number: object) -> None:
    """Check that the target has every row once and in order."""
    messages = broker.read_all(target, rows, 120)
    found = [number(orjson.loads(message.value())) for message in messages]
    if found != list(range(1, rows + 1)):
        raise SystemExit(f"{target}: rows missing, repeated or out of order ({len(found)})")


def run(
    server: PostgresServer, broker: KafkaBroker, rows: int, rounds: int
) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs; contenders alternate."""
    few = rows // 4
    contenders = {
        "CDC: bare loop": lambda: bare(server, broker, rows),
        "CDC pass: Penstock, history off": lambda: penstock(server, broker, rows, "pass", "off"),
        "CDC shape: Penstock, history full": lambda: penstock(
            server, broker, rows, "shape", "full"
        ),
        "CDC, a row a transaction: bare loop": lambda: bare(server, broker, few, small=True),
        "CDC, a row a transaction, pass: Penstock, history off": lambda: penstock(
            server, broker, few, "pass", "off", small=True
        ),
    }
    runs: dict[str, list[Figure]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            runs[name].append(contender())
    yield from runs.items()
