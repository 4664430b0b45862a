"""Executions made by hand, and a sink that keeps what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from connectors.batch import Batch
from connectors.contracts import SinkTraits
from tests.transforms.steps.inside import Steps
from transforms.contracts import StepEnvironment
from transforms.executions import Executions
from transforms.registry import step_type


def _executions(*data: Any, outputs=None, **columns) -> Executions:
    size = len(data)
    given = {
        "raw": [None if value is None else orjson.dumps(value) for value in data],
        "id": [f"event-{number}" for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order.changed"] * size,
        "partition": ["0"] * size,
        "position": [f"{number:08}" for number in range(size)],
        **columns,
    }
    found = Executions(Batch(size, given, after={}), "orders", base_meta={"flow": "shop"})
    found.outputs.update(outputs or {})
    return found


@pytest.fixture
def executions():
    """Make executions of events with these data; keywords are columns, `outputs` step outputs."""
    return _executions


@pytest.fixture
def make():
    """Make a step: `make("jq", {…config…}, earlier=[…])`; all are closed at the end."""
    made = []

    def make_step(kind: str, config: dict[str, Any], **environment):
        found = step_type(f"step.{kind}")
        env = StepEnvironment(
            **{"flow": "shop", "pipeline": "orders", "name": kind, "number": 0, "earlier": ["one"]}
            | environment
        )
        made.append(found.make(found.settings.model_validate(config), env))
        return made[-1]

    yield make_step
    for step in made:
        step.close()


@pytest.fixture
def steps(tmp_path):
    """Make a pipeline of these steps, run as the dataflow runs them; see inside.py."""
    made = []

    def make(*listed, **more):
        made.append(Steps(tmp_path, list(listed), **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@dataclass
class KeepingSink:
    """Keeps each delivery, and fails the places that it is told to."""

    traits = SinkTraits(ordered=True, delivery="at_least_once", topics=True)
    deliveries: list[Any] = field(default_factory=list)
    errors: dict[int, Any] = field(default_factory=dict)

    def deliver(self, events):
        self.deliveries.append(events)
        return self.errors


@pytest.fixture
def sink():
    return KeepingSink()
