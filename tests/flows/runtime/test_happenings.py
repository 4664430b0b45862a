"""What steps tell of themselves while somebody watches, and the flag that says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from connectors.batch import Batch
from connectors.errors import PermanentError
from flows.plan import load_flow
from flows.runtime.happenings import AT_ONCE, Happenings
from flows.runtime.reports import Report, decode_happenings, encode_happenings
from flows.runtime.watched import WatchFlag, is_watched
from transforms.executions import Ended, Executions

FLOW = """
pipelines:
  ship:
    steps:
      - { name: call, type: step.jq, config: { expression: "." } }
"""


@pytest.fixture
def pipeline(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    return load_flow([path]).pipeline("ship")


def batch(size):
    columns = {
        "raw": [b"{}"] * size,
        "id": [f"e{n}" for n in range(size)],
        "source": ["/s"] * size,
        "type": ["t"] * size,
        "timestamp": [1000.0] * size,
        "extensions": [{"tenant": "acme"}] * size,
    }
    return Executions(Batch(size, columns, after={}), "ship")


def test_a_step_tells_of_those_it_runs_for_and_how_each_ended(pipeline):
    happenings = Happenings()
    woken = []
    happenings.wake = lambda: woken.append(1)
    happenings.turn(on=True)
    told = happenings.of(pipeline, "source.kafka")
    executions = batch(4)
    (step,) = pipeline.steps
    told.begins(step, executions, [0, 1, 2])
    assert woken
    found = happenings.take()
    ids = [executions.execution_id(k) for k in range(3)]
    assert [kind for kind, _ in found] == ["execution.started"] * 3 + ["step.started"] * 3
    assert found[0][1] == {
        "execution_id": ids[0],
        "pipeline": "ship",
        "tenant": "acme",
        "trigger": "source.kafka",
    }
    executions.end(1, Ended("failed", "call", PermanentError("no", code="no_luck")))
    executions.end(2, Ended("parked", "call"))
    told.ends(step, executions, [0, 1, 2], 0.5)
    about = {"step": "call", "duration_ms": 500.0}
    assert happenings.take() == [
        ("step.completed", {"execution_id": ids[0], **about, "status": "completed"}),
        ("step.failed", {"execution_id": ids[1], **about, "error": "no_luck"}),
    ]


def test_of_many_it_is_told_of_as_many_as_can_be_followed(pipeline):
    happenings = Happenings()
    happenings.turn(on=True)
    told = happenings.of(pipeline, "source.kafka")
    (step,) = pipeline.steps
    for _ in range(10):
        executions = batch(1000)
        told.begins(step, executions, executions.going(0))
    begun = [about for kind, about in happenings.take() if kind == "execution.started"]
    assert len(begun) < 10 * AT_ONCE
    assert len(begun) >= AT_ONCE


def test_when_nobody_watches_any_more_what_was_told_is_forgotten(pipeline):
    happenings = Happenings()
    happenings.turn(on=True)
    told = happenings.of(pipeline, "source.kafka")
    executions = batch(1)
    (step,) = pipeline.steps
    told.begins(step, executions, range(1))
    happenings.turn(on=False)
    assert happenings.take() == []
    told.ends(step, executions, range(1), 0.1)
    assert happenings.take() == []


def test_what_happened_is_a_line_of_its_own_between_reports():
    found = [("step.started", {"execution_id": "a", "step": "s"})]
    assert decode_happenings(encode_happenings(found)) == found
    assert encode_happenings([]) == b""
    assert decode_happenings(Report("running").encode()) is None


def test_another_process_sees_that_somebody_watches():
    flag = WatchFlag()
    assert not is_watched(flag.fileno())()
    flag.watch()
    assert is_watched(flag.fileno())()
    assert not is_watched(-1)()
    code = "import sys; from flows.runtime.watched import is_watched; print(is_watched(int(sys.argv[1]))())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(flag.fileno())],
        pass_fds=[flag.fileno()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.stdout == "True\n", done.stderr
