"""Once per key, decision by decision: on the state store's real keys, with no flow around."""

from __future__ import annotations

import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from connectors.batch import Batch
from connectors.errors import RetryableError
from flows.runtime.halt import Halt
from flows.runtime.idempotency import OncePerKey, fingerprint
from flows.runtime.key_keeper import KeyKeeper
from flows.runtime.parking import Parking
from flows.state.idempotency import StateKeys
from flows.state.records import Counts, Lease, Parked, ParkedPlace, Settlement
from flows.state.store import open_store
from tests.flows.runtime.running import wait_for
from transforms.executions import Ended, Executions, Wait

PLAN = SimpleNamespace(
    name="p",
    idempotency=SimpleNamespace(key_template="{{ .data.key }}", ttl=3600.0),
    tenant=None,
    steps=["first", "second"],
)


class Worker:
    """One worker's hand on the keys, and its settle."""

    def __init__(self, url, lease, lease_seconds=60.0):
        self.halt, self.parking = Halt(), Parking()
        self.keeper = KeyKeeper(StateKeys(url, "shop"), self.halt, lease_seconds)
        self.once = OncePerKey(PLAN, self.keeper, self.halt, self.parking, elsewhere=False)
        self.store, self.lease = open_store(url), lease
        self.batches = 0

    def begin(self, *events, lanes=None, resumed=()):
        """Return the executions of events, each (id, key) or (id, key, more), once they are looked at."""
        data = [{"key": key, "more": list(more)} for _, key, *more in events]
        columns = {
            "id": [event[0] for event in events],
            "source": ["/orders"] * len(events),
            "timestamp": [1.0] * len(events),
            "data": data,
        }
        executions = Executions(Batch(len(events), columns, after={}), "p", lanes=lanes)
        for index, step in resumed:
            executions.resumed[index] = parked(executions, index, step)
            if step is not None:
                executions.jumps[index] = PLAN.steps.index(step)
        assert self.once(executions)
        return executions

    def settle(self, executions):
        self.batches += 1
        settlement = Settlement("p", Counts())
        self.once.settle(executions, settlement)
        self.store.commit(self.lease, "orders", [settlement], {"0": f"{self.batches:04}"}, {})

    def run(self, *events, **more):
        executions = self.begin(*events, **more)
        self.settle(executions)
        return outcomes(executions)

    def close(self):
        self.keeper.close()
        self.store.close()


def parked(executions, index, step):
    place = ParkedPlace(
        id=executions.execution_id(index),
        pipeline="p",
        source="orders",
        partition="0",
        lane=None,
        turn=1,
        attempts=0 if step is None else 1,
        due_at=0.0,
    )
    return Parked(place, step, 0.0, "", "", "", "", b"")


def outcomes(executions):
    return [
        executions.ended[index].outcome if index in executions.ended else "done"
        for index in range(executions.events.size)
    ]


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/state.db"
    with closing(open_store(url)) as store:
        assert store.acquire_lease("shop", "orders/0", "me", 60.0)
    return url


@pytest.fixture
def worker(url):
    with closing(Worker(url, Lease("shop", "orders/0", "me", 1))) as made:
        yield made


def test_the_second_of_a_key_in_a_batch_waits_and_is_then_a_duplicate(worker):
    executions = worker.begin(("1", "a"), ("2", "a"), ("3", "b"))
    assert outcomes(executions) == ["done", "parked", "done"]
    worker.settle(executions)
    again = worker.begin(("2", "a"), resumed=[(0, None)])
    assert outcomes(again) == ["skipped"]
    assert again.duplicates[0].original == executions.execution_id(0)


def test_the_same_event_once_more_is_neither_run_nor_recorded(worker):
    assert worker.run(("1", "a"), ("1", "a")) == ["done", "repeated"]
    assert worker.run(("1", "a")) == ["repeated"]


def test_an_event_that_is_parked_and_comes_once_more_is_left_to_the_parked_one(worker):
    executions = worker.begin(("1", "a"))
    executions.waits[0] = Wait(0, 1, 5.0)
    executions.end(0, Ended("parked", "first"))
    worker.settle(executions)
    worker.parking.park(parked(executions, 0, "first").place, 1)
    assert worker.run(("1", "a")) == ["repeated"]
    assert worker.run(("1", "a"), resumed=[(0, "first")]) == ["done"]


