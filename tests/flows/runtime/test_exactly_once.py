"""`delivery: exactly_once`: each event once for readers of committed events, whatever dies when."""

from __future__ import annotations

import json
import signal
import time
from itertools import product

import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.failpoints import TRANSACTION_NAMES
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import kafka_source, pipeline, publish, step
from tests.matrix import matrix

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 3


def sink(kafka, topic, **config):
    config = {"brokers": kafka.bootstrap, "topic": topic, "publish_format": "json", **config}
    return {"name": "topic", "type": "sink.kafka", "config": config}


class Copying:
    """A flow from a topic to another, its events numbered per partition."""

    def __init__(
        self, flow, kafka, *steps, source=None, out=None, target=None, shape_last=False, **more
    ):
        self.flow, self.kafka = flow, kafka
        self.topic = kafka.create_topic(PARTITIONS)
        self.target = kafka.create_topic(PARTITIONS, **(target or {}))
        text = "{n: .data.n, p: .data.p, twice: (.data.n * 2)}"
        shape = step("shape", "jq", {"expression": ".data" if shape_last == "whole" else text})
        all_steps = [*steps, shape] if shape_last else [shape, *steps]
        made = pipeline("orders", *all_steps, publish("topic"), delivery="exactly_once", **more)
        flow.write(
            modules=[
                kafka_source(kafka, self.topic, **(source or {})),
                sink(kafka, self.target, **(out or {})),
            ],
            pipelines={"copy": made},
        )
        self.counts = [0] * PARTITIONS

    def fill(self, count):
        for partition in range(PARTITIONS):
            start = self.counts[partition]
            values = [
                json.dumps({"n": n, "p": partition}).encode() for n in range(start, start + count)
            ]
            write(self.kafka, self.topic, *values, partition=partition, key=f"k{partition}")
            self.counts[partition] += count

    def catch_up(self):
        """Run a worker that takes over at once, since it has the name of the one before."""
        self.flow.catch_up()

    def seen(self, count=None):
        """Partition of the source → the numbers that a reader of committed events sees, in order."""
        found = [[] for _ in range(PARTITIONS)]
        count = sum(self.counts) if count is None else count
        for message in self.kafka.read_all(self.target, count, 60):
            event = json.loads(message.value())
            assert event["twice"] == 2 * event["n"]
            found[event["p"]].append(event["n"])
        return found

    def check(self):
        assert self.seen() == [list(range(count)) for count in self.counts]
        assert self.flow.totals() == {"copy": (sum(self.counts), 0, 0)}


def test_events_come_once_and_in_order(flow, kafka):
    copying = Copying(flow, kafka)
    copying.fill(3000)
    flow.run()
    copying.fill(10)
    flow.run()
    copying.check()


@matrix(
    "name, nth",
    product(TRANSACTION_NAMES, [1, 2]),
    usual=zip(TRANSACTION_NAMES, [2, 1, 2, 1, 2], strict=True),
)
def test_a_kill_at_a_named_point_repeats_and_loses_nothing(flow, kafka, name, nth):
    copying = Copying(flow, kafka)
    copying.fill(1000 if nth == 1 else 4000)
    flow.killed_at(f"{name}:{nth}")
    copying.catch_up()
    copying.check()


def bad(n):
    return n % 7 == 3


def failing():
    """A step that fails one event in seven."""
    return step("check", "jq", {"expression": 'if .data.n % 7 == 3 then error("bad") else . end'})


@pytest.mark.parametrize("name", ["after_prepare_before_commit", "after_commit_before_settle"])
def test_dead_letters_of_a_transaction_whose_settling_was_cut_off_are_there_once(flow, kafka, name):
    copying = Copying(flow, kafka, failing(), shape_last=True)
    copying.fill(100)
    flow.killed_at(f"{name}:1")
    assert flow.letters() == []  # nothing counts before its transaction is known to be committed
    copying.catch_up()
    good = [n for n in range(100) if not bad(n)]
    assert copying.seen(3 * len(good)) == [good] * PARTITIONS
    letters = flow.letters()
    assert len(letters) == PARTITIONS * (100 - len(good))
    assert {letter.attempts for letter in letters} == {1}
    assert flow.totals() == {"copy": (3 * len(good), len(letters), 0)}
    with flow.store() as store:
        (row,) = store.prepared.of_source("flow", "orders")
        assert (row.name, row.settlements()) == ("", [])


def test_what_waits_for_a_retry_is_published_once_though_workers_die(flow, kafka, tmp_path):
    """A Python step that fails each event's first try: it leaves a file per event behind."""
    (tmp_path / "once.py").write_text(
        "from pathlib import Path\n"
        "from connectors.errors import RetryableError\n"
        f"MARKS = Path({str(tmp_path)!r})\n"
        "def second_time(data):\n"
        "    mark = MARKS / f\"tried-{data['p']}-{data['n']}\"\n"
        "    if data['n'] % 5 == 0 and not mark.exists():\n"
        "        mark.touch()\n"
        "        raise RetryableError('not yet', code='not_yet')\n"
        "    return data\n"
    )
    copying = Copying(
        flow,
        kafka,
        step("try", "python", {"function": "once:second_time"}),
        shape_last=True,
        retry={"max_attempts": 4, "initial_delay": "100ms"},
        order="key",
    )
    copying.fill(60)
    for name in ("after_commit_before_settle:1", "after_prepare_before_commit:2"):
        flow.killed_at(name)
    copying.catch_up()
    copying.check()
    assert flow.letters() == []


