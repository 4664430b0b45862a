"""What waits of a pipeline that is spread over a cluster: in order, through kills, in any number of processes."""

from __future__ import annotations

import random
from itertools import product

import pytest

from flows.history.asking import ask_one
from tests.flows.runtime.running import wait_for
from tests.flows.runtime.spreading import SOON, Slot, Spreading, Topic, new_slot_name
from tests.matrix import matrix

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.slow]

LATER = {**SOON, "initial_delay": "6s", "max_delay": "6s", "jitter": 0}


@pytest.fixture
def slot(flow, service, database):
    return Spreading(flow, service, Slot(database, new_slot_name()))


SOURCES = ("a slot", "a topic")


@pytest.fixture(params=SOURCES)
def spread(request, flow, service):
    if request.param == "a slot":
        source = Slot(request.getfixturevalue("database"), new_slot_name())
    else:
        source = Topic(request.getfixturevalue("kafka"))
    return Spreading(flow, service, source)


def test_what_fails_for_now_is_tried_again_and_its_key_waits_while_others_go_on(spread):
    """In both processes: of ten keys each has some."""
    mended = []
    spread.service.fails = lambda number, tries: number < 4 and not mended
    run = spread.start()
    workers = {worker.pid for worker in run.workers()}
    spread.send(200)
    wait_for(lambda: len(spread.numbers()) == 120, "the events of other keys")
    assert not any(number % 10 < 4 for number in spread.numbers())
    assert spread.service.tries[10] == 0
    wait_for(lambda: spread.service.tries[0] > 2, "more tries")
    mended.append(True)
    wait_for(spread.all_there, "all events")
    assert run.stop() == 0, run.text()
    spread.check()
    pids = spread.pids()
    assert all(len(found) == 1 for found in pids.values())
    assert {pid for found in pids.values() for pid in found} == workers
    assert all(spread.service.tries[n] == 1 for n in range(4, 200))


def test_a_run_until_caught_up_waits_for_what_waits_in_any_process(spread):
    run = spread.start()
    assert run.stop() == 0, run.text()
    spread.service.fails = lambda number, tries: number % 7 == 0 and tries < 4
    spread.send(100)
    spread.flow.run("--workers", "2")
    spread.check()
    assert all(spread.service.tries[n] == 4 for n in range(0, 100, 7))


def test_the_last_attempt_that_fails_is_a_dead_letter_and_its_key_goes_on(slot):
    slot.write_flow(retry={**SOON, "max_attempts": 3})
    slot.service.fails = lambda number, tries: number in {7, 8}
    run = slot.start()
    slot.send(50)
    wait_for(lambda: len(slot.numbers()) == 48, "the others")
    assert run.stop() == 0, run.text()
    letters = slot.flow.letters()
    assert [(each.attempts, each.step) for each in letters] == [(3, "call")] * 2
    assert slot.flow.totals() == {"calling": (48, 2, 0)}


@matrix(
    "spread, which",
    product(SOURCES, [0, 1]),
    usual=[("a slot", 0), ("a topic", 1)],  # the first is who reads the slot
    indirect=["spread"],
)
def test_kills_of_either_process_lose_nothing_overtake_nothing_and_repeat_nothing_in_a_file(
    spread, which
):
    chance = random.Random(7)
    spread.service.fails = lambda number, tries: chance.random() < 0.3
    run = spread.start()
    for turn in range(2):
        spread.send(150)
        before = len(spread.service.done)
        wait_for(lambda before=before: len(spread.service.done) > before + 50, "some calls")
        workers = wait_for(lambda: found if len(found := run.workers()) == 2 else None, "both")
        workers[which].kill()
        run.wait_for_lines("worker started", times=2 * turn + 4)
    wait_for(spread.all_there, "all events")
    wait_for(lambda: spread.flow.parked() == 0, "nothing to wait")
    assert run.stop() == 0, run.text()
    spread.check()


