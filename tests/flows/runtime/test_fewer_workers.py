"""A run with fewer workers than the one that crashed: what the missing ones left is undone."""

from __future__ import annotations

import pytest

from flows.plan import load_flow
from flows.runtime.supervisor import RunOptions, plan_workers
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def orders(first, count):
    return [b'{"n":%d}' % n for n in range(first, first + count)]


@pytest.fixture
def topic(kafka):
    return kafka.create_topic(partitions=2)


@pytest.fixture
def copying(flow, kafka, topic):
    """A flow that copies a topic of two partitions into one file sink."""
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={"copy": pipeline("orders", publish("out"))},
    )
    return flow


def numbers(flow):
    return sorted(line["data"]["n"] for line in flow.lines())


def fill(kafka, topic, first):
    """Write 100 orders, half of them to each partition."""
    for partition in range(2):
        write(kafka, topic, *orders(first + 50 * partition, 50), partition=partition)


def lengths(flow):
    return {path.name: path.stat().st_size for path in flow.folder.glob("out*.jsonl")}


@pytest.mark.parametrize("settled", [0, 100], ids=["at the first batch", "later"])
def test_what_a_lost_worker_had_not_settled_is_cut_back_and_comes_once(
    copying, kafka, topic, settled
):
    if settled:
        fill(kafka, topic, 0)
        copying.run("--workers", "2")
        assert numbers(copying) == list(range(100))
    before = lengths(copying)
    fill(kafka, topic, settled)
    run = copying.start(
        "--workers", "2", environ={"PENSTOCK_FAIL_POINT": "after_effects_before_settle"}
    )

    def both_wrote():
        now = lengths(copying)
        return len(now) == 2 and all(size > before.get(name, 0) for name, size in now.items())

    wait_for(both_wrote, "unsettled lines of both workers")
    run.kill_all()
    log = copying.run()
    assert numbers(copying) == list(range(settled + 100))
    assert "cut back what a lost worker had not settled" in log


def test_a_copy_with_fewer_workers_waits_for_all_of_the_other(copying, kafka, topic):
    fill(kafka, topic, 0)
    run = copying.start("--workers", "2")
    wait_for(lambda: len(copying.lines()) == 100, "100 lines")
    standby = copying.start()
    standby.wait_for_lines("another run's worker still has the lease")
    assert "worker started" not in standby.text()
    assert run.stop() == 0, run.text()
    standby.wait_until_started()
    fill(kafka, topic, 100)
    wait_for(lambda: len(copying.lines()) == 200, "200 lines")
    assert standby.stop() == 0, standby.text()
    assert numbers(copying) == list(range(200))


def test_a_share_keeps_its_file_whatever_the_number_of_workers(flow, kafka):
    names = ["first", "second"]
    flow.write(
        modules=[*(kafka_source(kafka, "t", name) for name in names), file_sink(flow.folder)],
        pipelines={f"copy-{name}": pipeline(name, publish("out")) for name in names},
    )
    plan = load_flow([flow.path])
    labels = {}
    for workers in (1, 2, 3):
        planned = plan_workers([flow.path], plan, RunOptions(workers=workers))
        found = {order.shard: order.writers["out"] for order in planned}
        assert len(set(found.values())) == 2 * workers, "each worker has a file of its own"
        assert found.items() >= labels.items()
        labels = found
