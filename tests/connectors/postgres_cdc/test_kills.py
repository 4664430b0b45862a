"""The reader killed with SIGKILL, again and again, while rows change: nothing lost, nothing twice.

A child reads and prints each batch as one line, events and checkpoint together, so a whole line
is an effect and its settling in one. The next child starts from the last line.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.batch import Change, Event
from tests.connectors.postgres_cdc.cdc import Flow, execute
from tests.connectors.postgres_cdc.test_snapshot import ROWS, Replica, Writer, table

pytestmark = [pytest.mark.postgres, pytest.mark.chaos]

CHILD = """
import json, sys
from connectors.postgres_cdc import snapshot
from tests.connectors.postgres_cdc.cdc import Flow
snapshot.CHUNK_ROWS = 200
flow = Flow(sys.argv[1])
flow.positions = json.loads(sys.argv[2])
with flow.open() as reading:
    while True:
        batch = reading.reader.poll(100, 0.1)
        if batch is None:
            continue
        changes = batch.column("change")
        print(json.dumps({
            "events": [
                [identity, change.operation, change.before, change.after]
                for identity, change in zip(batch.column("id"), changes)
            ],
            "after": batch.after,
        }), flush=True)
        reading.settle(batch.after)
"""


class Child:
    def __init__(self, database, positions, point, script=CHILD):
        environment = os.environ | {"PENSTOCK_FAIL_POINT": point, "PYTHONPATH": str(Path.cwd())}
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, database, json.dumps(positions)],
            env=environment,
            stdout=subprocess.PIPE,
        )

    def lines(self, limit):
        """Yield whole lines; after `limit` of them kill it, and yield what it had written."""
        out = self._process.stdout
        for count, line in enumerate(out, 1):
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)
            if count == limit:
                self._process.kill()

    def end(self):
        self._process.kill()
        self._process.stdout.close()
        return self._process.wait(30)


def test_kills_in_snapshot_hand_over_and_stream_lose_and_repeat_nothing(database):
    execute(database, ROWS, "INSERT INTO t SELECT i, 0 FROM generate_series(0, 2999) i")
    chance = random.Random(11)
    replica = Replica()
    positions = {}
    writer = Writer(database, 3000)
    assert writer.started.wait(30)
    try:
        for point in ("mid_snapshot:3", "", "mid_snapshot:2", "after_snapshot", "", "", ""):
            child = Child(database, positions, point)
            # A fail point ends the child by itself, before the limit.
            limit = 10_000 if point else chance.randrange(3, 9)
            for line in child.lines(limit):
                positions |= line["after"]
                replica.apply(
                    (
                        Event(identity, "", "", None, change=Change(operation, before, after))
                        for identity, operation, before, after in line["events"]
                    ),
                    crashed=True,
                )
            assert child.end() == -9
    finally:
        writer.stop()
    flow = Flow(database)
    flow.positions = positions
    with flow.open(until_caught_up=True) as reading:
        replica.apply(reading.rest(), crashed=True)
    assert replica.rows == table(database)
