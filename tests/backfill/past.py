"""A flow's past: events that went through its pipelines, recorded and archived as a worker does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import update

from backfill import jobs
from backfill.order import Order
from backfill.planning import prepare
from backfill.process import run
from backfill.request import BackfillRequest
from connectors.batch import Batch
from connectors.contracts import SinkTraits
from flows.history.plans import flow_document
from flows.plan import load_flow
from flows.runtime.assemble import assemble_branches
from flows.runtime.halt import Halt
from flows.state.archive_bodies import archive_chunk, hold
from flows.state.backfills import Backfill
from flows.state.database import transaction
from flows.state.records import Counts, Settlement
from flows.state.store import open_store
from flows.state.tables import leases
from flows.testing.capture import CaptureSink

NOON = 1_767_960_000.0
"""2026-01-09T12:00:00Z: the first event's time; one comes each second."""

SHOP = """
name: shop
state: {url: "sqlite:///STATE"}
modules:
  - name: orders
    type: source.kafka
    config: {brokers: "127.0.0.1:1", topics: [orders]}
    archive: {retention: 36500d}
  - {name: out, type: sink.file, config: {path: "FOLDER/out.jsonl"}}
pipelines:
  price:
    trigger: {source: orders}
    key: .data.customer
    steps:
      - name: shape
        type: step.jq
        config: {expression: "{n: .data.n, total: (.data.price * .data.count), tags: [.data.customer]}"}
      - name: large
        type: step.set
        if: .steps.shape.output.total > 20
        config: {values: {is_large: true}}
      - {name: write, type: step.publish, config: {sink: out, data_from: steps.shape.output}}
"""


class _Outcomes:
    ticket = 1

    def __init__(self):
        self.settled = []

    def settle(self, settlement):
        self.settled.append(settlement)

    def flush(self, owner, positions, pipeline):
        raise AssertionError("nothing is exchanged here")


