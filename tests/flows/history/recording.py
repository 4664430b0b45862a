"""A flow's history as workers write it, without the workers."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from connectors.batch import Batch
from connectors.errors import PermanentError
from flows.history.plans import flow_document
from flows.plan import load_flow
from flows.runtime.halt import Halt
from flows.runtime.parking import Parking
from flows.runtime.settle import Settle
from flows.state.records import Settlement
from flows.state.store import open_store
from transforms.executions import UNSET, Ended, Executions

FLOW = """
name: shop
modules:
  - {name: orders, type: source.kafka, config: {brokers: "127.0.0.1:1", topics: [orders]}}
  - {name: out, type: sink.stdout}
pipelines:
  ship:
    trigger: {source: orders}
    tenant: .data.shop
    steps:
      - {name: check, type: step.jq, config: {expression: "{ok: (.data.total > 0)}"}}
      - name: route
        type: step.conditional
        config: {field: steps.check.output.ok, routes: {"false": write}}
      - name: charge
        type: step.http_call
        if: .data.total != 7
        config: {url: "http://127.0.0.1:1/charge/{{ .data.n }}", method: POST, body_from: data}
      - {name: write, type: step.publish, config: {sink: out}}
"""


class _Outcomes:
    ticket = 1

    def __init__(self):
        self.settled: list[Settlement] = []

    def settle(self, settlement):
        self.settled.append(settlement)


class Recording:
    """The state of flow `shop`, and batches that are settled into it."""

    def __init__(self, url: str, flow: str = FLOW):
        self.store = open_store(url)
        self.lease = self.store.acquire_lease("shop", "orders/0", "me", 60.0)
        self.load(flow)

    def load(self, flow: str) -> None:
        """Run another version of the flow from here on."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shop.yaml"
            path.write_text(flow)
            self.plan = load_flow([path], {})
        self.store.chunks.save_version(
            "shop", self.plan.version_hash, flow_document(self.plan), 1.0
        )

    def settle(self, executions: Executions, *, record: str = "full") -> Settlement:
        """Settle a batch as a worker does."""
        plan = replace(self.plan, history=replace(self.plan.history, record=record))
        outcomes = _Outcomes()
        pipeline = plan.pipeline(executions.pipeline)
        Settle(
            plan,
            plan.source("orders"),
            pipeline,
            sinks={},
            committer=outcomes,
            halt=Halt(),
            parking=Parking(),
        )(executions)
        self.store.commit(self.lease, "orders", outcomes.settled, {}, {})
        return outcomes.settled[0]

    def batch(
        self, *numbers: int, at: float = 1000.0, pipeline: str = "ship", **data
    ) -> Executions:
        """Return executions of orders, each a second after the other, as they come to their steps."""
        rows = [{"n": n, "total": n, "shop": f"shop-{n % 2}", **data} for n in numbers]
        columns = {
            "raw": [json.dumps(row).encode() for row in rows],
            "id": [f"e{n}" for n in numbers],
            "source": ["/orders"] * len(numbers),
            "type": ["order.placed" if n % 2 else "order.changed" for n in numbers],
            "subject": [f"orders/{n}" for n in numbers],
            "timestamp": [at + n for n in numbers],
            "partition": ["orders/0"] * len(numbers),
            "position": [f"{n:020}" for n in numbers],
        }
        return Executions(Batch(len(numbers), columns, after={}), pipeline, started=2000.0)

    def done(self, *numbers: int, **options) -> Executions:
        """Return executions that went through: 7 without `charge`, what is not positive past it."""
        made = self.batch(*numbers, **options)
        positive = [n > 0 for n in numbers]
        made.outputs["check"] = [{"ok": each} for each in positive]
        made.outputs["charge"] = [
            {"charged": n} if ok and n != 7 else UNSET
            for n, ok in zip(numbers, positive, strict=True)
        ]
        made.passed_over["charge"] = {k: None for k, n in enumerate(numbers) if n == 7}
        made.took = {"check": (2000.0, 0.001), "charge": (2000.001, 0.25), "write": (2000.3, 0.1)}
        return made

    def failed(self, *numbers: int, code: str = "http_status", **options) -> Executions:
        """Return executions that failed at `charge`."""
        made = self.batch(*numbers, **options)
        made.outputs["check"] = [{"ok": True} for _ in numbers]
        for index, n in enumerate(numbers):
            error = PermanentError(f"the server answered 422 to {n}.", code=code, hint="Look.")
            made.end(index, Ended("failed", "charge", error))
        return made

    def ids(self, executions: Executions) -> list[str]:
        return executions.ids_of(range(executions.events.size))