@pytest.mark.chaos
@pytest.mark.parametrize(
    "point",
    [
        "after_effects_before_settle:4",
        "after_settle_before_checkpoint:4",
        "after_checkpoint_before_acknowledge:4",
    ],
)
def test_a_kill_on_either_side_of_what_is_stored_repeats_nothing_in_a_file(slot, point):
    """Both processes die at the point, the one that parks as well as the one that reads."""
    slot.service.fails = lambda number, tries: number % 3 == 0 and tries < 3
    run = slot.start(environ={"PENSTOCK_FAIL_POINT": point})
    slot.send(100)
    run.wait_for_lines("starts again")
    run.kill_all()
    again = slot.start()
    wait_for(slot.all_there, "all events")
    wait_for(lambda: slot.flow.parked() == 0, "nothing to wait")
    assert again.stop() == 0, again.text()
    slot.check()


@matrix(
    "spread, workers",
    product(SOURCES, [1, 3]),
    usual=[("a slot", 3), ("a topic", 1)],
    indirect=["spread"],
)
def test_what_waits_goes_on_with_another_number_of_processes(spread, workers):
    """Each takes what is its own now, with its lane behind it; nobody else's."""
    spread.write_flow(retry=LATER)
    spread.service.fails = lambda number, tries: number < 10 and tries == 1
    run = spread.start()
    spread.send(60)
    # All that was read is parked and stored.
    wait_for(lambda: spread.flow.parked() == 60, "all to wait")
    assert run.stop() == 0, run.text()
    again = spread.start(workers)
    spread.send(40)
    wait_for(spread.all_there, "all events")
    wait_for(lambda: spread.flow.parked() == 0, "nothing to wait")
    assert again.stop() == 0, again.text()
    spread.check()
    assert all(spread.service.tries[n] == (2 if n < 10 else 1) for n in range(100))
    assert all(len(found) == 1 for found in spread.pids().values())


def test_what_waits_goes_on_where_partition_by_was_changed_or_is_new(slot):
    slot.write_flow(retry=LATER, partition_by=None)
    slot.service.fails = lambda number, tries: number < 10 and tries == 1
    for partition_by, sent in ((None, 20), (".data.key", 20), ('.data.key + "x"', 20)):
        slot.write_flow(retry=LATER, partition_by=partition_by)
        workers = 1 if partition_by is None else 2
        run = slot.start(workers)
        slot.send(sent)
        if partition_by is None:
            wait_for(lambda: slot.flow.parked() == 20, "all to wait")
        else:
            wait_for(slot.all_there, "all events")
        assert run.stop() == 0, run.text()
    wait_for(lambda: slot.flow.parked() == 0, "nothing to wait")
    slot.check()


def test_a_worker_of_a_former_run_is_waited_for_before_what_it_had_is_shared_out_anew(slot):
    run = slot.start(2)
    slot.send(20)
    wait_for(slot.all_there, "all events")
    assert run.stop() == 0, run.text()
    with slot.flow.store() as store:
        lease = store.acquire_lease("flow", "orders/7", "of another machine", 600.0)
    assert lease is not None
    again = slot.flow.start()
    again.wait_for_lines("another run's worker still has the lease of orders/7")
    assert "worker started" not in again.text()
    with slot.flow.store() as store:
        store.release_lease(lease)
    again.wait_until_started()
    with slot.flow.store() as store:
        after = store.acquire_lease("flow", "orders/7", "of another machine", 600.0)
    assert after is not None
    assert after.fence == lease.fence + 2, "it was taken in between, so no late commit counts"
    slot.send(20)
    wait_for(slot.all_there, "all events")
    assert again.stop() == 0, again.text()


