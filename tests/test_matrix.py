"""The cases of a matrix: some in every run, all of them in `make chaos`, no value never."""

from __future__ import annotations

from itertools import product

import pytest

from tests.matrix import matrix

WHOLE = list(product("ab", (1, 2)))


def cases(usual):
    """Return what a test would be called with, and the names of its marks."""

    @matrix("letter, number", WHOLE, usual=usual)
    def test(letter, number):
        pass

    marks = {mark.name: mark for mark in test.pytestmark}
    return marks["parametrize"].args[1], set(marks)


def test_a_usual_run_has_the_usual_cases_and_they_belong_to_chaos(monkeypatch):
    monkeypatch.delenv("PENSTOCK_CHAOS_KILLS", raising=False)
    assert cases([("a", 2), ("b", 1)]) == ([("a", 2), ("b", 1)], {"chaos", "parametrize"})


def test_chaos_has_all_of_them(monkeypatch):
    monkeypatch.setenv("PENSTOCK_CHAOS_KILLS", "200")
    assert cases([("a", 2), ("b", 1)])[0] == WHOLE


@pytest.mark.parametrize(
    ("usual", "said"),
    [
        ([("a", 1), ("b", 1)], "no usual case has number = 2"),
        ([("a", 1), ("a", 2)], "no usual case has letter = 'b'"),
        ([("a", 1), ("b", 2), ("c", 1)], "not in the whole matrix"),
    ],
)
def test_a_value_that_no_usual_case_has_is_refused(usual, said):
    with pytest.raises(ValueError, match=said):
        cases(usual)
