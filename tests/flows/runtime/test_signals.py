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
from tests.flows.runtime.calling import Calling, Service
from tests.flows.runtime.running import FlowFolder, wait_for
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


class Lanes:
    """A running flow in which the first of each of ten keys waits for an hour, two others behind it."""

    KEYS = 20

    def __init__(self, flow, kafka, service):
        self.calling, self.flow, self.service = Calling(flow, kafka, service), flow, service
        self.mended, self.sent, self.taken = set(), 0, 0
        service.fails = lambda number, tries: number < 10 and number not in self.mended
        self.calling.write_flow(retry=LATER)
        self.send(range(60))
        self.run = flow.start()
        wait_for(lambda: len(waiting(flow)) == 30, "thirty to wait")
        wait_for(lambda: len(self.calling.numbers()) == 30, "the others")

    def send(self, numbers):
        self.calling.send(numbers, self.KEYS)
        self.sent += len(numbers)

    def settled(self):
        return sum(map(sum, self.flow.totals().values())) + self.flow.parked() == self.sent


class Held:
    """A key of those: `first` has failed, `second` and `third` wait behind it."""

    def __init__(self, lanes, first):
        self.lanes, self.flow, self.service = lanes, lanes.flow, lanes.service
        self.first, self.second, self.third = (first + n * lanes.KEYS for n in range(3))

    def mend(self):
        self.lanes.mended.add(self.first)

    def waiting(self, status="waiting"):
        """Return which of its events wait; event number → parked execution."""
        every = waiting(self.flow, status)
        return {n: each for n, each in every.items() if n % self.lanes.KEYS == self.first}

    def settled(self):
        # Until its outcome is stored, an event that was written counts as one that waits.
        return not self.waiting() and self.lanes.settled()

    def called(self):
        return [n for key, n in self.service.done if key == f"k{self.first}"]

    def written(self):
        every = self.lanes.calling.numbers()
        return [n for n in every if n % self.lanes.KEYS == self.first]


@pytest.fixture(scope="module")
def lanes(tmp_path_factory, kafka):
    flow = FlowFolder(tmp_path_factory.mktemp("lanes"))
    with serving() as receiver:
        made = Lanes(flow, kafka, Service(receiver))
        yield made
        assert made.run.stop() == 0, made.run.text()
        flow.end()


@pytest.fixture
def held(lanes):
    """A key that no other test has used; all that they have done is settled."""
    wait_for(lanes.settled, "what other tests have left")
    lanes.taken += 1
    return Held(lanes, lanes.taken - 1)


def test_a_retry_is_tried_at_once_and_those_behind_it_follow_in_order(held):
    held.mend()
    number = ask(held.flow, held.waiting()[held.first].id, "retry", "it is back")
    assert obeyed(held.flow, number).status == "applied"
    wait_for(lambda: len(held.written()) == 3, "all events")
    assert held.called() == [held.first, held.second, held.third]
    assert held.service.tries[held.first] == 2


def test_a_retry_of_one_behind_another_waits_for_its_turn(held):
    places = held.waiting()
    later = ask(held.flow, places[held.third].id, "retry")
    first = ask(held.flow, places[held.first].id, "cancel")
    assert obeyed(held.flow, later).status == "applied"
    assert signal(held.flow, first).ended_at <= signal(held.flow, later).ended_at
    wait_for(lambda: len(held.written()) == 2, "those behind it")
    assert held.called() == [held.second, held.third]


def test_a_paused_execution_holds_its_key_until_it_is_resumed_also_over_a_restart(held):
    lanes, place = held.lanes, held.waiting()[held.first]
    assert obeyed(held.flow, ask(held.flow, place.id, "pause", "asking")).status == "applied"
    assert list(held.waiting("paused")) == [held.first]
    assert recorded(held.flow, place.id).status == "paused"
    lanes.run.kill_all()
    held.mend()
    lanes.run = held.flow.start()
    lanes.run.wait_until_started()
    fourth, other = held.first + 5 * lanes.KEYS, 6 * lanes.KEYS - 1
    lanes.send([fourth, other])
    wait_for(lambda: other in lanes.calling.numbers(), "another key")
    assert recorded(held.flow, place.id).status == "paused"
    obeyed(held.flow, ask(held.flow, place.id, "resume"))
    assert recorded(held.flow, place.id).status == "waiting"
    obeyed(held.flow, ask(held.flow, place.id, "retry"))
    wait_for(lambda: len(held.written()) == 4, "all events")
    assert held.called() == [held.first, held.second, held.third, fourth]


def test_a_skipped_step_has_no_output_and_the_rest_is_run(held):
    place = held.waiting()[held.first]
    assert obeyed(held.flow, ask(held.flow, place.id, "skip", "by hand")).note == "at step call"
    wait_for(lambda: len(held.written()) == 3, "all events")
    wait_for(held.settled, "their outcomes")
    assert held.called() == [held.second, held.third]
    found = timeline_document(recorded(held.flow, place.id))
    assert found["status"] == "completed"
    assert [(each["name"], each["status"]) for each in found["steps"]] == [
        ("call", "skipped"),
        ("write", "completed"),
    ]
    assert found["steps"][0]["reason"] == "the step was skipped by ann: by hand"
    assert [each["signal"] for each in found["signals"]] == ["skip"]


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_cancelled_execution_ends_out_of_its_turn_and_is_no_dead_letter(held, place):
    held.mend()
    chosen = held.waiting()[getattr(held, place)]
    number = ask(held.flow, chosen.id, "cancel", "ordered twice")
    assert obeyed(held.flow, number).status == "applied"
    wait_for(lambda: chosen.id not in {e.id for e in held.waiting().values()}, "its end")
    if place == "second":
        obeyed(held.flow, ask(held.flow, held.waiting()[held.first].id, "retry"))
    wait_for(lambda: len(held.written()) == 2, "the others of its key")
    wait_for(held.settled, "their outcomes")
    assert getattr(held, place) not in held.written()
    assert held.flow.letters() == []
    ended = recorded(held.flow, chosen.id)
    assert (ended.status, ended.error.code) == ("failed", "execution_cancelled")
    told = [(each.event_type, dict(each.event_data)) for each in events_of(ended)]
    assert "execution.cancelled" in [kind for kind, _ in told]
    assert dict(told)["signal.requested"] == {
        "signal": "cancel",
        "number": number,
        "by": "ann",
        "reason": "ordered twice",
    }


