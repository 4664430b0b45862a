"""Reading a million dead letters: a filtered page, and the statistics, on SQLite and PostgreSQL.

The entries are made in a temporary store: four pipelines, a dozen kinds of failure, a thousand
tenants, one rare error and one rare tenant, failing over a week.

python -m benchmarks.dead_letters [--count 1000000]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from sqlalchemy import Connection, insert

from dlq.query import select_letters
from dlq.selection import Selection
from dlq.stats import statistics_of
from flows.state.database import Database, transaction
from flows.state.letter_filter import LetterFilter
from flows.state.store import open_store
from flows.state.tables import dead_letters
from penstock.embedded.postgres import PostgresServer

NOW, WEEK = 1_800_000_000.0, 7 * 86_400.0
CHUNK = 5_000

_KINDS = (
    ("enrich", "customer", "http_status", 30),
    ("enrich", "customer", "http_timeout", 10),
    ("enrich", "shape", "jq_failed", 10),
    ("enrich", None, "schema_invalid", 8),
    ("billing", "charge", "http_status", 20),
    ("billing", "charge", "step_timeout", 5),
    ("billing", None, "schema_invalid", 5),
    ("audit", "write", "db_constraint", 6),
    ("audit", None, "data_not_json", 2),
    ("ship", "label", "internal_error", 3),
    ("ship", "label", "http_status", 1),
)
_EVENT = (
    '{"specversion":"1.0","id":"event-%d","source":"/postgres/shop/orders","type":"%s",'
    '"datacontenttype":"application/json","data":{"id":%d,"customer_id":%d,"total":"%d.50",'
    '"note":"' + "x" * 240 + '"}}'
)

QUERIES: dict[str, LetterFilter] = {
    "all": LetterFilter(flow="shop"),
    "--pipeline": LetterFilter(flow="shop", pipeline="enrich"),
    "--error, common": LetterFilter(flow="shop", error_code="http_status"),
    "--error, rare": LetterFilter(flow="shop", error_code="row_undecodable"),
    "--step": LetterFilter(flow="shop", step="charge"),
    "--type, exact": LetterFilter(flow="shop", event_type="public.orders.insert"),
    "--type, glob": LetterFilter(flow="shop", event_type="public.orders.*"),
    "--type, glob of nothing": LetterFilter(flow="shop", event_type="private.*"),
    "--tenant, rare": LetterFilter(flow="shop", tenant="rare"),
    "--tenant, one in a thousand": LetterFilter(flow="shop", tenant="tenant-500"),
    "--since, recent": LetterFilter(flow="shop", since=NOW - 3600),
    "--until, old": LetterFilter(flow="shop", until=NOW - WEEK + 3600),
    "--pipeline --step --error": LetterFilter(
        flow="shop", pipeline="billing", step="charge", error_code="step_timeout"
    ),
    "--pipeline --error that never meet": LetterFilter(
        flow="shop", pipeline="enrich", error_code="step_timeout"
    ),
    "--step --error that never meet": LetterFilter(
        flow="shop", step="charge", error_code="schema_invalid"
    ),
    "--pipeline --type that never meet": LetterFilter(
        flow="shop", pipeline="audit", event_type="public.orders.delete"
    ),
    "--pipeline --tenant": LetterFilter(flow="shop", pipeline="ship", tenant="tenant-500"),
    "--error --tenant --type --since": LetterFilter(
        flow="shop",
        error_code="http_status",
        tenant="tenant-500",
        event_type="public.*.insert",
        since=NOW - WEEK / 2,
    ),
}


def run(folder: Path, server: PostgresServer, count: int) -> None:
    """Print the median and the slowest time of each query, in milliseconds."""
    urls = {
        "SQLite": f"sqlite:///{folder}/letters.db",
        "PostgreSQL": server.create_database("dead_letters"),
    }
    for name, url in urls.items():
        fill(url, count)
        print(f"\n| {name}, {count:,} dead letters | median ms | slowest |\n|---|---|---|")
        for what, times in measure(url):
            print(f"| {what} | {statistics.median(times):.1f} | {max(times):.1f} |", flush=True)


def fill(url: str, count: int) -> None:
    """Make the entries, and have PostgreSQL look at them as its autovacuum would."""
    open_store(url).close()
    database = Database(url, create=True)
    chance = random.Random(1)
    for start in range(0, count, CHUNK):
        rows = [_row(number, count, chance) for number in range(start, min(start + CHUNK, count))]
        database.run(lambda connection, rows=rows: _insert(connection, rows))
    database.close()
    if not url.startswith("sqlite"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE penstock_dead_letters")


def measure(url: str, rounds: int = 7) -> Iterator[tuple[str, list[float]]]:
    """Yield each question with the milliseconds that its answers took."""
    store = open_store(url, create=False)
    try:
        for what, wanted in QUERIES.items():
            selection = Selection(wanted)
            yield f"list {what}", _times(rounds, lambda s=selection: select_letters(store, s))
        everything = LetterFilter(flow="shop")
        yield "stats", _times(rounds, lambda: statistics_of(store, everything, now=NOW))
        one = LetterFilter(flow="shop", pipeline="enrich")
        yield "stats --pipeline", _times(rounds, lambda: statistics_of(store, one, now=NOW))
        yield "depth per pipeline", _times(rounds, lambda: store.letters.depths("shop"))
    finally:
        store.close()


def _times(rounds: int, ask: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        found.append((time.perf_counter() - began) * 1000)
    return found


def _insert(connection: Connection, rows: list[dict[str, object]]) -> None:
    with transaction(connection):
        connection.execute(insert(dead_letters), rows)


def _row(number: int, count: int, chance: random.Random) -> dict[str, object]:
    pipeline, step, code, _ = chance.choices(_KINDS, [kind[3] for kind in _KINDS])[0]
    if chance.random() < 0.000_02:
        step, code = None, "row_undecodable"
    kind = "orders" if pipeline in {"enrich", "billing"} else "parcels"
    event_type = f"public.{kind}.{chance.choice(('insert', 'update', 'delete'))}"
    at = NOW - WEEK + WEEK * number / count
    tenant = "rare" if number % 100_000 == 7 else f"tenant-{chance.randrange(1000)}"
    return {
        "flow": "shop",
        "id": f"0199f2a1-{number % 65536:04x}-7000-8000-{number:012x}",
        "flow_version": "3f0c9a11",
        "pipeline": pipeline,
        "step": step,
        "source": "orders",
        "partition": "slot",
        "position": f"{number:020d}",
        "event_id": f"event-{number}",
        "event_type": event_type,
        "tenant": tenant,
        "error_code": code,
        "error_kind": "permanent",
        "error_message": f"the server answered 422 for order {number}.",
        "error_hint": "Look at the body of the answer.",
        "context": '{"status":422,"url":"http://customers.internal/api/7"}',
        "attempts": 1,
        "first_failed_at": at,
        "last_failed_at": at,
        "event": _EVENT % (number, event_type, number, number % 997, number % 90),
        "outputs": '{"customer":{"id":7,"name":"Ada"}}',
        "key": str(number % 5000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dead_letters")
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another account when this runs as root
        settings: dict[str, str | int] = {"max_wal_size": "8GB", "fsync": "off"}
        with PostgresServer.start(folder / "pg", 16, settings) as server:
            run(folder, server, options.count)


if __name__ == "__main__":
    main()
