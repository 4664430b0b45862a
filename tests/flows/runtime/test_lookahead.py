"""The batch that is read while a sink waits: when, what is made of it, and that nothing else changes."""

from __future__ import annotations

import json
import random

import psycopg
import pytest

from connectors.batch import Batch
from connectors.contracts import EndOfSource
from connectors.errors import FatalError
from flows.runtime.halt import Halt
from flows.runtime.lookahead import HEAVIEST, Lookahead
from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.running import cdc_source, kafka_sink, pipeline, publish

LIMIT = 3


class Scripted:
    """A reader whose `poll` gives these, one after another; what is an error is raised."""

    def __init__(self, *found):
        self.left = list(found)
        self.polled = []
        self.acknowledged = []

    def poll(self, limit, timeout):
        self.polled.append((limit, timeout))
        found = self.left.pop(0) if self.left else None
        if isinstance(found, Exception):
            raise found
        return found

    def acknowledge(self, positions):
        self.acknowledged.append(positions)


def batch(name, size=LIMIT, *, weight=0, made=None):
    """Return a batch whose column `id` is made when it is read; `made` notes it."""

    def ids(of):
        if made is not None:
            made.append(name)
        return [f"{name}-{n}" for n in range(of.size)]

    return Batch(size, {}, after={"p": name}, makers={"id": ids}, weight=weight)


def looking(*found):
    reader, halt = Scripted(*found), Halt()
    ahead = Lookahead(halt)
    ahead.follow(reader)
    return ahead, reader, halt


def test_behind_a_full_batch_the_next_is_read_and_what_that_one_had_made_is_made_of_it():
    made = []
    first, second = batch("a"), batch("b", made=made)
    ahead, reader, _ = looking(first, second)
    assert ahead.poll(LIMIT, 0.1) is first
    first.column("id")
    ahead.meanwhile()
    assert reader.polled == [(LIMIT, 0.1), (LIMIT, 0.0)]
    assert made == ["b"]
    assert list(second.columns) == ["id"]
    assert ahead.poll(LIMIT, 0.1) is second
    assert second.column("id") == ["b-0", "b-1", "b-2"]
    assert made == ["b"]
    assert len(reader.polled) == 2


def test_what_nobody_has_read_of_a_batch_is_not_made_of_the_next():
    made = []
    ahead, _, _ = looking(batch("a"), batch("b", made=made))
    ahead.poll(LIMIT, 0.1)
    ahead.meanwhile()
    assert made == []


def test_only_one_batch_is_read_ahead_however_often_a_sink_waits():
    ahead, reader, _ = looking(batch("a"), batch("b"), batch("c"))
    ahead.poll(LIMIT, 0.1)
    for _ in range(3):
        ahead.meanwhile()
    assert len(reader.polled) == 2
    assert [ahead.poll(LIMIT, 0.1).after["p"] for _ in range(2)] == ["b", "c"]


@pytest.mark.parametrize("last", [batch("a", LIMIT - 1), batch("a", weight=HEAVIEST + 1), None])
def test_behind_a_batch_that_is_not_full_or_is_heavy_none_is_read(last):
    ahead, reader, _ = looking(last, batch("b"))
    assert ahead.poll(LIMIT, 0.1) is last
    ahead.meanwhile()
    assert len(reader.polled) == 1


def test_a_worker_that_is_asked_to_stop_reads_no_more():
    ahead, reader, halt = looking(batch("a"), batch("b"))
    ahead.poll(LIMIT, 0.1)
    halt.ask()
    ahead.meanwhile()
    assert len(reader.polled) == 1


def test_nothing_is_read_before_there_is_a_reader():
    Lookahead(Halt()).meanwhile()


@pytest.mark.parametrize("error", [EndOfSource(), FatalError("gone.", code="gone")])
def test_what_reading_ahead_raises_is_raised_once_and_by_the_poll_that_it_belongs_to(error):
    ahead, reader, _ = looking(batch("a"), error, batch("b"))
    ahead.poll(LIMIT, 0.1)
    ahead.meanwhile()
    with pytest.raises(type(error)) as raised:
        ahead.poll(LIMIT, 0.1)
    assert raised.value is error
    assert ahead.poll(LIMIT, 0.1).after == {"p": "b"}
    assert len(reader.polled) == 3


def test_where_nothing_has_come_ahead_it_is_asked_for_again():
    ahead, reader, _ = looking(batch("a"), None, batch("b"))
    ahead.poll(LIMIT, 0.1)
    ahead.meanwhile()
    assert ahead.poll(LIMIT, 0.1).after == {"p": "b"}
    assert reader.polled[1:] == [(LIMIT, 0.0), (LIMIT, 0.1)]


def test_a_column_that_can_not_be_made_fails_where_it_is_read():
    def breaks(_):
        raise ZeroDivisionError

    second = Batch(LIMIT, {}, after={}, makers={"id": breaks})
    first = batch("a")
    ahead, _, _ = looking(first, second)
    ahead.poll(LIMIT, 0.1)
    first.column("id")
    ahead.meanwhile()
    assert ahead.poll(LIMIT, 0.1) is second
    with pytest.raises(ZeroDivisionError):
        second.column("id")


def test_acknowledgements_go_through():
    ahead, reader, _ = looking()
    ahead.acknowledge({"p": "7"})
    assert reader.acknowledged == [{"p": "7"}]


# --- with a server at each end --------------------------------------------------------------------

ROWS = 16_000
"""In batches of a thousand: all but the last are full, and read ahead."""

POINTS = [
    "after_effects_before_settle:3",
    "after_settle_before_checkpoint:2",
    "after_checkpoint_before_acknowledge:1",
    "after_effects_before_settle:1",
]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.kafka
def test_a_backlog_that_is_read_ahead_survives_kills_whole_and_in_order(flow, database, kafka):
    topic = kafka.create_topic()
    slot = f"ahead_{random.randrange(10**9)}"
    flow.write(
        modules=[
            cdc_source(database, slot, "numbers", snapshot="never"),
            kafka_sink(kafka.bootstrap, topic),
        ],
        pipelines={"copy": pipeline("rows", publish("topic"))},
        history={"record": "full"},
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE numbers (id int PRIMARY KEY, note text)")
        assert WorkerProcess(flow.path, "rows", until_caught_up=True).wait() == 0
        connection.execute(
            "INSERT INTO numbers SELECT n, repeat('x', 100) FROM generate_series(1, %s::int) n",
            [ROWS],
        )
    for point in POINTS:
        worker = WorkerProcess(flow.path, "rows", until_caught_up=True, fail_point=point)
        assert worker.wait() == -9, worker.text()
    worker = WorkerProcess(flow.path, "rows", until_caught_up=True)
    assert worker.wait() == 0, worker.text()
    assert flow.totals() == {"copy": (ROWS, 0, 0)}

    numbers = [json.loads(m.value())["data"]["id"] for m in kafka.read_all(topic, ROWS)]
    assert set(numbers) == set(range(1, ROWS + 1))
    # Each kill goes back once, to what was in flight; but for that they are in order.
    back = [k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1]
    assert len(back) <= len(POINTS)
    assert all(numbers[k] <= numbers[k - 1] for k in back)
