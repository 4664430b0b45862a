"""A batch's executions: which of them go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import Batch, Change
from transforms.executions import Ended, Executions

PARKED = Ended("parked")

OBJECTS = [{"n": 1, "id": "own"}, {"n": None, "id": 2}, {"n": [3], "id": None}]
DATA = {
    "all have the field": OBJECTS,
    "one lacks it": [*OBJECTS, {"m": 1}],
    "one is no object": [*OBJECTS, [1], "n", None, 7],
    "none": [],
}
NAMES = ["n", "id", "type", "missing", "specversion", "data", "operation", "event", "steps", "item"]


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_the_context_is_what_each_has_there(name, data):
    size = len(data)
    events = Batch(
        size,
        {
            "data": data,
            "id": [f"id-{k}" for k in range(size)],
            "source": ["s"] * size,
            "type": ["t"] * size,
            "change": [Change("INSERT", None, {}) if k % 2 else None for k in range(size)],
            **dict.fromkeys(
                [
                    "subject",
                    "time",
                    "datacontenttype",
                    "dataschema",
                    "partition",
                    "position",
                    "key",
                ],
                [None] * size,
            ),
            "extensions": [{"missing": k} if k else {} for k in range(size)],
        },
        after={},
    )
    made = Executions(events, "p", scope={"item": list(range(size))}, outputs={"s": [9] * size})
    for indexes in (range(size), [k for k in range(size) if k % 2]):
        assert made.root_column(name, indexes) == [made.root(k, name) for k in indexes]
        wanted = [made.trigger_field(k, name) for k in indexes]
        assert made.trigger_column(name, indexes) == wanted


@given(st.integers(0, 60), st.data())
def test_those_go_on_that_have_not_ended_and_have_come_to_their_step(size, data):
    some = st.dictionaries(st.integers(0, size - 1), st.integers(0, 3)) if size else st.just({})
    ended, jumps = data.draw(some), data.draw(some)
    made = Executions(
        Batch(size, {}, after={}), "p", ended=dict.fromkeys(ended, PARKED), jumps=dict(jumps)
    )
    wanted = [k for k in range(size) if k not in ended and jumps.get(k, 0) <= 2]
    assert list(made.going(2)) == wanted
    assert list(made.going(2)) == wanted  # what has come to its step stays there
