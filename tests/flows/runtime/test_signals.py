"""Signals to executions that wait or run: obeyed once, in order with their key, through kills."""

from __future__ import annotations

import json
import threading

import pytest

from flows.history.asking import ask_one, ask_waiting
from flows.history.documents import detail_document, timeline_document
from flows.history.events import events_of
from flows.history.finding import find_execution
from flows.history.listing import ExecutionFilter, list_executions
from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.booking import Booking, Bookings
from tests.flows.runtime.running import wait_for
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LATER = {"max_attempts": 9, "initial_delay": "1h"}


def waiting(flow, status="waiting", **more):
    """Return event number → parked execution."""
    with flow.store() as store:
        page = list_executions(store, ExecutionFilter("flow", status=status, **more), limit=1000)
    found = {}
    for each in page.executions:
        data = each.executions.events.column("data")[0]
        found[data.get("n", data.get("order"))] = each
    return found


def recorded(flow, execution):
    with flow.store() as store:
        return find_execution(store, "flow", execution)


def ask(flow, execution, action, reason=""):
    with flow.store() as store:
        return ask_one(store, "flow", execution, action, by="ann", reason=reason)


def signal(flow, number):
    with flow.store() as store:
        return store.signals.get([number])[0]


def obeyed(flow, number):
    return wait_for(
        lambda: (found := signal(flow, number)).status != "waiting" and found,
        f"signal {number} to be obeyed",
    )


@pytest.fixture
def held(calling):
    """A running flow in which event 0 waits for an hour, 5 and 10 behind it; others are through."""
    calling.mended = False
    calling.service.fails = lambda number, tries: number == 0 and not calling.mended
    calling.write_flow(retry=LATER)
    calling.send(range(11))
    run = calling.flow.start()
    wait_for(lambda: len(waiting(calling.flow)) == 3, "three to wait")
    wait_for(lambda: len(calling.numbers()) == 8, "the others")
    calling.run = run
    return calling


def ends_well(held):
    assert held.run.stop() == 0, held.run.text()


def test_a_retry_is_tried_at_once_and_those_behind_it_follow_in_order(held):
    held.mended = True
    number = ask(held.flow, waiting(held.flow)[0].id, "retry", "it is back")
    assert obeyed(held.flow, number).status == "applied"
    wait_for(lambda: len(held.numbers()) == 11, "all events")
    ends_well(held)
    assert [n for key, n in held.service.done if key == "k0"] == [0, 5, 10]
    assert held.service.tries[0] == 2


def test_a_retry_of_one_behind_another_waits_for_its_turn(held):
    places = waiting(held.flow)
    later = ask(held.flow, places[10].id, "retry")
    first = ask(held.flow, places[0].id, "cancel")
    assert obeyed(held.flow, later).status == "applied"
    assert signal(held.flow, first).ended_at <= signal(held.flow, later).ended_at
    wait_for(lambda: len(held.numbers()) == 10, "those behind it")
    ends_well(held)
    assert [n for key, n in held.service.done if key == "k0"] == [5, 10]


def test_a_paused_execution_holds_its_key_until_it_is_resumed_also_over_a_restart(held):
    place = waiting(held.flow)[0]
    assert obeyed(held.flow, ask(held.flow, place.id, "pause", "asking")).status == "applied"
    assert list(waiting(held.flow, "paused")) == [0]
    assert recorded(held.flow, place.id).status == "paused"
    held.run.kill_all()
    held.mended = True
    held.run = held.flow.start()
    held.run.wait_until_started()
    held.send([100, 101])
    wait_for(lambda: 101 in held.numbers(), "another key")
    assert recorded(held.flow, place.id).status == "paused"
    obeyed(held.flow, ask(held.flow, place.id, "resume"))
    assert recorded(held.flow, place.id).status == "waiting"
    obeyed(held.flow, ask(held.flow, place.id, "retry"))
    wait_for(lambda: len(held.numbers()) == 13, "all events")
    ends_well(held)
    assert [n for key, n in held.service.done if key == "k0"] == [0, 5, 10, 100]


