"""Measures everything and prints the table of RESULTS.md.

python -m benchmarks [kafka] [exactly_once] [cdc] [latency] [parking] [archive] [redis] [sqs] [pubsub] [pubsub_quick] [--count 1000000] [--rounds 3] [--work jq]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import archive, cdc, kafka, latency, parking, queues
from benchmarks.harness import Figure, middle
from benchmarks.orders import WORKS
from penstock.embedded.postgres import PostgresServer
from tests.services.elasticmq import ElasticMqServer
from tests.services.kafka import KafkaBroker
from tests.services.valkey import ValkeyServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "which",
        nargs="*",
        default=["kafka", "exactly_once", "cdc", "latency", "parking", "archive"],
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="*", choices=[*WORKS], default=[*WORKS])
    options = parser.parse_args()
    if "pubsub" in options.which:
        table(queues.pubsub(options.count, options.rounds))
    if options.which == ["pubsub"]:
        return  # of a server that gives 100 messages a second, a few are enough
    if options.count % 10_000:
        parser.error("--count: a multiple of 10,000, by which the bare loops say how far they are")
    with ExitStack() as servers:
        folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another account when this runs as root
        if "redis" in options.which:
            (folder / "valkey").mkdir()
            with ValkeyServer.start(folder / "valkey") as valkey:
                table(queues.redis(valkey, options.count, options.rounds))
        if "sqs" in options.which:
            with ElasticMqServer.start(folder) as elasticmq:
                table(queues.sqs(elasticmq, options.count, options.rounds))
        if "pubsub_quick" in options.which:
            table(queues.pubsub_quick(options.count, options.rounds))
        if not {*options.which} - {"redis", "sqs", "pubsub", "pubsub_quick"}:
            return
        broker = servers.enter_context(KafkaBroker.start(folder / "kafka"))
        if "kafka" in options.which:
            table(kafka.run(broker, options.count, options.rounds, options.work))
        if "parking" in options.which:
            table(parking.run(broker, options.count, options.rounds))
        if "archive" in options.which:
            table(archive.run(broker, options.count, options.rounds, options.work))
            table(archive.read_back(folder, options.count, options.rounds))
        if "exactly_once" in options.which:
            table(kafka.exactly_once(broker, options.count, options.rounds, options.work))
        if "cdc" in options.which or "latency" in options.which:
            settings = {"max_wal_size": "8GB", "fsync": "off"}
            server = servers.enter_context(PostgresServer.start(folder / "pg", 16, settings))
            if "cdc" in options.which:
                table(cdc.run(server, broker, options.count, options.rounds))
            if "latency" in options.which:
                latency.run(server, broker)


def table(runs: Iterator[tuple[str, list[Figure]]]) -> None:
    """Print a row per figure: min / median / max of CPU, median rate, most memory."""
    print("\n| | CPU s per million: min / median / max | per second | RSS MB |\n|---|---|---|---|")
    for name, figures in runs:
        costs = sorted(figure.cpu_per_million for figure in figures)
        mid = middle(figures)
        print(
            f"| {name} | {costs[0]:.2f} / **{mid.cpu_per_million:.2f}** / {costs[-1]:.2f}"
            f" | {mid.rate:,.0f} | {mid.rss_mb:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
