"""`penstock dlq replay` where no worker runs: the flow's own workers do it, and nothing is read."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import pytest

from flows.state.letter_filter import LetterFilter
from penstock.cli.app import main
from tests.flows.runtime.running import step, wait_for
from tests.matrix import matrix

pytestmark = pytest.mark.slow

KILLED_AT = ("after_effects_before_settle:3", "after_settle_before_checkpoint:2")


def test_all_are_replayed_in_order_and_what_succeeds_is_no_dead_letter(any_shelf):
    any_shelf.fill(40)
    ended = any_shelf.replay("--all")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Replay 1 (done): 40 done, 0 failed again, of 40.\n"
    assert any_shelf.flow.letters() == []
    assert any_shelf.seen("call") == dict.fromkeys(range(1, 41), 1)
    for key in range(5):
        order = [n for n in any_shelf.numbers() if n % 5 == key]
        assert order == sorted(order)
    assert any_shelf.flow.totals()["ship"] == (40, 0, 0)


def test_what_fails_again_is_told_with_the_reason_and_stays(any_shelf):
    ids = any_shelf.fill(10)
    any_shelf.refuses = lambda path, number: number == 3
    ended = any_shelf.replay("--all", "-o", "json")
    assert ended.returncode == 1, ended.stderr
    shown = json.loads(ended.stdout)
    assert (shown["status"], shown["done"], shown["failed"]) == ("done", 9, 1)
    (left,) = any_shelf.flow.letters()
    assert (left.id, left.replays, left.error_code) == (ids[2], 1, "http_status")
    again = any_shelf.replay(ids[2])
    assert "1  failed  call  http_status" in again.stdout
    assert any_shelf.flow.letters()[0].replays == 2


def test_a_filter_chooses(shelf):
    shelf.fill(12)
    ended = shelf.replay("--where", ".data.n > 10", "--error", "http_status", "--type", "order.*")
    assert ended.returncode == 0, ended.stderr
    assert sorted(shelf.numbers()) == [11, 12]
    assert len(shelf.flow.letters()) == 10


def test_an_edit_makes_new_data_and_the_dead_letter_keeps_the_old(shelf):
    ids = shelf.fill(2)
    assert shelf.replay(ids[0], "--edit", ".n = 100").returncode == 0
    assert shelf.numbers() == [100]
    shown = shelf.flow.told("dlq", "replays", str(shelf.flow.path), "--id", "1", "-o", "json")
    (entry,) = json.loads(shown.stdout)["entries"]
    assert json.loads(entry["edited"])["n"] == 100
    assert json.loads(entry["original"])["data"]["n"] == 1


def test_two_who_replay_the_same_at_once_run_each_once(any_shelf):
    any_shelf.fill(60)
    command = [sys.executable, "-m", "penstock", "dlq", "replay", "--all", str(any_shelf.flow.path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert any_shelf.seen("call") == dict.fromkeys(range(1, 61), 1)
    with any_shelf.flow.store() as store:
        assert sum(each.done for each in store.replays.newest("flow", 5)) == 60


def test_a_selection_that_was_killed_goes_on_where_it_was(shelf):
    shelf.write_flow(step("kept", "set", {"values": {"a": 1}}))
    shelf.fill(1300)
    ended = shelf.replay("--all", environ={"PENSTOCK_FAIL_POINT": "mid_replay_selection:2"})
    assert ended.returncode == -signal.SIGKILL
    with shelf.flow.store() as store:
        counts = [store.letters.count(LetterFilter(status=s)) for s in ("replaying", "waiting")]
    assert counts == [1000, 300]
    other = shelf.replay("--all")
    assert "300 done" in other.stdout
    assert shelf.replay("--resume", "1").returncode == 0
    assert sorted(shelf.numbers()) == list(range(1, 1301))
    assert shelf.flow.letters() == []


@matrix(
    "any_shelf, point",
    itertools.product(("sqlite", "postgresql"), KILLED_AT),
    usual=zip(("sqlite", "postgresql"), KILLED_AT, strict=True),
    indirect=["any_shelf"],
)
def test_a_worker_that_is_killed_again_and_again_replays_each_to_its_end(any_shelf, point):
    any_shelf.write_flow(step("kept", "set", {"values": {"a": 1}}))
    any_shelf.fill(600, keys=50)
    ended = any_shelf.replay("--all", environ={"PENSTOCK_FAIL_POINT": point})
    assert ended.returncode == 0, ended.stderr
    assert sorted(any_shelf.numbers()) == list(range(1, 601))
    for key in range(50):
        order = [n for n in any_shelf.numbers() if n % 50 == key]
        assert order == sorted(order)
    assert any_shelf.flow.letters() == []
    assert any_shelf.flow.totals()["ship"] == (600, 0, 0)


def test_thousands_are_replayed_at_a_rate(any_shelf):
    any_shelf.write_flow(step("kept", "set", {"values": {"a": 1}}))
    any_shelf.fill(5000, keys=500)
    ended = any_shelf.replay("--all", "--rate", "1000/s")
    assert ended.returncode == 0, ended.stderr
    assert sorted(any_shelf.numbers()) == list(range(1, 5001))
    assert any_shelf.flow.totals()["ship"] == (5000, 0, 0)
    with any_shelf.flow.store() as store:
        replay = store.replays.get(1)
    assert replay.finished_at - replay.created_at > 3  # the rate allows no less


def test_an_interrupted_replay_says_how_to_go_on_and_does(shelf):
    shelf.fill(50)
    command = [sys.executable, "-m", "penstock", "dlq", "replay", "--all", str(shelf.flow.path)]
    process = subprocess.Popen(
        [*command, "--rate", "10/s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: shelf.seen("call"), "the first call")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "--resume 1" in told
    assert shelf.flow.letters()
    assert shelf.replay("--resume", "1").returncode == 0
    assert shelf.seen("call") == dict.fromkeys(range(1, 51), 1)


def test_what_was_parked_before_goes_first(shelf):
    """A retry of the key waits in the state: the replayed event does not overtake it."""
    retry = {"max_attempts": 50, "initial_delay": "200ms", "max_delay": "200ms"}
    shelf.write_flow(shelf.call(), retry=retry)
    ids = shelf.fill(2, keys=1, error_kind="retryable")
    shelf.service.answer = lambda seen: shelf._answer(seen)._replace(status=503)
    environ = os.environ | {"PENSTOCK_FAIL_POINT": ""}
    command = [sys.executable, "-m", "penstock", "dlq", "replay", str(shelf.flow.path)]
    first = subprocess.Popen(
        [*command, ids[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    wait_for(lambda: shelf.seen("call")[1] > 1, "retries")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    shelf.service.answer = shelf._answer
    assert shelf.replay(ids[1]).returncode == 0
    assert shelf.numbers() == [1, 2]


def test_a_cancelled_replay_gives_back_what_has_not_begun(shelf):
    shelf.fill(20)
    shelf.refuses = lambda path, number: False
    assert shelf.replay("--all", "--no-wait").returncode == 0
    assert {each.status for each in shelf.flow.letters()} == {"replaying"}
    nothing = shelf.replay("--all")
    assert nothing.stdout == "Replay 2 (done): 0 done, 0 failed again, of 0.\n"
    ended = shelf.replay("--cancel", "1")
    assert "Replay 1 (cancelled): 0 done, 0 failed again, 20 not run, of 20." in ended.stdout
    assert {each.status for each in shelf.flow.letters()} == {"waiting"}
    assert shelf.service.seen == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "which dead letters?"),
        (["--all", "0199"], "can't be combined"),
        (["019a", "--error", "x"], "ids and filters"),
        (["--all", "--rate", "fast"], "--rate 'fast' is none"),
        (["--all", "--edit", ".a |"], "the jq program can't be read"),
        (["--all", "--since", "yesterday"], "neither a duration nor a time"),
        (["--resume", "9"], "there is no replay 9"),
        (["--pipeline", "shpi"], "Did you mean ship?"),
        (["0000"], "there is no dead letter"),
        (["--all", "--edit", "error"], "the edit fails for dead letter"),
        (["--all", "--edit", ".,."], "has 2 outputs"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_replayed(shelf, capsys, arguments, told):
    shelf.fill(2)
    assert main(["dlq", "replay", *arguments, str(shelf.flow.path)]) == 2
    assert told in capsys.readouterr().err
    assert {each.status for each in shelf.flow.letters()} == {"waiting"}


def test_a_pipeline_that_does_not_allow_it_is_refused(shelf):
    ids = shelf.fill(2)
    shelf.write_flow(shelf.call(), dead_letter={"replayable": False})
    ended = shelf.replay(ids[0])
    assert (ended.returncode, "replay_not_allowed" in ended.stderr) == (2, True)
    ended = shelf.replay("--all")
    assert ended.returncode == 1
    assert "2  returned  -     not_replayable" in ended.stdout
    assert {each.status for each in shelf.flow.letters()} == {"waiting"}


def test_dead_letters_of_a_source_that_is_gone_are_returned(shelf):
    shelf.fill(2, source="elsewhere")
    ended = shelf.replay("--all")
    assert ended.returncode == 1
    assert "source_gone" in ended.stdout
    assert {each.status for each in shelf.flow.letters()} == {"waiting"}


def test_without_the_flow_file_and_a_worker_it_says_what_to_do(shelf):
    shelf.fill(1)
    ended = shelf.flow.told("dlq", "replay", "--all", "--state", shelf.flow.state_url)
    assert ended.returncode == 2
    assert "penstock dlq replay --resume 1 FLOW.yaml" in ended.stderr
    assert shelf.replay("--resume", "1").returncode == 0
