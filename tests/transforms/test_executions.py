"""A batch's executions: which of them go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import Batch
from transforms.executions import Ended, Executions

PARKED = Ended("parked")


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
