"""The tries of an execution: each with its time, in order, and never too many."""

from __future__ import annotations

import json

from flows.state.tries import NONE, with_try
from tests.flows.state.samples import commit, letter, settlement


def _tried(count, tries=NONE):
    for number in range(count):
        tries = with_try(
            tries, at=1000.0 + number, step="charge", code="http_status", message=f"no {number}."
        )
    return tries


def test_each_try_is_kept_with_its_time_and_the_wait_behind_it():
    tries = with_try(NONE, at=0.5, step="a", code="x", message="no.", after=2.0)
    tries = with_try(tries, at=3.0, step=None, code="y", message="no!")
    assert json.loads(tries) == [
        {
            "at": "1970-01-01T00:00:00.500Z",
            "step": "a",
            "code": "x",
            "message": "no.",
            "after": 2.0,
        },
        {"at": "1970-01-01T00:00:03.000Z", "step": None, "code": "y", "message": "no!"},
    ]


def test_a_try_that_is_told_late_stands_in_its_place():
    late = with_try(_tried(2), at=1000.5, step="b", code="x", message="")
    assert [each["step"] for each in json.loads(late)] == ["charge", "b", "charge"]


def test_of_many_tries_the_first_and_the_newest_are_kept():
    kept = json.loads(_tried(120))
    assert len(kept) == 50
    assert [kept[0]["message"], kept[1]["message"], kept[-1]["message"]] == [
        "no 0.",
        "no 71.",
        "no 119.",
    ]


def test_a_message_of_any_length_and_with_half_a_surrogate_is_kept_short_and_storable():
    (one,) = json.loads(with_try(NONE, at=0, step="s", code="c", message="\ud800" + "x" * 5000))
    assert one["message"].endswith("x…")
    assert len(one["message"]) == 300


def test_a_second_failure_adds_its_tries_to_those_there_are(store, lease):
    commit(store, lease, [settlement(letters=[letter(1, tries=_tried(2))])])
    commit(store, lease, [settlement(letters=[letter(1, tries=_tried(1))])])
    (found,) = store.dead_letter("shop", letter(1).id)
    assert [each["message"] for each in json.loads(found.tries)] == ["no 0.", "no 1.", "no 0."]


def test_tries_do_not_grow_without_end(store, lease):
    for _ in range(40):
        commit(store, lease, [settlement(letters=[letter(1, tries=_tried(49))])])
    (found,) = store.dead_letter("shop", letter(1).id)
    assert len(found.tries) <= 60_000
    assert len(json.loads(found.tries)) % 49 == 0


def test_an_entry_of_an_older_program_has_none_and_gets_them_when_it_fails_again(store, lease):
    commit(store, lease, [settlement(letters=[letter(1)])])
    commit(store, lease, [settlement(letters=[letter(1, tries=_tried(1))])])
    (found,) = store.dead_letter("shop", letter(1).id)
    assert len(json.loads(found.tries)) == 1
