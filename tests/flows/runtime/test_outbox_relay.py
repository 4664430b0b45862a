"""The relay of an outbox, on a real table: what a sink refuses for a while holds up its own key alone."""

from __future__ import annotations

import json
import threading
from collections import defaultdict

import psycopg
import pytest

from connectors.contracts import SinkTraits
from connectors.errors import RetryableError
from flows.runtime.halt import Halt
from flows.runtime.outbox_relay import OutboxRelay
from tests.flows.runtime.running import wait_for
from transforms.steps.outbox import OutboxRow, lane_of, turn_of
from transforms.steps.outbox_table import OutboxTable

pytestmark = pytest.mark.postgres


class ChoosySink:
    """A sink of the contract: events of one key are sent in order, and behind one that it does not
    take just now it takes no later one. What it does not take, and what has come, a test sees."""

    def __init__(self, *, ordered=True):
        self.traits = SinkTraits(ordered=ordered, delivery="at_least_once", topics=True)
        self.refuses = set()
        self.taken = []
        self.tries = defaultdict(int)
        self.lock = threading.Lock()

    def deliver(self, events):
        failures, stuck = {}, set()
        with self.lock:
            for place, (key, value) in enumerate(zip(events.keys, events.values, strict=True)):
                number = json.loads(value)
                self.tries[number] += 1
                behind = self.traits.ordered and key is not None and key in stuck
                if number in self.refuses or behind:
                    stuck.add(key)
                    failures[place] = RetryableError(f"not {number} yet.", code="busy")
                else:
                    self.taken.append((events.topic, number))
        return failures

    def numbers(self):
        with self.lock:
            return [number for _, number in self.taken]


class NoLetters:
    """Where nothing is refused for good."""

    def keep(self, refused):
        raise AssertionError(refused)

    def close(self):
        """Nothing is open."""


class Outbox:
    """A table with rows, and a relay that publishes them."""

    def __init__(self, database):
        self.database = database
        self.halt = Halt()
        self.table = OutboxTable("penstock_outbox", "shop")
        self.sinks = {"events": ChoosySink()}
        self.relays = []
        self.count = 0
        with psycopg.connect(database, autocommit=True) as connection:
            self.table.ensure(connection)

    def write(self, numbers, *, turn="a", key="a", topic=None, sink="events"):
        rows = []
        for number in numbers:
            self.count += 1
            said = {"topic": topic, "key": key, "attributes": {"id": str(number)}, "step": "tell"}
            ordered_by = turn_of(f"orders/{turn}")
            rows.append(
                OutboxRow(
                    pipeline="orders",
                    sink=sink,
                    turn=ordered_by,
                    lane=lane_of(ordered_by),
                    event=json.dumps(said),
                    data=str(number).encode(),
                    origin=b"",
                    digest=self.count.to_bytes(16, "big"),
                )
            )
        with psycopg.connect(self.database, autocommit=True) as connection:
            self.table.insert(connection, rows)
        for relay in self.relays:
            relay.wake()

    def start(self):
        table = OutboxTable("penstock_outbox", "shop")
        relay = OutboxRelay(
            self.database, table, self.sinks, self.halt, letters=NoLetters(), counts=["orders"]
        )
        self.relays.append(relay)
        relay.start()
        return relay

    def waiting(self):
        with psycopg.connect(self.database) as connection:
            return connection.execute("SELECT count(*) FROM penstock_outbox").fetchone()[0]


@pytest.fixture
def outbox(database):
    made = Outbox(database)
    yield made
    for relay in made.relays:
        relay.close()
    assert made.halt.error is None


def goes_on(sink, numbers):
    wait_for(lambda: set(sink.numbers()) == set(numbers), f"all of {numbers}")