def at(seconds: float) -> str:
    """A time so many seconds after noon, as a command takes it."""
    return datetime.fromtimestamp(NOON + seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def orders(first: int, last: int, *, type_="order.created", **more) -> Batch:
    """Events `first` up to before `last`, one a second."""
    numbers = range(first, last)
    data = [
        {"n": n, "price": n % 10 + 0.5, "count": n % 7, "customer": f"c{n % 5}", **more}
        for n in numbers
    ]
    return Batch(
        len(data),
        {
            "raw": [json.dumps(row).encode() for row in data],
            "id": [f"order-{n}" for n in numbers],
            "source": ["/shop"] * len(data),
            "type": [type_] * len(data),
            "time": [at(n) for n in numbers],
            "timestamp": [NOON + n for n in numbers],
            "key": [f"c{n % 5}" for n in numbers],
            "partition": ["orders/0"] * len(data),
            "position": [f"{n:012}" for n in numbers],
        },
        after={"orders/0": f"{last:012}"},
    )


def _chunk(batch: Batch):
    return archive_chunk(hold(batch), "orders", NOON)


class Past:
    """The flow `shop` in a folder of its own, and what has gone through it."""

    def __init__(self, folder: Path, text: str = SHOP, state: str | None = None):
        self.folder = folder
        self.url = state or f"sqlite:///{folder}/state.db"
        self.path = self.flow("shop.yaml", text)
        self.store = open_store(self.url)
        self.lease = self.store.acquire_lease("shop", "orders/0", "me", 3600.0)
        self.published = []

    def flow(self, name: str, text: str) -> Path:
        """Write a flow file into the folder."""
        path = self.folder / name
        text = text.replace("sqlite:///STATE", self.url).replace("FOLDER", str(self.folder))
        path.write_text(text)
        return path

    def record(self, *batches: Batch) -> None:
        """Run events through the flow's pipelines as they are now, and settle and archive them."""
        plan = load_flow([self.path])
        source = plan.source("orders")
        outcomes = _Outcomes()
        traits = SinkTraits(ordered=True, delivery="at_least_once")
        sinks = {sink.name: CaptureSink(sink, self.published, traits) for sink in plan.sinks}
        with ExitStack() as opened:
            branches = assemble_branches(
                plan,
                source,
                sinks,
                committer=outcomes,
                halt=Halt(),
                opened=opened,
                marks={},
                parkings={},
            )
            self.store.chunks.save_version("shop", plan.version_hash, flow_document(plan), NOON)
            for batch in batches:
                for branch in branches:
                    executions = branch.ingest(batch)
                    branch.each(executions)
                    branch.settle(executions)
                settled = outcomes.settled or [Settlement("price", Counts())]
                settled[0].archived += [_chunk(batch)]
                self.store.commit(self.lease, "orders", settled, batch.after, {})
                outcomes.settled = []

    def archive(self, *batches: Batch) -> None:
        """Archive events, with nothing recorded of them."""
        for batch in batches:
            settled = Settlement("price", Counts(), archived=[_chunk(batch)])
            self.store.commit(self.lease, "orders", [settled], batch.after, {})

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "penstock", "backfill", *map(str, arguments)]

    def backfill(self, *arguments: object, code: int | None = 0, environ=None):
        """Run `penstock backfill …`; return what it says as JSON, or the ended process."""
        ended = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | (environ or {}),
        )
        if code is not None:
            assert ended.returncode == code, ended.stdout + ended.stderr
        return json.loads(ended.stdout) if ended.stdout.startswith("{") else ended

    def start(self, *arguments: object, code: int | None = 0, environ=None, first=0, last=10**6):
        """Run `penstock backfill start` over the pipeline `price`, to its end."""
        return self.backfill(
            *("start", self.path, "--pipeline", "price", "-o", "json", "--yes"),
            *("--from", at(first), "--to", at(last)),
            *arguments,
            code=code,
            environ=environ,
        )

    def ask(self, mode="dry_run", *, first=0, last=10**6, with_=None, **more) -> Backfill:
        """Keep a job as `start` would, without a process."""
        text = {"pipeline": "price", "from": NOON + first, "to": NOON + last, "mode": mode, **more}
        other = None if with_ is None else load_flow([with_])
        prepared = prepare(load_flow([self.path]), BackfillRequest.model_validate(text), other)
        files = [] if with_ is None else [with_]
        number = jobs.begin(self.store, prepared, by="me", with_files=files)
        return jobs.find(self.store, number)

    def order(self, job: Backfill) -> Order:
        with_files = json.loads(job.request).get("with", [])
        return Order(job.id, self.url, [str(self.path)], with_files)

    def run(self, mode="dry_run", **more) -> dict:
        """Run a job in this process to its end; return its report."""
        job = self.ask(mode, **more)
        assert run(self.order(job), Halt()) == 0, jobs.find(self.store, job.id).error
        return self.report(job)

    def report(self, job: Backfill) -> dict:
        """What a job has found so far."""
        return jobs.report_document(self.store, jobs.find(self.store, job.id))["report"]

    def process(self, job: Backfill, **environ: str) -> subprocess.Popen:
        """Start a job's process."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.backfill.job_process", self.order(job).encode()],
            stdin=subprocess.DEVNULL,
            env=os.environ | environ,
        )

    def killed(self, job: Backfill, fail_point: str) -> int:
        """Run a job in a process of its own that dies at a fail point; return how that ended."""
        process = self.process(job, PENSTOCK_FAIL_POINT=fail_point)
        try:
            return process.wait(120)
        finally:
            process.kill()

    def expire_lease(self, job: Backfill) -> None:
        """Have the lease of a job's killed process run out now, and not in some seconds."""
        statement = update(leases).where(leases.c.shard == f"{job.owner}/0").values(expires_at=0.0)

        def work(connection):
            with transaction(connection):
                connection.execute(statement)

        self.store._database.run(work)

    def written(self) -> list[dict]:
        """What stands in the files of the sink."""
        found = []
        for path in sorted(self.folder.glob("out*.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return found

    def letters(self):
        return self.store.dead_letters("shop", pipeline=None, limit=1000, after=None)

    def close(self) -> None:
        with closing(self.store):
            self.store.release_lease(self.lease)
