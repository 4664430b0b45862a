"""A pipeline started by hand: in place where no worker runs, by the running flow otherwise."""

from __future__ import annotations

import json

import pytest

from dlq.trigger import Wish, trigger
from flows.by_hand import BY_HAND
from flows.history.finding import find_execution
from flows.plan import load_flow
from penstock.cli.app import main
from tests.dlq.shelf import Shelf
from tests.flows.runtime.calling import Calling, Service
from tests.flows.runtime.running import FlowFolder, file_sink, publish, wait_for
from tests.transforms.steps.answering import serving

pytestmark = [pytest.mark.slow]


@pytest.fixture
def shelf(tmp_path):
    with serving() as service:
        made = Shelf(tmp_path, service)
        made.write_flow(made.call(), trigger={"event_type": "order.*"})
        yield made
        made.flow.end()


def start(shelf, data, *arguments, code=0):
    done = shelf.flow.penstock(
        "trigger", "ship", str(shelf.flow.path), "--data", data, "-o", "json", *arguments
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code != 2 else done.stderr


def test_an_event_is_run_in_place_and_recorded(shelf, tmp_path):
    file = tmp_path / "order.json"
    file.write_text('{"n": 7, "big": 9007199254740993}')
    told = start(shelf, f"@{file}", "--type", "order.created", "--key", "k7", "--subject", "o/7")
    assert (told["status"], told["error"]) == ("completed", None)
    assert shelf.seen("call") == {7: 1}
    (line,) = shelf.flow.lines()
    assert line["data"] == {"n": 7, "big": 9007199254740993}
    assert (line["type"], line["subject"]) == ("order.created", "o/7")
    with shelf.flow.store() as store:
        found = find_execution(store, "flow", told["execution_id"])
    assert (found.status, found.attribute("key")) == ("completed", "k7")
    assert found.attribute("source") == "/penstock/trigger"
    assert shelf.flow.letters() == []


def test_one_that_fails_is_a_dead_letter_with_its_error(shelf):
    shelf.refuses = lambda path, number: True
    told = start(shelf, '{"n": 7}', "--type", "order.created", code=1)
    assert (told["status"], told["error"]["code"]) == ("failed", "http_status")
    (letter,) = shelf.flow.letters()
    assert (letter.error_code, letter.attempts, letter.step) == ("http_status", 1, "call")
    assert json.loads(letter.event)["data"] == {"n": 7}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ship", "--data", "{"), "usage"),
        (("ship", "--data", "1"), "trigger_type"),
        (("shop", "--data", "1"), "unknown_pipeline"),
    ],
)
def test_what_can_not_be_run_is_refused_and_leaves_nothing(shelf, capsys, arguments, code):
    assert main(["trigger", *arguments, str(shelf.flow.path)]) == 2
    assert code in capsys.readouterr().err
    assert shelf.flow.letters() == []


@pytest.mark.kafka
@pytest.mark.slow
def test_a_running_flow_runs_it_once_also_when_it_waits_and_the_worker_is_killed(tmp_path, kafka):
    flow = FlowFolder(tmp_path)
    with serving() as receiver:
        service = Service(receiver)
        calling = Calling(flow, kafka, service)
        mended = []
        service.fails = lambda number, tries: not mended
        retry = {"max_attempts": 1000, "initial_delay": "200ms", "max_delay": "200ms"}
        calling.write_flow(retry=retry, dead_letter={"replayable": False})
        run = flow.start()
        run.wait_until_started()
        with flow.store() as store:
            wish = Wish("calling", b'{"n": 1, "key": "k1"}')
            number = trigger(store, load_flow([flow.path]), wish, by="ann").replay
        wait_for(lambda: service.tries[1] > 1, "the call to be tried again")
        run.kill_all()
        mended.append(True)
        run = flow.start()
        with flow.store() as store:
            wait_for(lambda: store.replays.get(number).is_over, "its end")
            (entry,) = store.replays.entries(number, 1)
        assert entry.status == "done"
        assert run.stop() == 0, run.text()
        assert calling.numbers() == [1]
        assert flow.totals() == {"calling": (1, 0, 0)}
        flow.end()


# --- pipelines without a source ---------------------------------------------------------------


@pytest.fixture
def by_hand(tmp_path):
    """A flow whose one pipeline has no trigger at all, and the service that its step calls."""
    with serving() as service:
        made = Shelf(tmp_path, service)
        made.flow.write(
            modules=[file_sink(made.flow.folder)],
            pipelines={"ship": {"steps": [made.call(), publish("out", data_from="data")]}},
        )
        yield made
        made.flow.end()