def test_an_event_that_comes_again_after_a_crash_holds_its_key_and_goes_on(worker):
    worker.begin(("1", "a"))  # and the worker dies
    assert outcomes(worker.begin(("2", "a"))) == ["parked"]
    assert worker.run(("1", "a")) == ["done"]


def test_what_comes_behind_one_that_waits_waits_in_its_lane_and_holds_no_key(worker):
    worker.begin(("1", "a"))
    executions = worker.begin(("2", "a"), ("3", "b"), ("4", "c"), lanes=["x", "x", "y"])
    assert outcomes(executions) == ["parked", "parked", "done"]
    worker.settle(executions)
    # Nobody waits for what waits: another event of the second's key goes on.
    assert worker.run(("5", "b")) == ["done"]


def test_one_that_is_tried_again_keeps_its_key_until_it_has_ended(worker):
    executions = worker.begin(("1", "a"))
    executions.waits[0] = Wait(1)
    executions.end(0, Ended("parked", "second"))
    worker.settle(executions)
    assert worker.run(("2", "a")) == ["parked"]
    assert worker.run(("1", "a"), resumed=[(0, "second")]) == ["done"]
    assert worker.run(("2", "a"), resumed=[(0, None)]) == ["skipped"]


def test_one_that_failed_leaves_its_key_to_the_next(worker):
    executions = worker.begin(("1", "a"))
    executions.end(0, Ended("failed", "first"))
    worker.settle(executions)
    assert worker.run(("2", "a")) == ["done"]


def test_other_data_waits_for_the_key_and_is_refused_only_when_it_is_done(worker):
    first = worker.begin(("1", "a", "this"))
    assert outcomes(worker.begin(("2", "a", "that"))) == ["parked"]
    worker.settle(first)
    second = worker.begin(("2", "a", "that"), resumed=[(0, None)])
    assert second.ended[0].error.code == "idempotency_key_reused"


def test_the_result_is_the_last_output_there_is(worker):
    first = worker.begin(("1", "a"))
    first.outputs = {"first": [{"n": 2**70}], "second": [{"text": "Zoë"}]}
    worker.settle(first)
    again = worker.begin(("2", "a"))
    assert again.duplicates[0].result == '{"text":"Zoë"}'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ({"n": 2**80}, {"n": 2**80 + 1}, False),
        (None, None, True),
    ],
)
def test_data_is_compared_by_what_its_json_says(one, other, same):
    assert (fingerprint(one) == fingerprint(other)) is same


def test_a_key_is_held_for_as_long_as_its_event_runs(url):
    """Longer than its lease, which is prolonged; and not for ever once the worker is gone."""
    with closing(Worker(url, None, lease_seconds=0.9)) as worker:
        worker.begin(("1", "a"))
        prolonged = threading.Event()
        prolong = worker.keeper.keys.prolong

        def count(claims, seconds):
            prolong(claims, seconds)
            if claims:
                count.times += 1
                if count.times == 4:
                    prolonged.set()

        count.times = 0
        worker.keeper.keys.prolong = count
        assert prolonged.wait(30)
        with closing(Worker(url, None)) as another:
            assert outcomes(another.begin(("2", "a"))) == ["parked"]
    with closing(Worker(url, None)) as another:
        wait_for(lambda: outcomes(another.begin(("2", "a"))) == ["done"], "the end of the lease")


class Away:
    """A store of keys that is away for its first calls."""

    def __init__(self, calls):
        self.left = calls

    def reserve(self, claims, seconds):
        self.left -= 1
        if self.left >= 0:
            raise RetryableError("the idempotency store can't be reached.", code="away")
        return [None] * len(claims)

    def close(self):
        """Nothing is open."""


def test_a_store_that_is_away_is_waited_for_and_shown():
    halt = Halt()
    with closing(KeyKeeper(Away(3), halt, 60.0)) as keeper:
        assert keeper.reserve([]) == []
        assert (keeper.status, halt.error) == ("", None)


def test_a_stop_while_the_store_is_away_settles_nothing():
    halt = Halt()
    with closing(KeyKeeper(Away(10**9), halt, 60.0)) as keeper:
        found = []
        thread = threading.Thread(target=lambda: found.append(keeper.reserve([])))
        thread.start()
        wait_for(lambda: "can't be reached" in keeper.status, "its status")
        halt.ask()
        thread.join(20)
        assert found == [None]
        assert (halt.error.code, halt.error.unreachable) == ("away", True)
