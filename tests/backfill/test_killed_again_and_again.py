"""Backfills whose process is killed again and again: effects once, and the report of an unkilled one."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from backfill import jobs
from backfill.process import run
from backfill.reading import Counts
from flows.runtime.halt import Halt
from tests.backfill.past import SHOP, Past, orders
from tests.flows.runtime.running import wait_for
from tests.transforms.steps.answering import as_json, serving

pytestmark = pytest.mark.chaos

KILLS = min(20, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "3")))

CHARGED = SHOP.replace(
    "    key: .data.customer\n",
    '    key: .data.customer\n    idempotency: {key_template: "order-{{ .data.n }}", ttl: 1h}\n',
).replace(
    "      - {name: write,",
    """      - name: charge
        type: step.http_call
        config:
          url: "URL/charge"
          method: POST
          body_from: steps.shape.output
          idempotent: true
          idempotency_key: "charge-{{ .data.n }}"
        retry: {max_attempts: 5, initial_delay: 100ms}
      - {name: write,""",
)

PLANTED = SHOP.replace(
    "total: (.data.price * .data.count)",
    "total: (if .data.n % 33 == 4 then .data.customer else .data.price * .data.count end)",
)


@pytest.fixture
def service():
    """Is away once for every 50th order, and else does what it is asked."""
    refused = set()

    def answer(seen):
        key = seen.headers["idempotency-key"]
        if int(key.rpartition("-")[2]) % 50 == 7 and key not in refused:
            refused.add(key)
            return as_json({}, 503)
        return as_json({"paid": True})

    with serving() as server:
        server.answer = answer
        server.refused = refused
        yield server


@pytest.fixture
def shop(request, tmp_path, service):
    state = request.getfixturevalue("state_database") if request.param == "postgresql" else None
    past = Past(tmp_path, CHARGED.replace("URL", service.url), state)
    yield past
    past.close()


STORES = pytest.mark.parametrize(
    "shop", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


def once_more(number):
    batch = orders(number, number + 1)
    batch.columns["id"] = [f"again-{number}"]
    return batch


def kill_again_and_again(past, job, read, chance):
    """Run a job in processes that are killed, each after it has come some events further."""
    for number in range(KILLS):
        process = past.process(job)
        try:
            wanted = read() + chance.randrange(1, 300)

            def is_further(process=process, wanted=wanted):
                assert process.poll() is None, f"it ended by itself, {number} kills"  # noqa: B023
                return read() >= wanted

            wait_for(is_further, "some events", 60)
        finally:
            process.kill()
            process.wait(10)
        past.expire_lease(job)


@STORES
@pytest.mark.timeout(600)
def test_a_live_backfill_killed_again_and_again_has_each_events_effect_once(shop, service):
    chance = random.Random(6)
    count = 400 * (KILLS + 1)
    # Every tenth order came twice; it is the same order, and so its key says.
    again = range(0, count, 10)
    shop.archive(*(orders(n, n + 50) for n in range(0, count, 50)), *map(once_more, again))
    job = shop.ask("live", rate_limit="500/s", concurrency=8)

    def read():
        return Counts.of(shop.store.checkpoints("shop", job.owner)).read

    kill_again_and_again(shop, job, read, chance)
    assert run(shop.order(job), Halt()) == 0, jobs.find(shop.store, job.id).error

    written = Counter(each["data"]["n"] for each in shop.written())
    assert written == Counter(range(count))
    # What the service has seen twice, it has seen with one key: a crash between its answer and ours.
    keys = Counter(seen.headers["idempotency-key"] for seen in service.seen)
    assert set(keys) == {f"{job.run}/charge-{n}" for n in range(count)}
    refused = len(service.refused)
    assert refused == count // 50
    assert sum(keys.values()) - refused - count <= KILLS * 8 * 50
    report = shop.report(job)
    assert (report["read"], report["done"]) == (count + len(again), count)
    assert (report["skipped"], report["failed"], report["not_triggered"]) == (len(again), 0, 0)
    assert shop.letters() == []


@pytest.mark.timeout(600)
def test_a_shadow_killed_again_and_again_has_the_report_of_one_that_was_not(past):
    chance = random.Random(7)
    count = 5000 * (KILLS + 1)
    past.record(*(orders(n, n + 500) for n in range(0, count, 500)))
    planted = past.flow("planted.yaml", PLANTED)
    unkilled = past.run("shadow", with_=planted)
    assert unkilled["comparison"]["executions"]["different"] == len(range(4, count, 33))
    job = past.ask("shadow", with_=planted, rate_limit="4000/s")

    def read():
        return Counts.of(past.store.backfills.saved(job.id)[0]).read

    kill_again_and_again(past, job, read, chance)
    for _ in range(2):
        assert past.killed(job, f"backfill_after_batch:{chance.randint(1, 5)}") == -9
        past.expire_lease(job)
    assert run(past.order(job), Halt()) == 0
    assert past.report(job) == unkilled
