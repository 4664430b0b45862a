"""A flow from one table's changes to rows of another, killed where it hurts: each row once."""

from __future__ import annotations

import os
import random
import time

import psycopg
import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.running import FlowFolder, cdc_source, pipeline, publish

pytestmark = [pytest.mark.postgres, pytest.mark.chaos]

KILLS = int(os.environ.get("PENSTOCK_CHAOS_KILLS", "2"))
POINTS = [
    "after_effects_before_settle",
    "after_settle_before_checkpoint",
    "after_checkpoint_before_acknowledge",
]


@pytest.fixture
def copying(tmp_path, database):
    """A flow that appends each change of `orders` to `log`, which has no key to tell it by."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, total numeric)")
        connection.execute("CREATE TABLE log (turn bigserial, id int, total numeric)")
        connection.execute("INSERT INTO orders SELECT n, 0 FROM generate_series(1, 300) n")
    flow = FlowFolder(tmp_path)
    flow.database = database
    config = {"connection": database, "table": "log", "mode": "insert"}
    flow.write(
        modules=[
            cdc_source(database, f"copy_{tmp_path.name[-20:]}".lower(), "orders"),
            {"name": "out", "type": "sink.postgres", "config": config},
        ],
        pipelines={"copy": pipeline("rows", publish("out"))},
    )
    yield flow
    flow.end()


def change(flow, count, version):
    with psycopg.connect(flow.database, autocommit=True) as connection:
        for n in range(1, count + 1):
            connection.execute("UPDATE orders SET total = %s WHERE id = %s", [version, n])


def logged(flow):
    with psycopg.connect(flow.database) as connection:
        return connection.execute("SELECT id, total::int FROM log ORDER BY turn").fetchall()


def caught_up(flow):
    worker = WorkerProcess(flow.path, "rows", until_caught_up=True)
    assert worker.wait() == 0, worker.text()


def test_kills_at_named_points_and_at_random_write_each_change_once(copying):
    caught_up(copying)
    assert sorted(logged(copying)) == [(n, 0) for n in range(1, 301)]
    versions = 0
    for point in POINTS:
        versions += 1
        change(copying, 100, versions)
        worker = WorkerProcess(copying.path, "rows", fail_point=point)
        assert worker.wait() == -9, worker.text()
    for _ in range(KILLS):
        versions += 1
        worker = WorkerProcess(copying.path, "rows")
        worker.wait_until("running")
        change(copying, 100, versions)
        time.sleep(random.uniform(0, 0.1))  # a kill at a random moment, not a wait for one
        worker.kill()
    caught_up(copying)
    found = logged(copying)[300:]
    for n in range(1, 101):
        assert [total for one, total in found if one == n] == list(range(1, versions + 1))
    assert len(found) == 100 * versions
