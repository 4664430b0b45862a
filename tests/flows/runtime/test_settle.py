"""What the last operator of a pipeline hands to the committer."""

from __future__ import annotations

import gc
import weakref

import pytest

from connectors.batch import Arrival, Batch
from connectors.errors import PermanentError, RetryableError
from flows.plan import load_flow
from flows.runtime.halt import Halt
from flows.runtime.parking import Parking
from flows.runtime.settle import Settle
from flows.state.copies import read_copy
from transforms.executions import Ended, Executions

FLOW = """\
modules:
  - { name: orders, type: source.kafka, config: { brokers: "b:1", topics: [t] } }
pipelines:
  copy:
    trigger: { type: event, source: orders }
    steps: [{ name: kept, type: step.set, config: { values: { a: 1 } } }]
"""


class Committer:
    def __init__(self):
        self.settled = []

    def settle(self, settlement):
        self.settled.append(settlement)


@pytest.fixture
def settle(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    plan = load_flow([path], {})
    pipeline = plan.pipeline("copy")
    return Settle(
        plan,
        plan.source("orders"),
        pipeline,
        sinks={},
        committer=Committer(),
        halt=Halt(),
        parking=Parking(),
    )


def executions(*times):
    count = len(times)
    columns = {
        "raw": [b"1"] * count,
        "id": [str(n) for n in range(count)],
        "source": ["/s"] * count,
        "type": ["t"] * count,
        "partition": ["0"] * count,
        "position": [str(n) for n in range(count)],
        "timestamp": list(times),
    }
    return Executions(Batch(count, columns, after={"0": str(count)}), "copy")


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ((5.0, 2.0, 9.0, 7.0), (2.0, 9.0)),
        ((None, 5.0, 2.0, None), (2.0, 5.0)),
        ((4.0,), (4.0, 4.0)),
    ],
)
def test_a_chunks_times_hold_those_of_all_its_events_whatever_their_order(settle, times, found):
    settle(executions(*times))
    (settlement,) = settle._committer.settled
    assert (settlement.history.first_time, settlement.history.last_time) == found


def test_events_without_a_time_are_found_when_they_were_recorded(settle):
    settle(executions(None, None))
    (settlement,) = settle._committer.settled
    assert settlement.history.first_time == settlement.history.recorded_at


COPYING = FLOW.replace(
    "pipelines:",
    '  - { name: dead, type: sink.webhook, config: { url: "https://x/", headers: { a: "${TOKEN}" } } }\npipelines:',
).replace("    steps:", "    dead_letter: { sink: dead }\n    steps:")


def test_copies_of_dead_letters_are_in_the_events_order_and_show_no_secret(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(COPYING)
    plan = load_flow([path], {"TOKEN": "hunter2-hunter2"})
    committer = Committer()
    settle = Settle(
        plan,
        plan.source("orders"),
        plan.pipeline("copy"),
        sinks={},
        committer=committer,
        halt=Halt(),
        parking=Parking(),
    )
    failed = executions(1.0, 2.0, 3.0)
    arrivals = [Arrival("t", 0, n, b"k", b"hunter2-hunter2") for n in range(3)]
    failed.events.columns["arrival"] = arrivals
    for index in (2, 0):
        error = PermanentError("it said hunter2-hunter2.", code="c", said="hunter2-hunter2")
        failed.end(index, Ended("failed", "kept", error))
    settle(failed)
    copies = [read_copy(copy.body) for copy in committer.settled[0].copies]
    assert [copy.arrival for copy in copies] == [arrivals[0], arrivals[2]]  # events are data
    assert {copy.acting for copy in copies} == {"step.set"}
    for copy in copies:
        assert "hunter2" not in copy.letter.error_message + copy.letter.context


class Data:
    """An event's data that tells when nobody holds it any more."""


def test_a_batch_whose_events_failed_is_freed_at_once_and_not_by_the_garbage_collector(settle):
    batch = executions(1.0, 2.0)
    data = Data()
    freed = weakref.ref(data)
    batch.events.columns["data"] = [data, None]

    def fail(held):
        try:
            raise OSError("no answer")
        except OSError as cause:
            try:
                raise RetryableError("The server is away.", code="away") from cause
            except RetryableError as error:
                held.end(0, Ended("failed", "kept", error))

    gc.collect()
    gc.disable()
    try:
        fail(batch)
        settle(batch)
        del batch, data
        assert freed() is None
    finally:
        gc.enable()
