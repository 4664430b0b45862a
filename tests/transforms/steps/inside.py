"""Pipelines of a few steps, run over a batch without servers, as the dataflow runs them."""

from __future__ import annotations

import json
from contextlib import ExitStack

from connectors.contracts import SinkTraits
from flows.plan import load_flow
from flows.runtime.assemble import make_step
from flows.runtime.halt import Halt
from flows.runtime.runners import RunnerMaker


class Steps:
    """A pipeline's steps in a worker of their own; `close` ends it."""

    def __init__(self, folder, steps, sinks=None, modules=()):
        file = folder / "flow.json"
        flow = {
            "name": "shop",
            "modules": [
                {
                    "name": "in",
                    "type": "source.kafka",
                    "config": {"brokers": "b:1", "topics": ["t"]},
                },
                {"name": "out", "type": "sink.stdout"},
                *modules,
            ],
            "pipelines": {"orders": {"trigger": {"source": "in"}, "steps": steps}},
        }
        file.write_text(json.dumps(flow, indent=1))
        self.plan = load_flow([file], {})
        self.halt = Halt()
        self.opened = ExitStack()
        pipeline = self.plan.pipeline("orders")
        maker = RunnerMaker(
            self.plan, "orders", sinks or {"out": Kept()}, self.halt, self.opened, make_step
        )
        self.runners = maker.runners(pipeline.steps)

    def run(self, executions):
        for runner in self.runners:
            runner(executions)
        return executions

    def close(self):
        self.opened.close()


class Kept:
    """A sink that keeps what it is given, delivery by delivery, and fails what `errors` says."""

    def __init__(self, errors=None):
        self.traits = SinkTraits(ordered=True, delivery="at_least_once", topics=True)
        self.deliveries = []
        self.ids = []
        self.errors = errors or []

    def deliver(self, events):
        self.deliveries.append([json.loads(value) for value in events.values])
        self.ids.append(events.attributes()["id"])
        return self.errors.pop(0) if self.errors else {}

    @property
    def values(self):
        return [value for delivery in self.deliveries for value in delivery]


def step(name, kind, config=None, **more):
    return {"name": name, "type": f"step.{kind}", "config": config or {}, **more}


def foreach(*steps, name="lines", collection="data.items", **config):
    return step(name, "foreach", {"collection": collection, "steps": list(steps), **config})


def jq(name, expression, **more):
    return step(name, "jq", {"expression": expression}, **more)


def places(executions):
    """Return where each execution failed, and with which code."""
    return {index: (end.step, end.error.code) for index, end in executions.ended.items()}
