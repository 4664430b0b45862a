"""`partition_by` with several workers: one source read by one, its events worked by all."""

from __future__ import annotations

import json
import signal
from collections import defaultdict

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    cdc_source,
    file_sink,
    kafka_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.slow]

KEYS = 20

WHO = """
import os

def worker(data):
    if data["n"] < 0:
        raise ValueError("n is negative")
    return {**data, "pid": os.getpid()}
"""


class Rows:
    """A table whose rows are updated in turn; a row's `n` grows by one with each change."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.done = 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)")

    def change(self, count, size=7):
        """Make `count` changes, in transactions of `size`."""
        with psycopg.connect(self.dsn) as connection:
            for number in range(self.done, self.done + count):
                connection.execute(
                    "INSERT INTO t VALUES (%s, 0) ON CONFLICT (id) DO UPDATE SET n = t.n + 1",
                    [number % KEYS],
                )
                if number % size == 0:
                    connection.commit()
        self.done += count

    def execute(self, statement):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)

    def expected(self):
        return {key: list(range(len(range(key, self.done, KEYS)))) for key in range(KEYS)}


class Spread:
    """A flow that spreads a slot over two workers, to a file per worker and to Kafka."""

    def __init__(self, flow, database, kafka):
        self.flow, self.kafka, self.rows = flow, kafka, Rows(database)
        self.topic = kafka.create_topic()
        self.slot = f"s_{self.topic[6:]}"
        (flow.folder / "who.py").write_text(WHO)
        self.write()

    def write(self, **more):
        self.flow.write(
            modules=[
                cdc_source(self.rows.dsn, self.slot, "t", snapshot="never"),
                file_sink(self.flow.folder),
                kafka_sink(self.kafka.bootstrap, self.topic),
            ],
            pipelines={
                "spread": pipeline(
                    "rows",
                    step("who", "python", {"function": "who:worker"}),
                    publish("out"),
                    publish("topic", "send", data_from="steps.who.output"),
                    partition_by=".data.id",
                    **more,
                )
            },
        )

    def start(self, workers=2):
        run = self.flow.start("--workers", str(workers))
        run.wait_until_started(workers)
        run.wait_for_lines("created the replication slot")
        return run

    def in_kafka(self):
        """Key → n of each event, repeats of an id left out; and how many repeats there were."""
        seen, of_key, repeats = {}, defaultdict(list), 0
        for message in self.kafka.read_all(self.topic, 0):
            event = json.loads(message.value())
            if event["id"] in seen:
                assert seen[event["id"]] == event["data"]["n"], "a repeat says something else"
                repeats += 1
                continue
            seen[event["id"]] = event["data"]["n"]
            of_key[event["data"]["id"]].append(event["data"]["n"])
        return of_key, repeats

    def in_files(self):
        of_key = defaultdict(list)
        ids = set()
        for line in self.flow.lines():
            if line["id"] not in ids:
                ids.add(line["id"])
                of_key[line["data"]["id"]].append(line["data"]["n"])
        return of_key

    def count(self):
        return len({line["id"] for line in self.flow.lines()})

    def pids(self):
        """Key → processes that worked it."""
        of_key = defaultdict(set)
        for line in self.flow.lines():
            of_key[line["data"]["id"]].add(line["data"]["pid"])
        return of_key

    def check(self):
        """Nothing is missing anywhere and each key's events are in order; return the repeats."""
        of_key, repeats = self.in_kafka()
        assert of_key == self.rows.expected()
        files = self.in_files()
        assert {key: sorted(found) for key, found in files.items()} == self.rows.expected()
        return repeats


@pytest.fixture
def spread(flow, database, kafka):
    return Spread(flow, database, kafka)


def test_every_event_once_in_order_per_key_and_worked_by_both(spread):
    run = spread.start()
    spread.rows.change(2000)
    wait_for(lambda: spread.count() == 2000, "2000 events")
    workers = {worker.pid for worker in run.workers()}
    assert run.stop() == 0, run.text()
    assert spread.check() == 0
    pids = spread.pids()
    assert all(len(found) == 1 for found in pids.values())
    assert {pid for found in pids.values() for pid in found} == workers
    assert spread.flow.totals() == {"spread": (2000, 0, 0)}
    assert run.workers_left() == []
    # One worker goes on where two have stopped, and two again.
    spread.rows.change(100)
    spread.flow.run()
    spread.rows.change(100)
    spread.flow.run("--workers", "2")
    assert spread.check() == 0
    assert spread.flow.totals() == {"spread": (2200, 0, 0)}


def test_a_failing_event_is_a_dead_letter_whichever_process_worked_it(spread):
    run = spread.start()
    spread.rows.change(40)
    wait_for(lambda: spread.count() == 40, "the slot to be read")
    for key in range(KEYS):
        spread.rows.execute(f"UPDATE t SET n = -1 WHERE id = {key}")
    spread.rows.execute("UPDATE t SET n = 7")
    wait_for(lambda: spread.count() == 60, "the events after the failing ones")
    assert run.stop() == 0, run.text()
    letters = spread.flow.letters()
    assert {letter.error_code for letter in letters} == {"python_error"}
    assert {json.loads(letter.event)["data"]["id"] for letter in letters} == set(range(KEYS))
    assert {json.loads(letter.change)["after"]["n"] for letter in letters} == {-1}
    assert spread.flow.totals() == {"spread": (60, 20, 0)}


