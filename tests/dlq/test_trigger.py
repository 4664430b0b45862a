"""A pipeline started by hand: in place where no worker runs, by the running flow otherwise."""

from __future__ import annotations

import json

import pytest

from dlq.trigger import Wish, trigger
from flows.history.finding import find_execution
from flows.plan import load_flow
from tests.dlq.shelf import Shelf
from tests.flows.runtime.calling import Calling, Service
from tests.flows.runtime.running import FlowFolder, wait_for
from tests.transforms.steps.answering import serving


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
def test_what_can_not_be_run_is_refused_and_leaves_nothing(shelf, arguments, code):
    done = shelf.flow.penstock("trigger", *arguments, str(shelf.flow.path))
    assert done.returncode == 2
    assert code in done.stderr
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
            number = trigger(store, load_flow([flow.path]), wish, by="ann").id
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
