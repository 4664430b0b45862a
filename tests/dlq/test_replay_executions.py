"""A recorded execution runs again: as it was, edited, or from a step on."""

from __future__ import annotations

import json

import pytest

from flows.history.finding import find_execution
from flows.history.listing import ExecutionFilter, list_executions


def _executions(shelf):
    """Event id → its executions, newest first."""
    with shelf.flow.store() as store:
        found = list_executions(store, ExecutionFilter("flow")).executions
        found = [find_execution(store, "flow", each.id) for each in found]
    by_event = {}
    for each in found:
        by_event.setdefault(each.attribute("id"), []).append(each)
    return by_event


def _recorded(shelf, count=3):
    """Run events, and return the executions that history has of them."""
    shelf.write_flow(shelf.look(), shelf.call())
    shelf.fill(count)
    assert shelf.replay("--all", "--yes").returncode == 0
    shelf.service.seen.clear()
    return {event: found[0] for event, found in _executions(shelf).items()}


def _replay(shelf, recorded, *arguments, code=0):
    done = shelf.flow.penstock(
        "executions", "replay", recorded.id, str(shelf.flow.path), *arguments
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_runs_again_as_a_new_execution_that_says_so(any_shelf):
    was = _recorded(any_shelf)["e2"]
    _replay(any_shelf, was)
    assert (any_shelf.seen("look"), any_shelf.seen("call")) == ({2: 1}, {2: 1})
    again, before = _executions(any_shelf)["e2"]
    assert before.id == was.id
    assert again.id != was.id
    assert (again.replay, before.replay) == ("replay-2", "replay-1")
    assert again.attribute("raw") == was.attribute("raw")
    assert any_shelf.flow.letters() == []
    assert sorted(any_shelf.numbers()) == [1, 2, 2, 3]


def test_from_a_step_on_the_outputs_before_it_are_those_that_were_recorded(shelf):
    was = _recorded(shelf)["e2"]
    _replay(shelf, was, "--from-step", "call")
    assert (shelf.seen("look"), shelf.seen("call")) == ({}, {2: 1})
    again = _executions(shelf)["e2"][0]
    assert again.executions.outputs["look"] == was.executions.outputs["look"]


def test_with_an_edit_the_new_data_runs_and_the_old_is_kept(shelf):
    was = _recorded(shelf)["e2"]
    _replay(shelf, was, "--edit", ".n = 22")
    assert shelf.seen("call") == {22: 1}
    again, before = _executions(shelf)["e2"]
    assert (again.attribute("data")["n"], before.attribute("data")["n"]) == (22, 2)


def test_one_that_fails_is_a_dead_letter_with_that_error(shelf):
    was = _recorded(shelf)["e2"]
    shelf.refuses = lambda path, number: path == "call"
    _replay(shelf, was, code=1)
    (letter,) = shelf.flow.letters()
    assert (letter.error_code, letter.step, letter.attempts) == ("http_status", "call", 1)
    with shelf.flow.store() as store:
        shown = find_execution(store, "flow", was.id)
    assert (shown.status, shown.letter) == ("completed", letter.id)
    # It is replayed as any dead letter from then on.
    shelf.refuses = lambda path, number: False
    _replay(shelf, shown)
    assert shelf.flow.letters() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from-step", "nothing"], "there is no step nothing"),
        (["--edit", ".n = "], "can't be read"),
        (["--edit", "error"], "the edit fails"),
    ],
)
def test_what_can_not_be_leaves_nothing_behind(shelf, arguments, told):
    was = _recorded(shelf, 1)["e1"]
    assert told in _replay(shelf, was, *arguments, code=2)
    assert shelf.flow.letters() == []
    assert shelf.seen("call") == {}


def test_one_that_is_not_run_is_gone_and_the_replay_tells_why(shelf):
    was = _recorded(shelf, 1)["e1"]
    shelf.write_flow(shelf.call())
    flow = json.loads(shelf.flow.path.read_text())
    flow["pipelines"]["ship"]["trigger"] = {"source": "orders", "when": ".data.n > 1"}
    shelf.flow.path.write_text(json.dumps(flow))
    assert "not_triggered" in _replay(shelf, was, code=1)
    assert shelf.flow.letters() == []


def test_a_pipeline_that_may_not_be_replayed_is_not(shelf):
    was = _recorded(shelf, 1)["e1"]
    shelf.write_flow(shelf.call(), dead_letter={"replayable": False})
    assert "replayable: false" in _replay(shelf, was, code=2)
