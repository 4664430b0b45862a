"""A recorded execution runs again: as it was, edited, or from a step on."""

from __future__ import annotations

import json

import pytest

from flows.history.finding import find_execution
from flows.history.listing import ExecutionFilter, list_executions
from penstock.cli.app import main
from tests.dlq.shelf import Shelf
from tests.transforms.steps.answering import serving

pytestmark = [pytest.mark.slow]


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


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """Nine recorded executions, of e1 to e9: one for each test, and `number` says which."""
    with serving() as service:
        shelf = Shelf(tmp_path_factory.mktemp("past"), service)
        _recorded(shelf, 9)
        shelf.number = 0
        yield shelf
        shelf.flow.end()


@pytest.fixture
def was(past):
    """An execution that no other test has run again, of the flow as it was."""
    past.number += 1
    past.write_flow(past.look(), past.call())
    past.refuses = lambda path, number: False
    past.service.seen.clear()
    return _executions(past)[f"e{past.number}"][0]


def test_from_a_step_on_the_outputs_before_it_are_those_that_were_recorded(past, was):
    _replay(past, was, "--from-step", "call")
    assert (past.seen("look"), past.seen("call")) == ({}, {past.number: 1})
    again = _executions(past)[f"e{past.number}"][0]
    assert again.executions.outputs["look"] == was.executions.outputs["look"]


def test_with_an_edit_the_new_data_runs_and_the_old_is_kept(past, was):
    _replay(past, was, "--edit", ".n = 22")
    assert past.seen("call") == {22: 1}
    again, before = _executions(past)[f"e{past.number}"]
    assert (again.attribute("data")["n"], before.attribute("data")["n"]) == (22, past.number)


def test_one_that_fails_is_a_dead_letter_with_that_error(past, was):
    past.refuses = lambda path, number: path == "call"
    _replay(past, was, code=1)
    (letter,) = past.flow.letters()
    assert (letter.error_code, letter.step, letter.attempts) == ("http_status", "call", 1)
    with past.flow.store() as store:
        shown = find_execution(store, "flow", was.id)
    assert (shown.status, shown.letter) == ("completed", letter.id)
    # It is replayed as any dead letter from then on.
    past.refuses = lambda path, number: False
    _replay(past, shown)
    assert past.flow.letters() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from-step", "nothing"], "there is no step nothing"),
        (["--edit", ".n = "], "can't be read"),
        (["--edit", "error"], "the edit fails"),
    ],
)
def test_what_can_not_be_leaves_nothing_behind(past, was, capsys, arguments, told):
    path = str(past.flow.path)
    assert main(["executions", "replay", was.id, path, *arguments]) == 2
    assert told in capsys.readouterr().err
    assert past.flow.letters() == []
    assert past.seen("call") == {}


def test_one_that_is_not_run_is_gone_and_the_replay_tells_why(past, was):
    past.write_flow(past.call())
    flow = json.loads(past.flow.path.read_text())
    flow["pipelines"]["ship"]["trigger"] = {"source": "orders", "when": ".data.n > 100"}
    past.flow.path.write_text(json.dumps(flow))
    assert "not_triggered" in _replay(past, was, code=1)
    assert past.flow.letters() == []


def test_a_pipeline_that_may_not_be_replayed_is_not(past, was, capsys):
    past.write_flow(past.call(), dead_letter={"replayable": False})
    assert main(["executions", "replay", was.id, str(past.flow.path)]) == 2
    assert "replayable: false" in capsys.readouterr().err
