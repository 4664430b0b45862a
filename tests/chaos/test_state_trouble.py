"""A state store in trouble under a running flow: nothing lost, nothing twice, and no hands needed."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import time

import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    FlowFolder,
    file_sink,
    kafka_sink,
    kafka_source,
    pipeline,
    publish,
    wait_for,
)

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka]

KILLS = int(os.environ.get("PENSTOCK_CHAOS_KILLS", "6"))
AWAY = 60 if KILLS > 50 else 12
"""Seconds; either is longer than a lease lasts."""


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


class Feeding:
    """Numbered events of one partition, and what became of them."""

    def __init__(self, flow, kafka):
        self.flow, self.kafka = flow, kafka
        self.topic, self.count = kafka.create_topic(), 0

    def write_flow(self, sink):
        self.flow.write(
            modules=[kafka_source(self.kafka, self.topic), sink],
            pipelines={"copy": pipeline("orders", publish(sink["name"], data_from="data"))},
        )

    def send(self, count):
        numbers = range(self.count, self.count + count)
        write(self.kafka, self.topic, *(b'{"n":%d}' % n for n in numbers))
        self.count += count

    def lines(self):
        return [line["data"]["n"] for line in self.flow.lines()]

    def wait_until_settled(self):
        counts = {"copy": (self.count, 0, 0)}
        wait_for(lambda: self.flow.totals() == counts, "all to be settled", 60)


@pytest.fixture
def feeding(flow, kafka):
    return Feeding(flow, kafka)


def limit_files(workers, limit):
    """Let none of these processes make a file larger than `limit` bytes, as a quota does."""
    for worker in workers:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_a_full_disk_is_waited_for_and_everything_is_there_once(flow, feeding, kafka):
    target = kafka.create_topic()
    feeding.write_flow(kafka_sink(kafka.bootstrap, target))
    run = flow.start()
    run.wait_until_started()
    feeding.send(500)
    feeding.wait_until_settled()
    for _ in range(2):
        limit_files(run.workers(), 4096)
        before = flow.totals()
        feeding.send(500)
        # The last line tells how it is now: there is one every ten seconds.
        wait_for(lambda: "the disk" in run.text().splitlines()[-1], "it to say what it waits for")
        assert flow.totals() == before
        limit_files(run.workers(), resource.RLIM_INFINITY)
        feeding.wait_until_settled()
    assert run.stop() == 0, run.text()
    assert "starts again" not in run.text()
    assert len(kafka.read_all(target, feeding.count)) == feeding.count


@pytest.mark.postgres
def test_a_state_that_is_away_for_longer_than_a_lease_is_waited_for(
    flow, feeding, postgres16, database16
):
    flow.state_url = database16
    feeding.write_flow(file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    standby = flow.start()
    standby.wait_for_lines("standby: another worker")
    feeding.send(500)
    feeding.wait_until_settled()
    postgres16.stop("fast", 5)
    end = time.monotonic() + AWAY
    while time.monotonic() < end:
        feeding.send(50)
        time.sleep(0.25)
    postgres16.start_again()
    feeding.wait_until_settled()
    assert feeding.lines() == list(range(feeding.count))
    for each in (run, standby):
        assert each.stop() == 0, each.text()


def test_of_copies_of_a_flow_on_one_state_file_one_works_and_the_next_takes_over(flow, feeding):
    """Started at the same moment, killed with their workers, one after another."""
    feeding.write_flow(file_sink(flow.folder))
    rng = random.Random(KILLS)
    runs = [flow.start() for _ in range(3)]
    for _ in range(4 if KILLS > 50 else 2):
        wait_for(lambda: any("worker started" in run.text() for run in runs), "one to start")
        working = [run for run in runs if "worker started" in run.text()]
        assert len(working) == 1
        feeding.send(1000)
        time.sleep(rng.random() * 0.3)  # the moment of the kill is the random variable
        working[0].kill_all()
        runs.remove(working[0])
        runs.append(flow.start())
    feeding.send(100)
    feeding.wait_until_settled()
    assert feeding.lines() == list(range(feeding.count))
    for run in runs:
        assert run.stop() == 0, run.text()


def test_a_standby_waits_for_the_files_of_a_worker_that_hangs_and_has_no_lease_any_more(
    flow, feeding
):
    """Also when its worker is started anew meanwhile, or all of it is."""
    feeding.write_flow(file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    feeding.send(500)
    feeding.wait_until_settled()
    (worker,) = run.workers()
    worker.suspend()
    feeding.send(500)
    in_use = "another process writes through the file sink"
    first = flow.start()
    first.wait_for_lines(in_use)
    (waiting,) = first.workers()
    waiting.kill()
    first.wait_for_lines(in_use, times=2)
    assert first.stop() == 0, first.text()
    standby = flow.start()
    standby.wait_for_lines(in_use)
    assert standby.process.poll() is None
    worker.resume()
    feeding.wait_until_settled()
    assert feeding.lines() == list(range(1000))
    run.wait_for_lines("standby: another worker runs this")
    for each in (standby, run):
        assert each.stop() == 0, each.text()


def change_version(flow, by):
    with sqlite3.connect(flow.folder / "state.db") as state:
        state.execute(f"UPDATE penstock_schema SET version = version {by}")
    state.close()


def test_the_state_of_a_newer_program_is_refused_left_alone_and_used_when_it_fits(flow, feeding):
    feeding.write_flow(file_sink(flow.folder))
    feeding.send(100)
    flow.run()
    change_version(flow, "+ 1")
    feeding.send(100)
    refused = flow.start("--until-caught-up")
    assert refused.wait() == 4, refused.text()
    assert refused.text().count("error[state_newer]") == 1
    assert "Traceback" not in refused.text()
    shown = flow.penstock("state", "show", str(flow.path))
    assert "state_newer" in shown.stderr
    assert len(feeding.lines()) == 100
    change_version(flow, "- 1")
    flow.run()
    assert feeding.lines() == list(range(200))
    assert flow.totals() == {"copy": (200, 0, 0)}
