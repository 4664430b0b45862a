"""Runs steps over events made of plain data, and closes them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from connectors.batch import Batch
from transforms.contracts import StepEnvironment
from transforms.executions import Executions
from transforms.steps.http_call import HTTP_CALL


def executions_of(data, keys=None):
    """Return executions of events whose data this is."""
    size = len(data)
    columns = {
        "data": data,
        "id": [f"e{number}" for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order"] * size,
        "partition": ["0"] * size,
        "position": [f"{number:06}" for number in range(size)],
    }
    if keys is not None:
        columns["key"] = keys
    return Executions(events=Batch(size, columns, after={}), pipeline="orders")


@contextmanager
def calling(kind=HTTP_CALL, folder=Path()):
    """Give a function that runs the step of this type over events; all are closed afterwards."""
    steps = []

    def run(config, data, *, keys=None, name="shown", step=None):
        executions = executions_of(data, keys)
        if step is None:
            env = StepEnvironment(
                flow="shop", pipeline="orders", name=name, number=0, folder=folder
            )
            step = kind.make(kind.settings.model_validate(config), env)
            steps.append(step)
        found = step.run(executions, range(len(data)))
        executions.outputs[name] = found
        return found, executions

    run.steps = steps
    try:
        yield run
    finally:
        for step in steps:
            step.close()
