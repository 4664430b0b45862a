"""Kill -9 at every named point and at random: nothing missing, order kept, nothing twice in a file."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest

from connectors.failpoints import NAMES
from tests.chaos.row_walk import RowWalk, assert_tells_all
from tests.chaos.worker_process import WorkerProcess
from tests.matrix import matrix

pytestmark = [pytest.mark.chaos, pytest.mark.postgres, pytest.mark.kafka]

KILLS = int(os.environ.get("PENSTOCK_CHAOS_KILLS", "6"))

FLOW = """
name: walk
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: full }}
modules:
  - name: rows
    type: source.postgres_cdc
    config:
      connection: "{dsn}"
      slot_name: "{slot}"
      tables: [{{ schema: public, table: walk }}]
      output: {{ include_before: true, include_after: true }}
      heartbeat: 200ms
  - {{ name: lines, type: sink.file, config: {{ path: "{folder}/out/walk.jsonl", format: cloudevents_json, rotate: 200kB }} }}
  - {{ name: topic, type: sink.kafka, config: {{ brokers: "{brokers}", topic: "{topic}", publish_format: cloudevents_structured }} }}
pipelines:
  to-file:
    trigger: {{ type: event, source: rows }}
    steps:
      - {{ name: shape, type: step.set, config: {{ values: {{ change: "{{{{ .data }}}}" }} }} }}
      - {{ name: write, type: step.publish, config: {{ sink: lines, data_from: trigger.data }} }}
  to-kafka:
    trigger: {{ type: event, source: rows }}
    steps:
      - {{ name: send, type: step.publish, config: {{ sink: topic }} }}
"""


class Walk:
    """One flow over one walk, with both sinks read back as changes per row."""

    def __init__(self, tmp_path, database, kafka):
        self.folder, self.kafka, self.database = tmp_path, kafka, database
        self.topic = kafka.create_topic()
        self.flow = tmp_path / "walk.yaml"
        self.flow.write_text(
            FLOW.format(
                folder=tmp_path,
                dsn=database,
                slot=f"walk_{random.randrange(10**9)}",
                brokers=kafka.bootstrap,
                topic=self.topic,
            )
        )
        self.walk = RowWalk(database)
        self.walk.prepare()
        self.interrupted = None

    def worker(self, **options) -> WorkerProcess:
        return WorkerProcess(self.flow, "rows", **options)

    def killed(self) -> None:
        """Remember how far each row was: a snapshot may have been interrupted."""
        self.interrupted = {row: len(changes) for row, changes in self.walk.history.items()}

    def catch_up(self) -> None:
        worker = self.worker(until_caught_up=True)
        assert worker.wait(120 if KILLS <= 50 else 600) == 0, worker.text()

    def in_file(self) -> list[dict]:
        files = sorted((self.folder / "out").glob("walk*.jsonl"), key=_rotation)
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def in_kafka(self) -> list[dict]:
        return [json.loads(message.value()) for message in self.kafka.read_all(self.topic, 1)]

    def check(self) -> tuple[int, int]:
        """Assert the promises; return how many events the file has, and Kafka's repeats."""
        lines = self.in_file()
        ids = [event["id"] for event in lines]
        assert len(ids) == len(set(ids)), "a change is twice in the file"
        assert_tells_all(self.walk.history, _by_row(lines), self.interrupted)
        messages = self.in_kafka()
        first: dict[str, dict] = {}
        for event in messages:
            told = first.setdefault(event["id"], event)
            assert told["data"] == event["data"], "a repeat says something else"
            # A row that is read again has a later place in the snapshot; a change keeps its own.
            assert told == event or event["operation"] == "READ", "a repeat differs"
        assert_tells_all(self.walk.history, _by_row(list(first.values())), self.interrupted)
        return len(lines), len(messages) - len(first)


def _rotation(path: Path) -> tuple[bool, str]:
    return (path.name == "walk.jsonl", path.name)


def _by_row(events: list[dict]) -> dict[int, list[tuple[str, int]]]:
    rows = defaultdict(list)
    for event in events:
        image = event["data"]["after"] or event["data"]["before"]
        rows[image["id"]].append((event["operation"], image["n"]))
    return rows


@pytest.fixture
def walk(tmp_path, database, kafka):
    made = Walk(tmp_path, database, kafka)
    yield made
    made.walk.stop()


@matrix(
    "name, nth",
    [each for each in itertools.product(NAMES, (1, 3)) if each != ("after_snapshot", 3)],
    usual=[(name, 1 if name == "after_snapshot" else 3) for name in NAMES],
)
def test_a_kill_at_a_named_point_loses_nothing(walk, name, nth):
    for _ in range(12):
        walk.walk.step(40)
    walk.walk.start(pause=0.002)
    worker = walk.worker(fail_point=f"{name}:{nth}")
    assert worker.wait() == -9, worker.text()
    walk.killed()
    second = walk.worker()
    second.wait_until("running")
    walk.killed()  # the drain may interrupt a snapshot that had to begin anew
    walk.walk.stop()
    assert second.drain() == 0, second.text()
    walk.catch_up()
    count, _ = walk.check()
    # How many there are to be seen one by one depends on when the snapshot was taken.
    assert count > 50


@pytest.mark.timeout(3600 if KILLS > 50 else 300)
def test_random_kills_lose_nothing_and_repeat_nothing_in_a_file(walk):
    rng = random.Random(KILLS)
    walk.walk.step(50)
    walk.walk.start(pause=0.001 * max(1, KILLS / 12))  # as many changes, however many kills
    for _ in range(KILLS):
        worker = walk.worker()
        if rng.random() < 0.8:
            worker.wait_until("running")
        time.sleep(rng.random() * 0.6)  # the moment of the kill is the random variable
        worker.kill()
        walk.killed()
    walk.walk.stop()
    walk.catch_up()
    count, repeats = walk.check()
    assert count > 100
    # Only what was in flight at a kill is repeated: two batches at the most each time.
    assert repeats <= KILLS * 3000


def test_a_terminated_walsender_loses_and_repeats_nothing(walk):
    walk.walk.step(50)
    walk.walk.start(pause=0.002)
    worker = walk.worker()
    worker.wait_until("running")
    with psycopg.connect(walk.database, autocommit=True) as admin:
        for _ in range(5):
            time.sleep(0.3)
            admin.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                " WHERE active_pid IS NOT NULL AND database = current_database()"
            )
    walk.walk.stop()
    assert worker.drain() == 0, worker.text()
    walk.catch_up()
    _, repeats = walk.check()
    assert repeats == 0


def test_a_clean_stop_repeats_nothing_anywhere(walk):
    walk.walk.step(50)
    walk.walk.start(pause=0.002)
    for _ in range(4):
        worker = walk.worker()
        worker.wait_until("running")
        time.sleep(0.4)
        assert worker.drain() == 0, worker.text()
    walk.walk.stop()
    walk.catch_up()
    _, repeats = walk.check()
    assert repeats == 0
