"""A dry run of a replay: what reads runs, what has an effect does not, and nothing is stored."""

from __future__ import annotations

import json

import pytest

from tests.flows.runtime.running import step

pytestmark = pytest.mark.slow


def dry_run(shelf, *arguments):
    path = str(shelf.flow.path)
    ended = shelf.flow.told("dlq", "replay", "--all", "--dry-run", "-o", "json", *arguments, path)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def stored(shelf):
    with shelf.flow.store() as store:
        return (
            shelf.flow.letters(),
            store.replays.newest("flow", 5),
            store.totals("flow"),
            store.parked_next("flow", 5),
        )


def test_it_tells_which_would_pass_and_which_still_fail_and_sends_nothing(shelf):
    shelf.write_flow(shelf.look(), step("shape", "jq", {"expression": "{n: .steps.look.output.n}"}))
    shelf.fill(10, step="look")
    shelf.refuses = lambda path, number: number % 5 == 0
    before = stored(shelf)
    code, report = dry_run(shelf)
    assert code == 1
    assert report["verdicts"] == {"passes": 8, "fails": 2}
    passes, fails = report["groups"]
    assert (passes["was"], passes["count"]) == ("http_status", 8)
    assert (fails["now"], fails["step"], fails["count"]) == ("http_status", "look", 2)
    assert stored(shelf) == before
    assert shelf.seen("look") == dict.fromkeys(range(1, 11), 1)
    assert shelf.flow.lines() == []


def test_a_call_that_changes_something_is_held_back(shelf):
    shelf.write_flow(shelf.look(), shelf.call())
    shelf.fill(3)
    code, report = dry_run(shelf)
    assert (code, report["verdicts"]) == (0, {"reaches": 3})
    assert report["groups"][0]["step"] == "call"
    assert {seen.method for seen in shelf.service.seen} == {"GET"}


def test_a_call_that_had_answered_before_answers_the_same(shelf):
    shelf.write_flow(shelf.call(), step("again", "jq", {"expression": ".steps.call.output.ok"}))
    shelf.fill(3, step="again", outputs='{"call":{"ok":true}}')
    code, report = dry_run(shelf)
    assert (code, report["verdicts"]) == (0, {"passes": 3})
    assert shelf.service.seen == []


def test_calls_in_a_loop_are_held_back_too(shelf):
    each = {**shelf.call(), "name": "each"}
    shelf.write_flow(
        step("kept", "set", {"values": {"lines": [1, 2]}}),
        step("lines", "foreach", {"collection": "steps.kept.output.lines", "steps": [each]}),
    )
    shelf.fill(2, step="lines[0].each")
    _, report = dry_run(shelf)
    assert report["verdicts"] == {"reaches": 2}
    assert shelf.service.seen == []


def test_a_python_step_with_an_effect_is_held_back_and_one_without_runs(shelf):
    (shelf.flow.folder / "mine.py").write_text(
        "from pathlib import Path\n"
        "def shape(data):\n    return {'n': data['n']}\n"
        "def act(data):\n    Path(__file__).with_name('acted').touch()\n"
    )
    shelf.write_flow(
        step("shape", "python", {"function": "mine:shape"}),
        step("act", "python", {"function": "mine:act", "effect": True}),
    )
    shelf.fill(1, step="shape")
    ended = shelf.replay(
        "--all", "--dry-run", "-o", "json"
    )  # its functions stay out of this process
    report = json.loads(ended.stdout)
    assert report["verdicts"] == {"reaches": 1}
    assert not (shelf.flow.folder / "acted").exists()


def test_whether_a_sink_would_take_it_can_not_be_told(shelf):
    shelf.write_flow(step("kept", "set", {"values": {"a": 1}}))
    shelf.fill(2, step="write")
    _, report = dry_run(shelf)
    assert report["verdicts"] == {"reaches": 2}
    assert shelf.flow.lines() == []


def test_an_edit_is_tried(shelf):
    shelf.write_flow(
        step("shape", "jq", {"expression": ".data.n | tonumber"}), trigger={"when": "true"}
    )
    shelf.fill(2, step="shape")
    assert dry_run(shelf)[1]["verdicts"] == {"passes": 2}
    assert dry_run(shelf, "--edit", '.n = "x"')[1]["verdicts"] == {"fails": 2}


def test_what_the_trigger_no_longer_takes_is_told(shelf):
    shelf.write_flow(shelf.look(), trigger={"when": ".data.n > 1"})
    shelf.fill(2, step="look")
    assert dry_run(shelf)[1]["verdicts"] == {"passes": 1, "not_triggered": 1}


def test_for_people_it_is_a_table(shelf):
    shelf.write_flow(shelf.look())
    ids = shelf.fill(2, step="look")
    ended = shelf.flow.told("dlq", "replay", *ids, "--dry-run", str(shelf.flow.path))
    assert ended.returncode == 0, ended.stderr
    assert "http_status  would pass" in ended.stdout
    assert "2 of 2 would pass. Nothing was sent or stored." in ended.stdout