def test_a_skipped_step_has_no_output_and_the_rest_is_run(held):
    place = waiting(held.flow)[0]
    assert obeyed(held.flow, ask(held.flow, place.id, "skip", "by hand")).note == "at step call"
    wait_for(lambda: len(held.numbers()) == 11, "all events")
    ends_well(held)
    assert [n for key, n in held.service.done if key == "k0"] == [5, 10]
    found = timeline_document(recorded(held.flow, place.id))
    assert found["status"] == "completed"
    assert [(each["name"], each["status"]) for each in found["steps"]] == [
        ("call", "skipped"),
        ("write", "completed"),
    ]
    assert found["steps"][0]["reason"] == "the step was skipped by ann: by hand"
    assert [each["signal"] for each in found["signals"]] == ["skip"]


@pytest.mark.parametrize("place", [0, 5])
def test_a_cancelled_execution_ends_out_of_its_turn_and_is_no_dead_letter(held, place):
    held.mended = True
    chosen = waiting(held.flow)[place]
    assert obeyed(held.flow, ask(held.flow, chosen.id, "cancel", "ordered twice")).status == (
        "applied"
    )
    wait_for(lambda: chosen.id not in {e.id for e in waiting(held.flow).values()}, "its end")
    if place:
        obeyed(held.flow, ask(held.flow, waiting(held.flow)[0].id, "retry"))
    wait_for(lambda: len(held.numbers()) == 10, "the others of its key")
    ends_well(held)
    assert place not in held.numbers()
    assert held.flow.letters() == []
    ended = recorded(held.flow, chosen.id)
    assert (ended.status, ended.error.code) == ("failed", "execution_cancelled")
    told = [(each.event_type, dict(each.event_data)) for each in events_of(ended)]
    kinds = [kind for kind, _ in told]
    assert kinds[-1] == "execution.cancelled" or "execution.cancelled" in kinds
    assert dict(told)["signal.requested"] == {
        "signal": "cancel",
        "number": 1,
        "by": "ann",
        "reason": "ordered twice",
    }


def test_what_is_cancelled_while_no_history_is_kept_stays_as_a_dead_letter(calling):
    calling.service.fails = lambda number, tries: number == 0
    calling.write_flow(retry=LATER)
    flow = json.loads(calling.flow.path.read_text())
    calling.flow.path.write_text(json.dumps({**flow, "history": {"record": "off"}}))
    calling.send([0])
    calling.run = calling.flow.start()
    wait_for(lambda: waiting(calling.flow), "one to wait")
    obeyed(calling.flow, ask(calling.flow, waiting(calling.flow)[0].id, "cancel"))
    ends_well(calling)
    (letter,) = calling.flow.letters()
    assert (letter.error_code, json.loads(letter.event)["data"]["n"]) == ("execution_cancelled", 0)


def test_a_skipped_execution_ends_as_skipped(held):
    place = waiting(held.flow)[0]
    obeyed(held.flow, ask(held.flow, place.id, "skip_execution"))
    wait_for(lambda: len(held.numbers()) == 10, "those behind it")
    ends_well(held)
    assert held.flow.totals() == {"calling": (10, 0, 1)}
    assert recorded(held.flow, place.id).status == "skipped"


def test_a_filter_asks_all_that_it_finds(held):
    with held.flow.store() as store:
        wanted = ExecutionFilter("flow", status="waiting", where=".data.n >= 5")
        numbers = ask_waiting(store, wanted, "cancel", by="ann")
    assert {obeyed(held.flow, each).status for each in numbers} == {"applied"}
    assert len(numbers) == 2
    wait_for(lambda: list(waiting(held.flow)) == [0], "the others' end")
    ends_well(held)


def test_what_can_not_be_done_is_refused_with_the_reason(held):
    place = waiting(held.flow)[0]
    found = obeyed(held.flow, ask(held.flow, place.id, "resume"))
    assert (found.status, found.note) == ("refused", "it is not paused.")
    obeyed(held.flow, ask(held.flow, place.id, "pause"))
    found = obeyed(held.flow, ask(held.flow, place.id, "pause"))
    assert (found.status, found.note) == ("refused", "it is paused already.")
    ends_well(held)


