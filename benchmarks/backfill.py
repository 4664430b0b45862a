"""How fast past events are run again (`python -m benchmarks.backfill --count 1000000`).

Orders of about 440 bytes, archived and recorded (history full) by a five-step pipeline: validate, set, jq,
conditional, publish. Then the job's process, by itself: a dry run, a shadow, a live run to Kafka.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from backfill import jobs
from backfill.order import Order
from backfill.planning import prepare
from backfill.request import BackfillRequest
from benchmarks.harness import TICKS, rss_mb
from benchmarks.orders import SCHEMA, order
from connectors.batch import Batch, Position
from connectors.contracts import SinkTraits
from flows.history.plans import flow_document
from flows.plan import load_flow
from flows.runtime.assemble import assemble_branches
from flows.runtime.halt import Halt
from flows.state.archive_bodies import archive_chunk, hold
from flows.state.contracts import StateStore
from flows.state.records import Settlement
from flows.state.store import open_store
from flows.testing.capture import CaptureSink
from tests.services.kafka import KafkaBroker

START = 1_767_960_000.0
BATCH = 1000

FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - name: in
    type: source.kafka
    config: {{ brokers: "{brokers}", topic: past }}
    archive: {{ retention: 36500d, max_size: 100GB }}
  - {{ name: out, type: sink.kafka, config: {{ brokers: "{brokers}", topic: {target}, publish_format: json }} }}
schemas: {schemas}
pipelines:
  bench:
    trigger: {{ source: in }}
    steps: {steps}
"""

STEPS: list[dict[str, Any]] = [
    {"name": "valid", "type": "step.validate", "config": {"schema": "order"}},
    {
        "name": "base",
        "type": "step.set",
        "config": {"values": {"channel": "web", "customer": "{{ .data.customer_id }}"}},
    },
    {
        "name": "shape",
        "type": "step.jq",
        "config": {
            "expression": "{id: .data.order_id, customer: .steps.base.output.customer,"
            " total: ([.data.items[] | .qty * .unit_price] | add), skus: [.data.items[].sku]}"
        },
    },
    {
        "name": "route",
        "type": "step.conditional",
        "config": {"field": "data.status", "routes": {"new": "write", "paid": "write"}},
    },
    {
        "name": "write",
        "type": "step.publish",
        "config": {"sink": "out", "data_from": "steps.shape.output"},
    },
]


class _Outcomes:
    ticket = 1

    def __init__(self) -> None:
        self.settled: list[Settlement] = []

    def settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)

    def flush(self, owner: str, positions: dict[str, Position], pipeline: str) -> None:
        raise AssertionError((owner, positions, pipeline))


class _Nothing(CaptureSink):
    def deliver(self, events: Any) -> dict[int, Any]:
        del events
        return {}


def fill(flow: Path, count: int) -> None:
    """Record and archive `count` orders, one each millisecond, as a worker does it."""
    plan = load_flow([flow])
    outcomes, rng = _Outcomes(), random.Random(1)
    traits = SinkTraits(ordered=True, delivery="at_least_once", topics=True)
    bodies = [order(number, rng) for number in range(20_000)]
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(plan.state_url)))
        lease = store.acquire_lease("bench", "in/0", "filler", 3600.0)
        assert lease is not None
        store.chunks.save_version("bench", plan.version_hash, flow_document(plan), START)
        (branch,) = assemble_branches(
            plan,
            plan.source("in"),
            {"out": _Nothing(plan.sink("out"), [], traits)},
            committer=outcomes,
            halt=Halt(),
            opened=opened,
            marks={},
            parkings={},
        )
        for first in range(0, count, BATCH):
            batch = _batch(first, bodies)
            executions = branch.ingest(batch)
            branch.each(executions)
            branch.settle(executions)
            (settled,) = outcomes.settled
            settled.archived += [archive_chunk(hold(batch), "in", START)]
            store.commit(lease, "in", [settled], batch.after, {})
            outcomes.settled.clear()
        store.release_lease(lease)


def _batch(first: int, bodies: Sequence[bytes]) -> Batch:
    numbers = range(first, first + BATCH)
    columns: dict[str, Any] = {
        "raw": [bodies[n % len(bodies)] for n in numbers],
        "id": [f"past/0/{n}" for n in numbers],
        "source": ["/kafka/past"] * BATCH,
        "type": ["past.message"] * BATCH,
        "time": [
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + n / 1000)) + f".{n % 1000:03}Z"
            for n in numbers
        ],
        "timestamp": [START + n / 1000 for n in numbers],
        "key": [str(n) for n in numbers],
        "partition": ["past/0"] * BATCH,
        "position": [f"{n:020}" for n in numbers],
    }
    return Batch(BATCH, columns, after={"past/0": f"{first + BATCH:020}"})


def measure(flow: Path, store: StateStore, mode: str, count: int) -> tuple[float, float, float]:
    """Run a job in a process of its own; return its seconds, its CPU seconds, its most memory in MB."""
    plan = load_flow([flow])
    asked = {"pipeline": "bench", "from": START - 1, "to": START + count, "mode": mode}
    number = jobs.begin(store, prepare(plan, BackfillRequest.model_validate(asked)), by="bench")
    told = Order(number, plan.state_url, [str(flow)], []).encode()
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "backfill.process", told])
    peak, cpu = 0.0, 0.0
    while process.poll() is None:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / TICKS
            peak = max(peak, rss_mb(process.pid))
        except (OSError, IndexError):
            break
        time.sleep(0.05)
    process.wait()
    took = time.perf_counter() - began
    document = jobs.report_document(store, jobs.find(store, number))
    report = document["report"]
    if report["done"] != count or document["backfill"]["status"] != "done":
        raise SystemExit(f"{mode}: {json.dumps(document)}")
    if mode == "shadow" and report["comparison"]["executions"]["identical"] != count:
        raise SystemExit(f"{mode}: {json.dumps(document)}")
    return took, cpu, peak


def rows(count: int, modes: Sequence[str]) -> Iterator[str]:
    """Yield a row of the table per mode."""
    with ExitStack() as opened:
        temporary = tempfile.TemporaryDirectory(prefix="penstock-bench-")
        folder = Path(opened.enter_context(temporary))
        brokers, target = "127.0.0.1:1", "again"
        if "live" in modes:
            broker = opened.enter_context(KafkaBroker.start(folder / "kafka"))
            brokers, target = broker.bootstrap, broker.create_topic()
        flow = folder / "flow.yaml"
        schemas = {"order": {"version": "1.0", "type": "json", "data_schema": SCHEMA}}
        flow.write_text(
            FLOW.format(
                folder=folder,
                brokers=brokers,
                target=target,
                schemas=json.dumps(schemas),
                steps=json.dumps(STEPS),
            )
        )
        began = time.perf_counter()
        fill(flow, count)
        print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        store = opened.enter_context(closing(open_store(load_flow([flow]).state_url)))
        for mode in modes:
            took, cpu, peak = measure(flow, store, mode, count)
            yield f"| {mode} | {took:.1f} | {cpu:.1f} | {count / took:,.0f} | {peak:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--modes", nargs="*", default=["dry_run", "shadow", "live"])
    options = parser.parse_args()
    print(f"\n{options.count:,} events; load of the machine {os.getloadavg()[0]:.1f}")
    print("| | seconds | CPU seconds | events/s | RSS MB |\n|---|---|---|---|---|")
    for row in rows(options.count, options.modes):
        print(row, flush=True)


if __name__ == "__main__":
    main()
