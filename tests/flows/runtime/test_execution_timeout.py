"""A pipeline's `timeout`: waits count, restarts too, and what it had done in a saga is undone."""

from __future__ import annotations

import json
import threading
import time

import pytest
from sqlalchemy import select

from flows.state.tables import parked
from tests.connectors.kafka.driving import write
from tests.flows.runtime.booking import Booking, Bookings
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step, wait_for
from tests.transforms.steps.answering import Answer, as_json, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PATIENT = {"max_attempts": 1000, "initial_delay": "200ms", "max_delay": "200ms"}


@pytest.fixture
def booking(flow, kafka):
    with serving() as receiver:
        yield Booking(flow, kafka, Bookings(receiver))


def starts(flow):
    with flow.store() as store:
        return store._database.run(lambda c: c.execute(select(parked.c.started_at)).scalars().all())


def test_an_execution_that_takes_too_long_is_a_dead_letter_and_its_key_goes_on(calling):
    calling.write_flow(retry=PATIENT, timeout="3s")
    calling.service.fails = lambda number, tries: number == 3
    calling.send(range(20))
    calling.flow.catch_up()
    (letter,) = calling.flow.letters()
    assert (letter.error_code, letter.error_kind) == ("execution_timeout", "permanent")
    assert (letter.step, json.loads(letter.event)["data"]["n"]) == ("call", 3)
    assert letter.attempts == calling.service.tries[3] > 1
    assert json.loads(letter.tries)[0]["code"] == "http_status"
    assert sorted(calling.numbers()) == [n for n in range(20) if n != 3]
    assert calling.in_order()
    assert calling.flow.totals() == {"calling": (19, 1, 0)}


def test_a_wait_ends_with_the_time_that_is_left(calling):
    calling.write_flow(retry={"max_attempts": 3, "initial_delay": "1h", "jitter": 0}, timeout="2s")
    calling.service.fails = lambda number, tries: number == 0
    calling.send(range(5))
    calling.flow.catch_up()
    (letter,) = calling.flow.letters()
    assert (letter.error_code, letter.attempts) == ("execution_timeout", 1)
    assert calling.service.tries[0] == 1


def test_the_time_runs_on_while_no_worker_does(calling):
    mended = []
    calling.service.fails = lambda number, tries: not mended
    calling.write_flow(retry={**PATIENT, "initial_delay": "1h", "max_delay": "1h"}, timeout="3s")
    worker = calling.flow.worker()
    calling.send(range(3), keys=3)
    wait_for(lambda: calling.flow.parked() == 3, "all to wait")
    worker.kill()
    over = max(starts(calling.flow)) + 3.0
    wait_for(lambda: time.time() > over, "their time to be over")
    mended.append(True)
    calling.flow.catch_up()
    assert {letter.error_code for letter in calling.flow.letters()} == {"execution_timeout"}
    assert calling.flow.totals() == {"calling": (0, 3, 0)}
    assert all(calling.service.tries[number] == 1 for number in range(3))


def test_what_waits_behind_another_of_its_key_has_not_begun(calling):
    """Its own time begins when it is its turn: an hour's retry ahead of it costs it nothing."""
    calling.write_flow(retry=PATIENT, timeout="2s")
    calling.service.fails = lambda number, tries: number in {0, 1}
    calling.send(range(3), keys=1)
    calling.flow.catch_up()
    assert calling.numbers() == [2]
    letters = calling.flow.letters()
    assert [letter.error_code for letter in letters] == ["execution_timeout"] * 2
    assert all(letter.attempts > 1 for letter in letters)


def test_a_saga_that_takes_too_long_is_undone_in_reverse(booking):
    booking.service.fails = lambda action, order, tries: (
        Answer(status=503) if (action, order) == ("ship", 1) else None
    )
    booking.write_flow(steps=booking.steps(keys=True, ship={"retry": PATIENT}), timeout="3s")
    booking.send(range(3))
    booking.flow.catch_up()
    assert booking.service.assert_nothing_half_booked(range(3)) == (2, 1)
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (letter,) = booking.flow.letters()
    assert (letter.error_code, letter.step) == ("execution_timeout", "ship")
    assert letter.attempts == booking.service.tries["ship", 1]
    (saga,) = booking.sagas("compensated")
    assert saga.error["code"] == "execution_timeout"


def test_a_saga_step_that_may_have_acted_when_the_time_was_over_is_undone_too(booking):
    hang = threading.Event()
    late = Answer(status=200, wait=hang)
    booking.service.late = lambda action, *_: late if action == "charge" else None
    charge = {"config": {"timeout": "300ms"}, "retry": PATIENT}
    booking.write_flow(steps=booking.steps(keys=True, charge=charge), timeout="2s")
    booking.send([1])
    try:
        booking.flow.catch_up()
    finally:
        hang.set()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (letter,) = booking.flow.letters()
    assert (letter.error_code, letter.step) == ("execution_timeout", "charge")


def test_no_try_takes_longer_than_the_execution_may(calling):
    hang = threading.Event()
    calling.write_flow(retry=PATIENT, call={"timeout": "1h"}, timeout="1s")
    calling.service.fails = lambda number, tries: Answer(wait=hang)
    calling.send([0])
    try:
        calling.flow.catch_up()
    finally:
        hang.set()
    (letter,) = calling.flow.letters()
    assert (letter.error_code, letter.attempts) == ("execution_timeout", 1)
    assert json.loads(letter.context)["cause"] == "http_timeout"


def test_a_step_inside_a_loop_is_not_begun_when_the_time_is_over(calling, flow, kafka):
    receiver = calling.service.receiver
    pause = threading.Event()

    def answer(seen):
        pause.wait(0.2)  # what a call takes
        return as_json({})

    receiver.answer = answer
    call = step("call", "http_call", {"method": "POST", "url": receiver.url, "body_from": "data"})
    loop = {"collection": "data.many", "concurrency": 1, "steps": [call]}
    flow.write(
        modules=[kafka_source(kafka, calling.topic), file_sink(flow.folder)],
        pipelines={
            "p": pipeline("orders", step("loop", "foreach", loop), publish("out"), timeout="1s")
        },
    )
    write(kafka, calling.topic, json.dumps({"many": list(range(50))}).encode())
    flow.catch_up()
    (letter,) = flow.letters()
    assert letter.error_code == "execution_timeout"
    assert letter.step.startswith("loop[")
    assert 1 <= len(receiver.seen) < 50
