"""`penstock run` as a process: signals, workers that die, the end of the input, shares."""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest

from flows.state.records import PartitionState
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def orders(first, count):
    return [b'{"n":%d}' % n for n in range(first, first + count)]


@pytest.fixture
def topic(kafka):
    return kafka.create_topic()


@pytest.fixture
def copying(flow, kafka, topic):
    """A flow that copies the topic into a file."""
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={"copy": pipeline("orders", publish("out"))},
    )
    return flow


def numbers(flow):
    return [line["data"]["n"] for line in flow.lines()]


def positions(flow) -> list[PartitionState]:
    with flow.store() as store:
        return store.partitions("flow")


def test_sigterm_drains_and_ends_with_0(copying, kafka, topic):
    write(kafka, topic, *orders(0, 500))
    run = copying.start()
    wait_for(lambda: len(copying.lines()) == 500, "500 lines")
    run.wait_until_started()
    assert run.stop() == 0, run.text()
    assert run.workers_left() == []
    assert copying.totals() == {"copy": (500, 0, 0)}
    (stored,) = positions(copying)
    assert stored.position.startswith(f"{500:020d}@")
    assert "draining" in run.text()
    assert "Traceback" not in run.text()


def test_sigint_drains_and_ends_with_130(copying, kafka, topic):
    write(kafka, topic, *orders(0, 20))
    run = copying.start()
    wait_for(lambda: len(copying.lines()) == 20, "20 lines")
    run.wait_until_started()
    run.signal(signal.SIGINT)
    assert run.wait() == 130, run.text()
    assert run.workers_left() == []
    assert copying.totals() == {"copy": (20, 0, 0)}


def test_until_caught_up_ends_with_0_and_everything_is_at_the_sink(copying, kafka, topic):
    write(kafka, topic, *orders(0, 3000))
    copying.run()
    assert numbers(copying) == list(range(3000))
    assert copying.totals() == {"copy": (3000, 0, 0)}
    copying.run()
    assert len(copying.lines()) == 3000


def test_a_killed_worker_is_started_again_and_nothing_is_lost_or_repeated(copying, kafka, topic):
    run = copying.start()
    run.wait_until_started()
    for turn in range(3):
        write(kafka, topic, *orders(1000 * turn, 1000))
        (worker,) = wait_for(run.workers, "a worker")
        worker.kill()
        run.wait_for_lines("worker started", times=turn + 2)
    write(kafka, topic, *orders(3000, 10))
    wait_for(lambda: len(copying.lines()) >= 3010, "all lines")
    assert run.stop() == 0, run.text()
    assert numbers(copying) == list(range(3010))
    assert copying.totals() == {"copy": (3010, 0, 0)}
    assert "killed by signal 9" in run.text()


def test_a_second_signal_ends_it_at_once(flow, kafka, topic):
    """The step waits for an answer that never comes; the operator doesn't."""
    marker = flow.folder / "stuck"
    (flow.folder / "stuck.py").write_text(
        "import pathlib, time\n\n"
        f"def wait(data):\n    pathlib.Path({str(marker)!r}).touch()\n    time.sleep(600)\n"
    )
    write(kafka, topic, *orders(0, 1))
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={
            "copy": pipeline(
                "orders", step("stuck", "python", {"function": "stuck:wait"}), publish("out")
            )
        },
    )
    run = flow.start()
    wait_for(marker.exists, "the step")
    run.signal(signal.SIGTERM)
    run.wait_for_lines("draining")
    run.signal(signal.SIGTERM)
    assert run.wait(15) == 0, run.text()
    assert run.workers_left() == []


def test_a_supervisor_that_is_killed_leaves_no_worker_behind(copying, kafka, topic):
    write(kafka, topic, *orders(0, 50))
    run = copying.start()
    wait_for(lambda: len(copying.lines()) == 50, "50 lines")
    run.wait_until_started()
    assert len(run.workers()) == 1
    run.process.kill()
    run.process.wait(10)
    wait_for(lambda: not run.workers_left(), "the worker's end")
    copying.run()
    assert numbers(copying) == list(range(50))


def test_workers_share_the_partitions_out_and_keep_the_order_of_each_key(flow, kafka):
    topic = kafka.create_topic(6)
    for part in range(6):
        values = [b'{"key":"k%d","n":%d}' % (part, n) for n in range(200)]
        write(kafka, topic, *values, partition=part, key=f"k{part}")
    (flow.folder / "who.py").write_text(
        "import os\n\ndef worker(data):\n    return {**data, 'pid': os.getpid()}\n"
    )
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={
            "copy": pipeline(
                "orders", step("who", "python", {"function": "who:worker"}), publish("out")
            )
        },
    )
    run = flow.start("--workers", "3")
    wait_for(lambda: len(flow.lines()) >= 1200, "all lines")
    run.wait_until_started(3)
    pids = {worker.pid for worker in run.workers()}
    assert len(pids) == 3
    assert run.stop() == 0, run.text()
    readers, of_key = defaultdict(set), defaultdict(list)
    for line in flow.lines():
        data = line["data"]
        readers[data["key"]].add(data["pid"])
        of_key[data["key"]].append(data["n"])
    assert of_key == {f"k{part}": list(range(200)) for part in range(6)}
    assert all(len(found) == 1 for found in readers.values())
    shares = defaultdict(int)
    for (pid,) in readers.values():
        shares[pid] += 1
    assert shares == dict.fromkeys(pids, 2)
    assert len(positions(flow)) == 6
    # Another number of workers goes on from the same positions.
    write(kafka, topic, b'{"key":"k9","n":0}')
    flow.run("--workers", "2")
    assert len(flow.lines()) == 1201