def test_when_too_many_wait_the_source_is_read_no_further(slot):
    mended = []
    slot.write_flow(retry={**SOON, "max_attempts": 1000, "max_parked": 20})
    slot.service.fails = lambda number, tries: not mended
    run = slot.start()
    slot.send(40, keys=40)
    run.wait_for_lines("max_parked")
    wait_for(lambda: slot.flow.parked() >= 20, "many to wait")
    tried = len(slot.service.tries)
    slot.send(40, keys=40)
    before = slot.service.tries.total()
    wait_for(lambda: slot.service.tries.total() > before + 2 * tried, "more attempts")
    assert not any(number >= 40 for number in slot.service.tries)
    mended.append(True)
    wait_for(slot.all_there, "all events")
    wait_for(lambda: slot.flow.parked() == 0, "nothing to wait")
    assert run.stop() == 0, run.text()
    slot.check()


def test_with_order_none_later_events_pass_and_each_is_done_once(slot):
    slot.write_flow(order="none")
    slot.service.fails = lambda number, tries: number == 0 and tries < 3
    run = slot.start()
    slot.send(40, keys=1)
    wait_for(slot.all_there, "all events")
    assert run.stop() == 0, run.text()
    assert sorted(slot.numbers()) == list(range(40))
    assert slot.numbers()[-1] == 0


def test_a_circuit_that_opens_has_events_wait_in_each_process_and_none_is_lost(spread):
    down = [True]
    spread.service.fails = lambda number, tries: bool(down)
    breaker = {"failure_threshold": 3, "success_threshold": 2, "timeout": "500ms"}
    spread.write_flow(retry={**SOON, "max_attempts": 100}, call={"circuit_breaker": breaker})
    run = spread.start()
    spread.send(200)
    run.wait_for_lines("circuit opened", times=2)
    wait_for(lambda: spread.flow.parked() >= 10, "events to wait")
    run.workers()[1].kill()
    run.wait_for_lines("worker started", times=4)
    down.clear()
    wait_for(spread.all_there, "all events", seconds=60)
    wait_for(lambda: spread.flow.parked() == 0, "nothing to wait")
    assert run.stop() == 0, run.text()
    spread.check()


@matrix(
    "spread, store",
    product(SOURCES, ["state", "valkey"]),
    usual=[("a slot", "valkey"), ("a topic", "state")],
    indirect=["spread"],
)
def test_a_key_is_done_once_whichever_process_has_the_event(spread, store, request):
    """Keys go across processes: `partition_by` is of something else."""
    where = {} if store == "state" else {"store": request.getfixturevalue("redis_url")}
    spread.write_flow(
        idempotency={"key_template": "order_{{ .data.n % 50 }}_{{ .data.key }}", **where},
        partition_by=".data.n",
        call={"body_from": "data"},
    )
    spread.service.fails = lambda number, tries: number % 5 == 0 and tries == 1
    run = spread.start()
    spread.send(50, keys=50)
    wait_for(spread.all_there, "all events")
    run.workers()[1].kill()
    run.wait_for_lines("worker started", times=4)
    spread.send(50, keys=50)
    wait_for(lambda: len(spread.flow.letters()) == 50, "what was used for other data")
    assert run.stop() == 0, run.text()
    assert sorted(spread.numbers()) == list(range(50))
    assert {each.error_code for each in spread.flow.letters()} == {"idempotency_key_reused"}
    assert spread.flow.totals() == {"calling": (50, 50, 0)}


def test_a_signal_to_what_waits_in_a_cluster_is_refused_with_what_to_do(slot):
    slot.write_flow(retry={**SOON, "initial_delay": "1h", "max_delay": "1h"})
    slot.service.fails = lambda number, tries: number == 0
    run = slot.start()
    slot.send(1)
    wait_for(lambda: slot.flow.parked() == 1, "it to wait")
    with slot.flow.store() as store:
        (waiting,) = store.parked_next("flow", 5)
        asked = ask_one(store, "flow", waiting.place.id, "cancel", by="ann", reason="")

    def answered():
        with slot.flow.store() as store:
            (found,) = store.signals.get([asked])
        return found if found.status != "waiting" else None

    answer = wait_for(answered, "an answer")
    assert answer.status == "refused"
    assert "ask while the flow runs with one" in answer.note
    assert run.stop() == 0, run.text()