def test_a_pipeline_without_a_source_is_run_in_place(by_hand):
    told = start(by_hand, '{"n": 7}', "--key", "k7")
    assert (told["status"], told["error"], told["repeated"]) == ("completed", None, False)
    assert by_hand.seen("call") == {7: 1}
    assert [line["data"] for line in by_hand.flow.lines()] == [{"n": 7}]
    with by_hand.flow.store() as store:
        found = find_execution(store, "flow", told["execution_id"])
    assert (found.status, found.pipeline) == ("completed", "ship")
    assert by_hand.flow.totals() == {"ship": (1, 0, 0)}


def test_what_fails_there_is_a_dead_letter_that_can_be_replayed(by_hand):
    by_hand.refuses = lambda path, number: True
    assert start(by_hand, '{"n": 7}', code=1)["status"] == "failed"
    (letter,) = by_hand.flow.letters()
    assert (letter.pipeline, letter.error_code) == ("ship", "http_status")
    by_hand.refuses = lambda path, number: False
    done = by_hand.flow.penstock("dlq", "replay", "--all", str(by_hand.flow.path), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert by_hand.flow.letters() == []
    assert len(by_hand.flow.lines()) == 1


def test_a_flow_of_such_pipelines_alone_runs_what_it_is_given_and_stops_when_asked(by_hand):
    run = by_hand.flow.start()
    run.wait_until_started()
    told = start(by_hand, '{"n": 7}')
    assert told["status"] == "completed"
    assert len(run.workers()) == 1
    assert run.stop() == 0, run.text()
    assert by_hand.seen("call") == {7: 1}


def test_until_caught_up_it_runs_all_that_was_asked_for_and_ends(by_hand):
    plan = load_flow([by_hand.flow.path])
    with by_hand.flow.store() as store:
        numbers = [
            trigger(store, plan, Wish("ship", b'{"n": %d}' % n), by="ann").replay for n in range(5)
        ]
    by_hand.flow.run()
    assert by_hand.seen("call") == dict.fromkeys(range(5), 1)
    with by_hand.flow.store() as store:
        assert {store.replays.get(number).status for number in numbers} == {"done"}


def test_a_worker_that_is_killed_on_the_way_loses_nothing_of_it(by_hand):
    with by_hand.flow.store() as store:
        started = trigger(store, load_flow([by_hand.flow.path]), Wish("ship", b'{"n": 7}'), by="x")
    for point in ("after_effects_before_settle", "after_settle_before_checkpoint"):
        by_hand.flow.killed_at(point, BY_HAND)
    by_hand.flow.catch_up(BY_HAND)
    assert [line["data"] for line in by_hand.flow.lines()] == [{"n": 7}]
    assert by_hand.flow.totals() == {"ship": (1, 0, 0)}
    with by_hand.flow.store() as store:
        assert find_execution(store, "flow", started.execution).status == "completed"


def test_several_workers_are_asked_for_and_one_runs_it(by_hand):
    by_hand.flow.run("--workers", "2")
    run = by_hand.flow.start("--workers", "2")
    run.wait_until_started()
    assert start(by_hand, '{"n": 7}')["status"] == "completed"
    assert run.stop() == 0, run.text()
    assert by_hand.seen("call") == {7: 1}


# --- the same key again -----------------------------------------------------------------------


def test_the_same_key_again_starts_nothing_and_tells_of_the_first(by_hand):
    first = start(by_hand, '{"n": 7}', "--idempotency-key", "order_7")
    again = start(by_hand, '{"n": 8}', "--idempotency-key", "order_7")
    assert again == {**first, "repeated": True}
    assert by_hand.seen("call") == {7: 1}


def test_a_key_that_was_used_by_one_that_failed_tells_of_that(by_hand):
    by_hand.refuses = lambda path, number: True
    first = start(by_hand, '{"n": 7}', "--idempotency-key", "order_7", code=1)
    by_hand.refuses = lambda path, number: False
    again = start(by_hand, '{"n": 7}', "--idempotency-key", "order_7", code=1)
    assert (again["execution_id"], again["status"]) == (first["execution_id"], "failed")
    assert by_hand.seen("call") == {7: 1}


@pytest.mark.parametrize("key", ["", "k" * 513])
def test_a_key_that_says_nothing_or_too_much_is_refused(by_hand, capsys, key):
    path = str(by_hand.flow.path)
    assert main(["trigger", "ship", path, "--data", "1", "--idempotency-key", key]) == 2
    assert "trigger_key" in capsys.readouterr().err
    assert by_hand.flow.letters() == []
