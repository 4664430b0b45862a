"""From just before INSERT to a Kafka consumer, at 1,000 rows a second, beside the bare loop.

Insert and commit are inside, the first tenth is left out. Everything on: full history, one step.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import orjson
import psycopg
from confluent_kafka import Consumer, TopicPartition

from benchmarks import cdc
from benchmarks.harness import cpu_seconds, rss_mb
from benchmarks.runs import worker_command
from penstock.embedded.postgres import PostgresServer
from tests.services.kafka import KafkaBroker

SECONDS, RATE = 15, 1000


def run(server: PostgresServer, broker: KafkaBroker) -> None:
    """Print p50, p90, p99 in milliseconds of the bare loop and of Penstock."""
    print("\n| | p50 ms | p90 | p99 | CPU % | RSS MB |\n|---|---|---|---|---|---|")
    for name in ("bare loop", "Penstock, shape, history full"):
        print(f"| CDC latency: {name} | {_measure(server, broker, name)} |", flush=True)


def _measure(server: PostgresServer, broker: KafkaBroker, name: str) -> str:
    dsn, slot = cdc.backlog(server, 1000)
    target = broker.create_topic()
    with worker_command() as (folder, command):
        number: Callable[[dict], int]
        if name == "bare loop":
            words = [sys.executable, "-m", "benchmarks.bare.cdc_loop"]
            words += [dsn, slot, slot, broker.bootstrap, target]
            number = lambda value: int(value["after"]["id"])  # noqa: E731
        else:
            flow = folder / "flow.yaml"
            flow.write_text(
                cdc.FLOW.format(
                    folder=folder,
                    record="full",
                    dsn=dsn,
                    slot=slot,
                    brokers=broker.bootstrap,
                    target=target,
                    format="cloudevents_structured",
                    steps=orjson.dumps(cdc.SHAPE).decode(),
                )
            )
            words = [word.replace("REPORT_FD", "2") for word in command(flow, "rows")]
            number = lambda value: int(value["data"]["order"])  # noqa: E731
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _latencies(broker, target, dsn, number, process)
        finally:
            process.terminate()
            process.wait(30)
            cdc.drop(server, slot)


def _latencies(
    broker: KafkaBroker,
    target: str,
    dsn: str,
    number: Callable[[dict], int],
    process: subprocess.Popen[bytes],
) -> str:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "latency",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 1,
            "fetch.queue.backoff.ms": 1,
        }
    )
    consumer.assign([TopicPartition(target, 0, 0)])
    seen: dict[int, float] = {}
    sent: dict[int, float] = {}
    total = SECONDS * RATE
    ready = threading.Event()

    def read() -> None:
        deadline = time.monotonic() + SECONDS + 60
        while len(seen) < 1000 + total and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.0005):
                seen[number(orjson.loads(message.value()))] = time.monotonic()
            if len(seen) >= 1000:
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    if not ready.wait(60):
        raise SystemExit("the backlog never came")
    with psycopg.connect(dsn, autocommit=True) as connection:
        cpu = cpu_seconds(process.pid)
        begin = time.monotonic()
        for turn in range(total):
            wait = begin + turn / RATE - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sent[1001 + turn] = time.monotonic()
            connection.execute(
                "INSERT INTO orders VALUES (%s, 1, 'paid', 1.5, 'x', now())",
                (1001 + turn,),
                prepare=True,
            )
        spent = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - begin)
    reader.join()
    consumer.close()
    missing = set(sent) - set(seen)
    if missing:
        raise SystemExit(f"{len(missing)} rows never came")
    late = sorted((seen[k] - sent[k]) * 1000 for k in sent if k > 1000 + total // 10)
    p50, p90, p99 = (late[int(len(late) * q)] for q in (0.5, 0.9, 0.99))
    return f"{p50:.1f} | {p90:.1f} | {p99:.1f} | {spent * 100:.0f} | {rss_mb(process.pid):.0f}"