@pytest.mark.chaos
@pytest.mark.parametrize("which", [0, 1], ids=["the reader", "the other"])
def test_a_kill_of_either_process_loses_nothing_and_repeats_nothing_in_a_file(spread, which):
    run = spread.start()
    for turn in range(2):
        spread.rows.change(300, size=1)
        workers = wait_for(lambda: found if len(found := run.workers()) == 2 else None, "both")
        workers[which].kill()
        spread.rows.change(50, size=1)
        run.wait_for_lines("worker started", times=2 * turn + 4)
    wait_for(lambda: spread.count() == spread.rows.done, "all events")
    assert run.stop() == 0, run.text()
    spread.check()
    ids = [line["id"] for line in spread.flow.lines()]
    assert len(ids) == len(set(ids))
    assert run.workers_left() == []


def test_a_fatal_error_in_one_process_stops_all(spread):
    """The other process works no event of that batch; the exit code is the error's."""
    spread.write(dead_letter={"enabled": False})
    run = spread.start()
    spread.rows.change(200)
    wait_for(lambda: spread.count() == 200, "200 events")
    other = {run.workers()[1].pid}
    key = next(key for key, pids in spread.pids().items() if pids == other)
    spread.rows.execute(f"UPDATE t SET n = -1 WHERE id = {key}")
    assert run.wait(20) == 4, run.text()
    assert "dead_letter_disabled" in run.text()
    assert run.workers_left() == []
    # Mended, it goes on from there.
    (spread.flow.folder / "who.py").write_text(WHO.replace("< 0", "< -1"))
    spread.flow.run("--workers", "2")
    assert [n for n in spread.in_files()[key] if n < 0] == [-1]


def test_sigint_drains_a_cluster(spread):
    run = spread.start()
    spread.rows.change(100)
    wait_for(lambda: spread.count() == 100, "100 events")
    run.signal(signal.SIGINT)
    assert run.wait(20) == 130, run.text()
    assert spread.flow.totals() == {"spread": (100, 0, 0)}


def test_a_cluster_whose_supervisor_is_killed_ends(spread):
    run = spread.start()
    spread.rows.change(100)
    wait_for(lambda: spread.count() == 100, "100 events")
    run.process.kill()
    run.process.wait(10)
    wait_for(lambda: not run.workers_left(), "the workers' end", 20)


def test_of_two_clusters_started_together_one_runs_and_one_waits(spread):
    runs = [spread.flow.start("--workers", "2") for _ in range(2)]
    wait_for(lambda: any("created the repl" in run.text() for run in runs), "the slot")
    spread.rows.change(50)
    wait_for(lambda: spread.count() == 50, "events")
    first = next(run for run in runs if run.text().count("worker started") == 2)
    second = next(run for run in runs if run is not first)
    second.wait_for_lines("standby: another worker")
    assert "worker started" not in second.text()
    first.kill_all()
    spread.rows.change(50)
    wait_for(lambda: spread.count() == spread.rows.done, "the events after the take-over")
    assert second.stop() == 0, second.text()
    spread.check()


def test_a_topic_made_anew_is_read_by_all_of_a_cluster(flow, kafka):
    """What a process remembers of the old topic's offsets hides no event of the new one.

    Neither where it has fewer events than the old one had, nor where it has more.
    """
    topic = kafka.create_topic()
    flow.write(
        modules=[kafka_source(kafka, topic, on_offset_gone="earliest"), file_sink(flow.folder)],
        pipelines={"copy": pipeline("orders", publish("out"), partition_by=".data.key")},
    )
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    expected = []
    for first, size in ((0, 400), (1000, 100), (2000, 700)):
        if first:
            admin.delete_topics([topic], operation_timeout=20)[topic].result(30)
            kafka.create_topic(name=topic)
        numbers = range(first, first + size)
        write(kafka, topic, *[b'{"key":%d,"n":%d}' % (n % KEYS, n) for n in numbers])
        flow.run("--workers", "2")
        expected += numbers
        assert sorted(line["data"]["n"] for line in flow.lines()) == expected


def test_a_cluster_that_waits_as_a_standby_holds_nothing_and_stops_at_once(spread):
    """One process waits for all: two clusters can't hold a share each and wait for the other's."""
    first = spread.start()
    second = spread.flow.start("--workers", "2")
    second.wait_for_lines("standby: another worker")
    assert len(second.workers()) == 1
    assert second.stop() == 0, second.text()
    spread.rows.change(50)
    wait_for(lambda: spread.count() == 50, "50 events")
    third = spread.flow.start("--workers", "2")
    third.wait_for_lines("standby: another worker")
    assert first.stop() == 0, first.text()
    third.wait_until_started(2)
    spread.rows.change(50)
    wait_for(lambda: spread.count() == 100, "the events after the take-over")
    assert third.stop() == 0, third.text()
    assert spread.check() == 0
