"""Jobs that are killed, paused, resumed, cancelled, run twice: nothing is lost, nothing counted twice."""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest

from backfill import jobs
from backfill.process import run
from connectors.errors import FlowFileError
from flows.runtime.halt import Halt
from tests.backfill.past import SHOP, orders
from tests.flows.runtime.running import wait_for

pytestmark = [pytest.mark.slow]

PLANTED = SHOP.replace(
    "total: (.data.price * .data.count)",
    "total: (if .data.n % 33 == 4 then .data.customer else .data.price * .data.count end)",
)


def test_a_killed_shadow_goes_on_and_ends_with_the_report_of_one_that_was_not(past):
    past.record(*(orders(n, n + 500) for n in range(0, 3000, 500)))
    planted = past.flow("planted.yaml", PLANTED)
    unkilled = past.run("shadow", with_=planted)
    job = past.ask("shadow", with_=planted)
    assert past.killed(job, f"backfill_after_batch:{random.randint(1, 3)}") == -signal.SIGKILL
    assert run(past.order(job), Halt()) == 0
    assert past.report(job) == unkilled
    assert unkilled["read"] == 3000


def test_a_killed_live_job_loses_nothing_and_does_nothing_twice_that_a_sink_can_undo(past):
    past.record(*(orders(n, n + 500) for n in range(0, 3000, 500)))
    job = past.ask("live")
    points = ("after_effects_before_settle:2", "after_settle_before_checkpoint:2")
    assert past.killed(job, random.choice(points)) == -signal.SIGKILL
    assert run(past.order(job), Halt()) == 0
    assert sorted(each["data"]["n"] for each in past.written()) == list(range(3000))
    report = past.report(job)
    assert (report["read"], report["done"], report["failed"]) == (3000, 3000, 0)


@pytest.mark.parametrize("point", ["backfill_before_end", "backfill_after_end"])
def test_a_live_job_killed_when_it_is_through_does_nothing_again(past, point):
    past.record(orders(0, 100))
    job = past.ask("live")
    assert past.killed(job, point) == -signal.SIGKILL
    past.expire_lease(job)
    assert run(past.order(job), Halt()) == 0
    assert [each["data"]["n"] for each in past.written()] == list(range(100))
    assert past.report(job)["done"] == 100
    assert jobs.find(past.store, job.id).status == "done"
    assert past.store.checkpoints("shop", job.owner) == {}


def test_a_job_is_paused_from_elsewhere_and_goes_on_where_it_stood(past):
    past.record(orders(0, 1000))
    job = past.ask("dry_run", rate_limit="100/s")
    running = threading.Thread(target=run, args=(past.order(job), Halt()))
    running.start()
    wait_for(lambda: jobs.find(past.store, job.id).events > 0, "the first events")
    jobs.ask(past.store, jobs.find(past.store, job.id), "pause")
    running.join(60)
    paused = jobs.find(past.store, job.id)
    assert paused.told(time.time()) == "paused"
    assert 0 < past.report(job)["read"] < 1000
    jobs.ask(past.store, paused, "run")
    past.store.backfills._change(job.id, request=paused.request.replace("100.0", "100000.0"))
    assert run(past.order(job), Halt()) == 0
    assert past.report(job)["read"] == past.report(job)["done"] == 1000


def test_a_cancelled_job_keeps_its_report_and_never_goes_on(past):
    past.record(orders(0, 1000))
    job = past.ask("dry_run", rate_limit="100/s")
    running = threading.Thread(target=run, args=(past.order(job), Halt()))
    running.start()
    wait_for(lambda: jobs.find(past.store, job.id).events > 0, "the first events")
    jobs.ask(past.store, jobs.find(past.store, job.id), "cancel")
    running.join(60)
    ended = jobs.find(past.store, job.id)
    assert ended.status == "cancelled"
    assert past.report(job)["read"] > 0
    with pytest.raises(FlowFileError) as refused:
        jobs.ask(past.store, ended, "run")
    assert refused.value.code == "backfill_over"


def test_a_job_whose_process_is_gone_is_told_as_interrupted(past):
    past.record(orders(0, 100))
    job = past.ask()
    past.store.backfills.begin(job.id)
    found = jobs.find(past.store, job.id)
    assert found.told(time.time()) == "running"
    assert found.told(time.time() + 60) == "interrupted"


def test_two_processes_never_run_one_job(past, monkeypatch):
    monkeypatch.setattr("backfill.process.LEASE_TTL", 0.5)
    past.record(orders(0, 100))
    job = past.ask()
    assert past.store.acquire_lease("shop", f"{job.owner}/0", "another", 60.0) is not None
    assert run(past.order(job), Halt()) == 4
    assert jobs.find(past.store, job.id).events == 0


def test_the_address_of_the_state_store_is_on_no_command_line(past):
    past.record(orders(0, 10))
    process = jobs.start_process(past.ask(), [past.path], past.url, quiet=True)
    assert process.wait(120) == 0
    assert past.url not in " ".join(map(str, process.args))
    assert jobs.find(past.store, 1).status == "done"


def test_a_job_that_can_not_go_on_says_why_and_can_be_resumed(past):
    past.record(orders(0, 100))
    job = past.ask()
    past.flow("shop.yaml", SHOP.replace("  price:", "  priced:"))
    assert run(past.order(job), Halt()) == 4
    failed = jobs.find(past.store, job.id)
    assert failed.status == "failed"
    assert "unknown_pipeline" in (failed.error or "")
    past.flow("shop.yaml", SHOP)
    jobs.ask(past.store, failed, "run")
    assert run(past.order(job), Halt()) == 0
    assert past.report(job)["done"] == 100