def test_a_skipped_execution_ends_as_skipped(held):
    (done, failed, skipped) = held.flow.totals()["calling"]
    place = held.waiting()[held.first]
    obeyed(held.flow, ask(held.flow, place.id, "skip_execution"))
    wait_for(lambda: len(held.written()) == 2, "those behind it")
    wait_for(held.settled, "their outcomes")
    assert held.flow.totals() == {"calling": (done + 2, failed, skipped + 1)}
    assert recorded(held.flow, place.id).status == "skipped"


def test_a_filter_asks_all_that_it_finds(held):
    where = f".data.n % {held.lanes.KEYS} == {held.first} and .data.n >= {held.second}"
    with held.flow.store() as store:
        wanted = ExecutionFilter("flow", status="waiting", where=where)
        numbers = ask_waiting(store, wanted, "cancel", by="ann")
    assert {obeyed(held.flow, each).status for each in numbers} == {"applied"}
    assert len(numbers) == 2
    wait_for(lambda: list(held.waiting()) == [held.first], "the others' end")


def test_what_can_not_be_done_is_refused_with_the_reason(held):
    place = held.waiting()[held.first]
    found = obeyed(held.flow, ask(held.flow, place.id, "resume"))
    assert (found.status, found.note) == ("refused", "it is not paused.")
    obeyed(held.flow, ask(held.flow, place.id, "pause"))
    found = obeyed(held.flow, ask(held.flow, place.id, "pause"))
    assert (found.status, found.note) == ("refused", "it is paused already.")


def test_what_is_cancelled_while_no_history_is_kept_stays_as_a_dead_letter(calling):
    calling.service.fails = lambda number, tries: number == 0
    calling.write_flow(retry=LATER)
    flow = json.loads(calling.flow.path.read_text())
    calling.flow.path.write_text(json.dumps({**flow, "history": {"record": "off"}}))
    calling.send([0])
    run = calling.flow.start()
    wait_for(lambda: waiting(calling.flow), "one to wait")
    obeyed(calling.flow, ask(calling.flow, waiting(calling.flow)[0].id, "cancel"))
    assert run.stop() == 0, run.text()
    (letter,) = calling.flow.letters()
    assert (letter.error_code, json.loads(letter.event)["data"]["n"]) == ("execution_cancelled", 0)


def test_signals_to_what_runs_are_obeyed_at_the_next_step(calling):
    """The ids of executions are what they were in an earlier run of the same events, thrown away."""
    calling.send([0, 1, 2, 5])
    worker = WorkerProcess(calling.flow.path, "orders", until_caught_up=True)
    assert worker.wait() == 0, worker.text()
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
    worker = WorkerProcess(booking.flow.path, "orders")
    wait_for(lambda: waiting(booking.flow), "the saga to wait")
    assert worker.drain() == 0, worker.text()
    number = ask(booking.flow, waiting(booking.flow)[1].id, "cancel", "changed their mind")
    worker = WorkerProcess(booking.flow.path, "orders", fail_point=point)
    assert worker.wait() == -9, worker.text()
    assert signal(booking.flow, number).status == "waiting"
    worker = WorkerProcess(booking.flow.path, "orders")
    obeyed(booking.flow, number)
    assert worker.drain() == 0, worker.text()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (saga,) = booking.sagas()
    assert saga.status == "compensated"
    assert booking.flow.letters() == []
    (told,) = detail_document(recorded(booking.flow, saga.id))["signals"]
    assert (told["signal"], told["status"], told["note"]) == ("cancel", "applied", "at step ship")


@pytest.fixture
def alone(calling):
    """A running flow in which event 0 waits for an hour, 5 and 10 behind it; others are through."""
    calling.mended = False
    calling.service.fails = lambda number, tries: number == 0 and not calling.mended
    calling.write_flow(retry=LATER)
    calling.send(range(11))
    calling.run = calling.flow.start()
    wait_for(lambda: len(waiting(calling.flow)) == 3, "three to wait")
    wait_for(lambda: len(calling.numbers()) == 8, "the others")
    return calling


def test_a_run_until_caught_up_does_not_wait_for_what_is_paused(alone):
    place = waiting(alone.flow)[0]
    obeyed(alone.flow, ask(alone.flow, place.id, "pause"))
    assert alone.run.stop() == 0, alone.run.text()
    alone.send([101])
    alone.flow.run()
    assert 101 in alone.numbers()
    assert set(waiting(alone.flow)) == {0, 5, 10}


def test_a_command_is_obeyed_in_place_where_no_worker_runs(alone):
    execution = waiting(alone.flow)[0].id
    alone.mended = True
    assert alone.run.stop() == 0, alone.run.text()
    done = alone.flow.penstock(
        "executions", "retry", execution, str(alone.flow.path), "--reason", "mended", "-o", "json"
    )
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["signals"]
    assert (told["signal"], told["status"], told["reason"]) == ("retry", "applied", "mended")
    assert 0 in alone.numbers()
    again = alone.flow.told("executions", "retry", execution, str(alone.flow.path))
    assert again.returncode == 2
    assert "execution_ended" in again.stderr
