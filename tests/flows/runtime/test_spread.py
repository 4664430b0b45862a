"""Whose it is what waits in a cluster, and what a process that reads knows of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from connectors.batch import Batch
from connectors.errors import RetryableError
from flows.runtime import spread
from flows.runtime.exchange import Splitter
from flows.runtime.spread import Share, WaitingElsewhere, goes_on
from flows.state.bodies import encode_each
from flows.state.records import Parked, ParkedPlace
from transforms.executions import Executions
from transforms.expressions import compile_jq


def executions(numbers):
    columns = {
        "raw": [b'{"id": %d}' % number for number in numbers],
        "key": [str(number) for number in numbers],
        "partition": ["p"] * len(numbers),
        "position": [f"{number:04}" for number in numbers],
        "id": [f"e{number}" for number in numbers],
        "source": ["/s"] * len(numbers),
        "type": ["t"] * len(numbers),
        "timestamp": [1.0] * len(numbers),
    }
    return Executions(events=Batch(len(numbers), columns, after={}), pipeline="p")


def place(name, turn, lane=None, **more):
    return ParkedPlace(name, "p", "s", "p", lane, turn, 1, 0.0, **more)


def parked(numbers):
    """Return executions as the state store has them, with an output that no new event has."""
    batch = executions(numbers)
    batch.outputs["id"] = [-number for number in numbers]
    indexes = range(len(numbers))
    bodies = encode_each(batch, indexes)
    return [
        Parked(place(f"e{numbers[k]}", k), None, 0.0, f"e{numbers[k]}", "t", "", "", bodies[k])
        for k in indexes
    ]


@pytest.mark.parametrize("of", [1, 2, 3])
@pytest.mark.parametrize("key", [".data.id", ".data.id % 7", ".steps.id.output // .data.id"])
def test_what_is_parked_belongs_to_the_process_that_new_events_of_its_key_go_to(key, of):
    numbers = list(range(1, 1200))
    program, found = compile_jq(key), {each.place.id: each for each in parked(numbers)}
    places = [each.place for each in found.values()]
    sent = dict(Splitter(program, 0, of)(executions(numbers)))
    own = set(sent["0"].events.column("id")) if "0" in sent else set()
    shares = []
    for process in range(of):
        share = Share(program, process, of)
        mine = share.of_places(places, lambda ids: [found[each] for each in ids])
        assert [each.turn for each in mine] == sorted(each.turn for each in mine)
        shares.append([each.id for each in mine])
    assert set(shares[0]) == own
    assert sorted(each for share in shares for each in share) == sorted(found)


def test_what_has_no_key_any_more_is_the_first_ones_and_what_is_gone_is_nobodys():
    found = {each.place.id: each for each in parked([1, 2, 3])}
    places = [each.place for each in found.values()]
    del found["e2"]
    shares = [
        Share(compile_jq(".data.id.x"), process, 2).of_places(
            places, lambda ids: [found[each] for each in ids if each in found]
        )
        for process in range(2)
    ]
    assert [[each.id for each in share] for share in shares] == [["e1", "e3"], []]


def test_what_is_paused_and_what_is_behind_it_does_not_go_on_by_itself():
    paused = place("a1", 1, "a", paused_at=1.0)
    assert not goes_on([])
    assert not goes_on([paused, place("a2", 2, "a"), place("x", 3, paused_at=1.0)])
    assert goes_on([paused, place("b1", 2, "b")])
    assert goes_on([place("a0", 0, "a"), paused])
    assert goes_on([paused, place("y", 2)])
    assert goes_on([paused, replace(place("a2", 2, "a"), pipeline="q")])


class Store:
    """What a process that reads asks of the state store."""

    def __init__(self):
        self.counts, self.places, self.looks, self.away = {}, [], 0, False
        self.waiting = SimpleNamespace(counts=self.count)

    def count(self, _flow):
        self.looks += 1
        if self.away:
            raise RetryableError("away", code="state_unavailable")
        return self.counts

    def parked_places(self, _flow, _source):
        return self.places

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(spread, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def elsewhere(store, clock):
    return WaitingElsewhere(
        "flow",
        "s",
        {"p": 100, "q": 1000},
        readers=2,
        committer=SimpleNamespace(outstanding=False),
        open_store=lambda: store,
    )


def test_it_is_looked_again_when_so_much_was_read_as_could_fill_what_may_wait(elsewhere, store):
    assert elsewhere.full() == ""
    elsewhere.read(49)
    assert (elsewhere.full(), store.looks) == ("", 1)
    store.counts = {"p": 60}
    elsewhere.read(1)
    assert (elsewhere.full(), store.looks) == ("", 2)
    elsewhere.read(19)
    assert (elsewhere.full(), store.looks) == ("", 2)
    elsewhere.read(1)
    assert (elsewhere.full(), store.looks) == ("", 3)


def test_while_too_many_wait_nothing_is_read_and_it_is_looked_a_few_times_a_second(
    elsewhere, store, clock
):
    store.counts = {"p": 100, "other": 5000}
    assert "pipeline p: 100 executions wait (max_parked: 100)" in elsewhere.full()
    assert elsewhere.full()
    assert store.looks == 1
    store.counts = {"p": 99}
    clock[0] += spread.LOOK
    assert elsewhere.full() == ""


def test_a_state_store_that_is_away_changes_nothing(elsewhere, store, clock):
    store.counts = {"p": 100}
    assert elsewhere.full()
    store.away = True
    clock[0] += spread.LOOK
    assert elsewhere.full()


def test_the_end_is_reached_when_all_is_stored_and_nothing_goes_on(elsewhere, store, clock):
    elsewhere._committer.outstanding = True
    assert elsewhere.unfinished()
    elsewhere._committer.outstanding = False
    store.places = [place("a", 1)]
    assert elsewhere.unfinished()
    store.places = [replace(place("a", 1), pipeline="another")]
    clock[0] += spread.LOOK
    assert not elsewhere.unfinished()


def test_pulses_have_a_while_between_them(elsewhere, clock):
    assert elsewhere.is_due()
    assert not elsewhere.is_due()
    clock[0] += 2 * spread.PULSE_EVERY
    assert elsewhere.is_due()