def test_more_workers_take_over_what_fewer_left_in_mid_transaction(flow, kafka):
    copying = Copying(flow, kafka)
    copying.fill(300)
    run = flow.start(
        "--workers", "2", environ={"PENSTOCK_FAIL_POINT": "after_commit_before_settle:1"}
    )
    run.wait_for_lines("starts again", times=2)
    run.kill_all()
    copying.fill(10)
    flow.run("--workers", "3")
    copying.check()
    with flow.store() as store:
        rows = store.prepared.of_source("flow", "orders")
    assert sorted(row.shard for row in rows) == ["orders/0", "orders/1", "orders/2"]
    flow.catch_up()  # one worker
    with flow.store() as store:
        assert [row.shard for row in store.prepared.of_source("flow", "orders")] == ["orders/0"]


def test_a_lost_state_store_repeats_nothing(flow, kafka):
    copying = Copying(flow, kafka)
    copying.fill(500)
    copying.catch_up()
    for file in flow.folder.glob("state.db*"):
        file.unlink()
    copying.fill(20)
    log = flow.run()
    assert log.count("kafka_ahead_of_state") == PARTITIONS
    assert copying.seen() == [list(range(520))] * PARTITIONS
    assert flow.totals() == {"copy": (60, 0, 0)}


def test_offsets_that_others_commit_to_the_group_move_nothing(flow, kafka):
    copying = Copying(flow, kafka, source={"group": f"shared-{time.time_ns()}"})
    copying.fill(30)
    (module, *_) = json.loads(flow.path.read_text())["modules"]
    other = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": module["config"]["group"]})
    other.commit(offsets=[TopicPartition(copying.topic, 0, 30)], asynchronous=False)
    other.close()
    copying.catch_up()
    copying.check()


def test_a_record_that_is_too_large_is_a_dead_letter_and_its_neighbours_pass(flow, kafka):
    """The sizes are such that only the broker can tell: its limit is for the batch with its frame."""
    copying = Copying(flow, kafka, target={"max_message_bytes": "20000"}, shape_last="whole")
    values = [json.dumps({"n": n, "p": 0, "twice": 2 * n}).encode() for n in range(40)]
    for place in (7, 21):
        fill = "x" * (19_960 if place == 7 else 50_000)
        values[place] = json.dumps({"n": place, "p": 0, "twice": 0, "fill": fill}).encode()
    write(kafka, copying.topic, *values, partition=0, key="k")
    copying.catch_up()
    good = [n for n in range(40) if n not in {7, 21}]
    assert copying.seen(38) == [good, [], []]
    assert [letter.error_code for letter in flow.letters()] == ["message_too_large"] * 2
    assert flow.totals() == {"copy": (38, 2, 0)}


def test_an_idle_flow_passes_on_a_single_event_at_once_and_drains(flow, kafka):
    copying = Copying(flow, kafka)
    run = flow.start()
    run.wait_until_started()
    for _ in range(3):
        copying.fill(1)
        assert copying.seen() == [list(range(count)) for count in copying.counts]
    run.signal(signal.SIGTERM)
    assert run.wait() == 0, run.text()
    copying.check()


def test_explain_says_which_edges_are_exactly_once_and_which_effects_are_not(flow, kafka):
    call = {"method": "POST", "url": "http://127.0.0.1:1/x", "body_from": "data"}
    Copying(flow, kafka, step("charge", "http_call", call))
    _, said = flow.said("explain", str(flow.path))
    assert "by write: exactly once" in said
    assert "readers of committed events see each once" in said
    assert "charge acts a second time" in said


def test_dead_letters_are_replayed_within_transactions(flow, kafka, tmp_path):
    """The cause is a file that is not there yet; once it is, what failed is published, once."""
    (tmp_path / "later.py").write_text(
        "from pathlib import Path\n"
        f"MENDED = Path({str(tmp_path)!r}, 'mended')\n"
        "def check(data):\n"
        "    if data['n'] % 7 == 3 and not MENDED.exists():\n"
        "        raise ValueError('not yet')\n"
        "    return data\n"
    )
    check = step("check", "python", {"function": "later:check"})
    copying = Copying(flow, kafka, check, shape_last=True)
    copying.fill(50)
    copying.catch_up()
    failed = len(flow.letters())
    assert failed == PARTITIONS * sum(map(bad, range(50)))
    (tmp_path / "mended").touch()
    replayed = flow.penstock("dlq", "replay", "--all", "--yes", str(flow.path))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert [sorted(numbers) for numbers in copying.seen()] == [list(range(50))] * PARTITIONS
    assert flow.letters() == []
