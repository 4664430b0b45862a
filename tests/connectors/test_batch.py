"""A few events of a batch: what is made of them is what the whole batch would have had there."""

from __future__ import annotations

import tracemalloc

from connectors.batch import Batch, derived
from connectors.errors import PermanentError


class State:
    def __init__(self, numbers):
        self.numbers = numbers


class StateThatPicks(State):
    def picked(self, indexes):
        return StateThatPicks([self.numbers[k] for k in indexes])


def _batch(state):
    asked = []

    def keys(batch):
        asked.append(batch.size)
        return [f"k{number}" for number in batch.state.numbers]

    @derived("key")
    def ids(batch):
        asked.append(batch.size)
        return [f"id of {key}" for key in batch.column("key")]

    raws = [b"%d" % number for number in state.numbers]
    makers = {"key": keys, "id": ids}
    return Batch(len(raws), {"raw": raws}, after={"p": "9"}, makers=makers, state=state), asked


def test_what_a_few_events_have_is_made_for_them_alone():
    batch, asked = _batch(StateThatPicks(range(100, 200)))
    few = batch.pick([7, 50])
    assert (few.size, few.column("raw"), few.column("data")) == (2, [b"107", b"150"], [107, 150])
    assert few.column("id") == ["id of k107", "id of k150"]
    assert asked == [2, 2]
    assert few.after == {}


def test_of_a_state_that_can_not_be_picked_the_columns_are_made_for_all():
    batch, asked = _batch(State(range(100, 200)))
    few = batch.pick([7, 50])
    assert few.column("id") == ["id of k107", "id of k150"]
    assert sorted(asked) == [2, 100]
    assert batch.columns["key"][50] == "k150"


def test_an_event_that_can_not_be_read_takes_its_error_along():
    batch, _ = _batch(State([1, 2, 3]))
    batch.errors[2] = error = PermanentError("broken.", code="data_not_json", hint="")
    assert batch.pick([0, 2]).errors == {1: error}


def test_the_texts_of_a_batch_take_no_more_memory_than_they_are_long():
    batch = Batch(500, {"data": [{"number": number} for number in range(500)]}, after={})
    tracemalloc.start()
    try:
        texts = batch.column("raw")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert texts[7] == b'{"number":7}'
    assert taken < 500 * 200
