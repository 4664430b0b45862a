"""The same jobs with PostgreSQL as the state store: each mode, paused, killed, resumed."""

from __future__ import annotations

import random
import signal

import pytest

from backfill import jobs
from backfill.process import run
from flows.runtime.halt import Halt
from tests.backfill.past import SHOP, Past, orders

pytestmark = pytest.mark.postgres

BUGGY = SHOP.replace(
    "total: (.data.price * .data.count)",
    "total: (if .data.n % 33 == 4 then null else .data.price * .data.count end)",
)


@pytest.fixture
def past(tmp_path, database):
    made = Past(tmp_path, state=database)
    yield made
    made.close()


def test_each_mode_does_what_it_does_on_sqlite(past):
    past.record(*(orders(n, n + 100) for n in range(0, 1000, 100)))
    report = past.run(filter={"data.n": {"$gte": 100}})
    assert (report["read"], report["left_out"], report["done"]) == (1000, 100, 900)
    assert not past.written()
    counts = past.run("shadow", with_=past.flow("buggy.yaml", BUGGY))["comparison"]["executions"]
    planted = len(range(4, 1000, 33))
    assert (counts["different"], counts["identical"]) == (planted, 1000 - planted)
    report = past.run("live")
    assert (report["read"], report["done"], report["failed"]) == (1000, 1000, 0)
    assert [each["data"]["n"] for each in past.written()] == list(range(1000))
    assert past.store.checkpoints("shop", "orders") == {"orders/0": f"{1000:012}"}


def test_a_command_starts_a_job_and_tells_its_report(past):
    past.record(orders(0, 50))
    told = past.start("--mode", "shadow")
    assert told["backfill"]["status"] == "done"
    assert told["report"]["comparison"]["executions"]["identical"] == 50


@pytest.mark.parametrize("mode", ["shadow", "live"])
def test_a_killed_job_goes_on_where_it_stood(past, mode):
    past.record(*(orders(n, n + 500) for n in range(0, 3000, 500)))
    job = past.ask(mode)
    points = {
        "shadow": ["backfill_after_batch:2"],
        "live": ["after_effects_before_settle:2", "after_settle_before_checkpoint:2"],
    }
    assert past.killed(job, random.choice(points[mode])) == -signal.SIGKILL
    past.expire_lease(job)
    assert run(past.order(job), Halt()) == 0, jobs.find(past.store, job.id).error
    report = past.report(job)
    assert (report["read"], report["done"]) == (3000, 3000)
    if mode == "live":
        assert sorted(each["data"]["n"] for each in past.written()) == list(range(3000))
