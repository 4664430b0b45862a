"""Kill -9 in the middle of sagas: each ends whole or undone, and what is done is not done twice."""

from __future__ import annotations

import itertools
import os
import random
import time

import pytest

from connectors.failpoints import SAGA_NAMES
from tests.flows.runtime.booking import SOON, UNDOES, Booking, Bookings, repeatable
from tests.flows.runtime.running import wait_for
from tests.matrix import matrix
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

KILLS = int(os.environ.get("PENSTOCK_CHAOS_KILLS", "3"))


@pytest.fixture
def service():
    with serving() as receiver:
        yield Bookings(receiver)


@pytest.fixture
def booking(flow, kafka, service):
    made = Booking(flow, kafka, service)
    made.write_flow(steps=made.steps(keys=True))
    return made


def refusing(action, order=1):
    return lambda done, number, _tries: (
        Answer(status=409) if (done, number) == (action, order) else None
    )


@matrix(
    "name, nth",
    [each for each in itertools.product(SAGA_NAMES, (1, 2)) if each != ("saga_before_undoing", 2)],
    usual=[(name, 1 if name == "saga_before_undoing" else 2) for name in SAGA_NAMES],
)
def test_a_kill_at_a_named_point_leaves_nothing_half_booked(booking, name, nth):
    """With idempotency keys a saga goes on where it was, whatever was under way."""
    booking.service.fails = refusing("ship")
    booking.send([0, 1, 2])
    booking.flow.killed_at(f"{name}:{nth}")
    booking.flow.catch_up()
    assert booking.service.assert_nothing_half_booked([0, 1, 2]) == (2, 1)
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    assert booking.flow.totals() == {"booking": (2, 1, 0)}
    assert [saga.status for saga in booking.sagas()] == ["compensated"]


@pytest.mark.parametrize("name", ["saga_before_effect", "saga_after_effect"])
def test_a_step_that_may_have_taken_effect_is_not_run_again_but_undone(booking, name):
    """Without a key nobody knows whether the charge that was under way was made."""
    booking.write_flow(steps=booking.steps())
    booking.send([1])
    booking.flow.killed_at(f"{name}:2")
    booking.flow.catch_up()
    assert booking.service.tries["charge", 1] == (name == "saga_after_effect")
    assert booking.service.tries["refund", 1] == 1
    assert booking.service.assert_nothing_half_booked([1]) == (0, 1)
    (letter,) = booking.flow.letters()
    assert (letter.step, letter.error_code) == ("charge", "step_interrupted")


def test_a_step_that_is_done_is_not_run_again_and_its_output_is_used(booking):
    steps = booking.steps()
    steps[1]["config"] |= repeatable("charge")
    steps[1]["config"]["body"] |= {"ticket": "{{ .steps.reserve.output.ticket }}"}
    booking.write_flow(steps=steps)
    booking.send([1])
    booking.flow.killed_at("saga_after_effect:2")
    booking.flow.catch_up()
    assert booking.service.of(1) == ["reserve", "charge", "ship"]
    assert booking.service.tries["reserve", 1] == 1
    assert booking.service.bodies["charge", 1]["ticket"] == "reserve-1"


def test_a_compensation_that_may_have_taken_effect_is_left_to_a_person(booking):
    booking.write_flow(steps=booking.steps())
    booking.service.fails = refusing("ship")
    booking.send([1])
    booking.flow.killed_at("saga_after_compensation:1")
    booking.flow.catch_up()
    assert booking.service.tries["refund", 1] == 1
    (saga,) = booking.sagas()
    assert saga.status == "compensation_failed"
    assert saga.steps["charge"].undoing.error["code"] == "compensation_interrupted"
    path = str(booking.flow.path)
    assert booking.flow.penstock("saga", "retry", saga.id, path, "--done", "charge").returncode == 0
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    assert [saga.status for saga in booking.sagas()] == ["compensated"]


def test_a_compensation_that_waits_survives_a_kill(booking):
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409)
        if action == "ship"
        else Answer(status=503)
        if action == "refund" and tries == 1
        else None
    )
    long = {"retry": {"max_attempts": 3, "initial_delay": "3s", "max_delay": "3s", "jitter": 0}}
    booking.write_flow(steps=booking.steps(keys=True, charge={"compensate": long}))
    worker = booking.flow.worker()
    booking.send([1])
    wait_for(lambda: booking.flow.told("state", "parked", str(booking.flow.path)).stdout.count(
        "charge.compensate"
    ), "the compensation that waits")  # fmt: skip
    worker.kill()
    booking.flow.catch_up()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    assert booking.service.tries["refund", 1] == 2


def test_a_saga_whose_time_ran_out_while_the_flow_was_down_is_undone(booking):
    booking.write_flow(steps=booking.steps(keys=True), saga={"timeout": "1s"})
    booking.send([1])
    booking.flow.killed_at("saga_after_effect:2")
    (saga,) = booking.sagas("running")
    wait_for(lambda: time.time() > saga.deadline, "its deadline")
    booking.flow.catch_up()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    assert booking.flow.letters()[0].error_code == "saga_timeout"


@pytest.mark.timeout(3600 if KILLS > 50 else 300)
def test_a_hundred_sagas_with_random_failures_and_kills_each_end_whole_or_undone(booking):
    """Refusals, outages, answers that get lost after the effect, and SIGKILLs at random moments."""
    rng = random.Random(KILLS)
    chance = {order: rng.random() for order in range(100)}
    fate = random.Random(KILLS + 1)

    def fails(action, order, tries):
        if chance[order] < 0.3 and action == rng_step[order]:
            return Answer(status=422)
        return (
            Answer(status=503) if fate.random() < 0.15 and action not in UNDOES.values() else None
        )

    rng_step = {order: rng.choice(list(UNDOES)) for order in range(100)}
    lost = Answer(status=200, reset=True)
    booking.service.fails = fails
    booking.service.late = lambda *_: lost if fate.random() < 0.1 else None
    patient = {**SOON, "max_attempts": 50, "initial_delay": "20ms"}
    more = {"retry": patient, "compensate": {"retry": patient}}
    booking.write_flow(steps=booking.steps(keys=True, reserve=more, charge=more, ship=more))
    booking.send(range(100), keys=40)
    for _ in range(KILLS):
        worker = booking.flow.worker()
        if rng.random() < 0.8:
            worker.wait_until("running")
            time.sleep(rng.random() * 0.5)  # the moment of the kill is the random variable
        worker.kill()
    booking.flow.catch_up()
    whole, undone = booking.service.assert_nothing_half_booked(range(100))
    assert whole + undone == 100
    assert undone >= sum(each < 0.3 for each in chance.values())
    done, failed, _ = booking.flow.totals()["booking"]
    assert (done, failed) == (whole, undone)
    assert {saga.status for saga in booking.sagas()} == {"compensated"}
    assert len(booking.flow.letters()) == undone