def test_signals_to_what_runs_are_obeyed_at_the_next_step(calling):
    """The ids of executions are what they were in an earlier run of the same events, thrown away."""
    calling.send([0, 1, 2, 5])
    calling.flow.run()
    with calling.flow.store() as store:
        page = list_executions(store, ExecutionFilter("flow"))
    ids = {e.executions.events.column("data")[e.index]["n"]: e.id for e in page.executions}
    for file in calling.flow.folder.glob("state.db*"):
        file.unlink()
    for file in calling.flow.folder.glob("out*"):
        file.unlink()
    calling.service.tries.clear()
    calling.service.done.clear()
    let = threading.Event()
    calling.service.fails = lambda number, tries: Answer(
        status=200, body=b"{}", headers={"content-type": "application/json"}, wait=let
    )
    calling.write_flow(retry=None, call={"timeout": "30s"})
    run = calling.flow.start()
    run.wait_until_started()
    wait_for(lambda: len(calling.service.tries) == 4, "the calls")
    asked = {
        n: ask(calling.flow, ids[n], action)
        for n, action in ((0, "pause"), (1, "cancel"), (2, "skip"))
    }
    run.wait_for_lines('"event": "signal"', times=3)
    let.set()
    found = {n: obeyed(calling.flow, number) for n, number in asked.items()}
    assert {n: (each.status, each.note) for n, each in found.items()} == dict.fromkeys(
        asked, ("applied", "at step write")
    )
    # 5 is of 0's key, and waits behind it; 2 was not written.
    wait_for(lambda: set(waiting(calling.flow)) == {0, 5}, "those of a key to wait")
    assert list(waiting(calling.flow, "paused")) == [0]
    assert calling.numbers() == []
    obeyed(calling.flow, ask(calling.flow, ids[0], "resume"))
    wait_for(lambda: calling.numbers() == [0, 5], "those that were held")
    assert run.stop() == 0, run.text()
    assert recorded(calling.flow, ids[1]).error.code == "execution_cancelled"
    assert set(calling.service.tries.values()) == {1}


@pytest.fixture
def booking(flow, kafka):
    with serving() as receiver:
        yield Booking(flow, kafka, Bookings(receiver))


@pytest.mark.parametrize("point", ["saga_before_undoing", "saga_after_compensation:1"])
def test_cancelling_a_saga_undoes_what_it_has_done_once_through_a_kill(booking, point):
    booking.write_flow(steps=booking.steps(keys=True, ship={"retry": LATER}))
    booking.service.fails = lambda action, order, tries: (
        Answer(status=503) if action == "ship" else None
    )
    booking.send([1])
    run = booking.flow.start()
    wait_for(lambda: waiting(booking.flow), "the saga to wait")
    assert run.stop() == 0, run.text()
    number = ask(booking.flow, waiting(booking.flow)[1].id, "cancel", "changed their mind")
    worker = WorkerProcess(booking.flow.path, "orders", until_caught_up=False, fail_point=point)
    assert worker.wait() == -9, worker.text()
    assert signal(booking.flow, number).status == "waiting"
    run = booking.flow.start()
    obeyed(booking.flow, number)
    assert run.stop() == 0, run.text()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (saga,) = booking.sagas()
    assert saga.status == "compensated"
    assert booking.flow.letters() == []
    (told,) = detail_document(recorded(booking.flow, saga.id))["signals"]
    assert (told["signal"], told["status"], told["note"]) == ("cancel", "applied", "at step ship")


def test_a_run_until_caught_up_does_not_wait_for_what_is_paused(held):
    place = waiting(held.flow)[0]
    obeyed(held.flow, ask(held.flow, place.id, "pause"))
    ends_well(held)
    held.send([101])
    held.flow.run()
    assert 101 in held.numbers()
    assert set(waiting(held.flow)) == {0, 5, 10}


def test_a_command_is_obeyed_in_place_where_no_worker_runs(held):
    execution = waiting(held.flow)[0].id
    held.mended = True
    ends_well(held)
    done = held.flow.penstock(
        "executions", "retry", execution, str(held.flow.path), "--reason", "mended", "-o", "json"
    )
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["signals"]
    assert (told["signal"], told["status"], told["reason"]) == ("retry", "applied", "mended")
    assert 0 in held.numbers()
    again = held.flow.penstock("executions", "retry", execution, str(held.flow.path))
    assert again.returncode == 2
    assert "execution_ended" in again.stderr