def test_no_row_passes_one_of_its_key_that_the_sink_does_not_take_yet_and_other_keys_flow_on(
    outbox,
):
    sink = outbox.sinks["events"]
    sink.refuses = {2}
    outbox.write([1, 2, 3], turn="a", key="a")
    outbox.write([11, 12, 13], turn="b", key="b")
    outbox.start()
    goes_on(sink, [1, 11, 12, 13])
    outbox.write([4], turn="a", key="a")
    outbox.write([14], turn="b", key="b")
    goes_on(sink, [1, 11, 12, 13, 14])
    wait_for(lambda: sink.tries[2] > 2, "another try")
    sink.refuses = set()
    goes_on(sink, [1, 2, 3, 4, 11, 12, 13, 14])
    assert [number for number in sink.numbers() if number < 10] == [1, 2, 3, 4]
    assert [number for number in sink.numbers() if number > 10] == [11, 12, 13, 14]
    wait_for(lambda: outbox.waiting() == 0, "an empty table")


@pytest.mark.parametrize("ordered", [True, False])
def test_the_order_is_the_pipelines_also_where_what_is_published_has_other_keys(outbox, ordered):
    sink = outbox.sinks["events"] = ChoosySink(ordered=ordered)
    sink.refuses = {1}
    for number, key in ((1, "x"), (2, "y"), (3, None), (4, "x")):
        outbox.write([number], turn="a", key=key)
    outbox.write([11], turn="b", key=None)
    outbox.start()
    goes_on(sink, [11])
    wait_for(lambda: sink.tries[1] > 2, "another try")
    assert sink.numbers() == [11]
    sink.refuses = set()
    goes_on(sink, [1, 2, 3, 4, 11])
    assert sink.numbers() == [11, 1, 2, 3, 4]


def test_an_event_for_another_topic_waits_behind_the_one_of_its_key(outbox):
    sink = outbox.sinks["events"]
    sink.refuses = {1}
    outbox.write([1], topic="orders")
    outbox.write([2], topic="invoices")
    outbox.write([11], turn="b", key="b", topic="invoices")
    outbox.start()
    goes_on(sink, [11])
    wait_for(lambda: sink.tries[1] > 2, "another try")
    sink.refuses = set()
    goes_on(sink, [1, 2, 11])
    assert sink.taken == [("invoices", 11), ("orders", 1), ("invoices", 2)]


def test_thousands_of_rows_behind_one_that_is_not_taken_leave_room_for_other_keys(outbox):
    sink = outbox.sinks["events"]
    sink.refuses = {0}
    outbox.write(range(2500))
    outbox.write([5000], turn="b", key="b")
    outbox.start()
    goes_on(sink, [5000])
    sink.refuses = set()
    goes_on(sink, [*range(2500), 5000])
    assert sink.numbers() == [5000, *range(2500)]


def test_two_relays_keep_the_order_of_a_key_whose_row_is_not_taken_yet(outbox):
    sink = outbox.sinks["events"]
    sink.refuses = {5}
    for number in range(10):
        outbox.write([number], turn="a", key="a")
        outbox.write([100 + number], turn=f"b{number}", key=f"b{number}")
    outbox.start()
    outbox.start()
    goes_on(sink, [*range(5), *range(100, 110)])
    wait_for(lambda: sink.tries[5] > 4, "tries of both")
    sink.refuses = set()
    goes_on(sink, [*range(10), *range(100, 110)])
    assert [number for number in sink.numbers() if number < 100] == list(range(10))


def test_a_sink_that_takes_nothing_is_not_asked_for_every_key_and_all_is_in_order_once_it_does(
    outbox,
):
    sink = outbox.sinks["events"]
    sink.refuses = set(range(3000))
    for number in range(300):
        outbox.write([number, 1000 + number, 2000 + number], turn=f"k{number}", key=f"k{number}")
    other = outbox.sinks["others"] = ChoosySink()
    outbox.write([7], turn="k0", key="k0", sink="others")
    relay = outbox.start()
    goes_on(other, [7])
    wait_for(lambda: relay.away.get("events"), "the reason")
    assert "outbox penstock_outbox: not" in relay.status
    wait_for(lambda: sink.tries[0] > 2, "another try")
    sink.refuses = set()
    wait_for(lambda: len(sink.numbers()) == 900, "the events")
    of_key = defaultdict(list)
    for number in sink.numbers():
        of_key[number % 1000].append(number)
    assert all(found == sorted(found) for found in of_key.values())
    wait_for(lambda: not relay.status and not relay.away, "nothing to wait for")
