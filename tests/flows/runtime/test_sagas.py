"""Sagas in a worker: what a failed one has done is undone, in order, once, and the event is kept."""

from __future__ import annotations

import json

import pytest

from tests.flows.runtime.booking import STEPS, UNDOES, Booking, Bookings
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def service():
    with serving() as receiver:
        yield Bookings(receiver)


@pytest.fixture
def booking(flow, kafka, service):
    made = Booking(flow, kafka, service)
    made.write_flow()
    return made


def test_a_saga_that_completes_books_all_and_leaves_nothing_behind(booking):
    booking.send(range(20))
    booking.flow.run()
    assert booking.service.assert_nothing_half_booked(range(20)) == (20, 0)
    assert booking.sagas() == []
    assert booking.flow.totals() == {"booking": (20, 0, 0)}


@pytest.mark.parametrize("failing", STEPS)
def test_what_was_done_before_a_step_that_fails_is_undone_last_first(booking, failing):
    booking.service.fails = lambda action, order, tries: (
        Answer(status=422) if (action, order) == (failing, 3) else None
    )
    booking.send(range(6))
    booking.flow.run()
    done = list(STEPS[: STEPS.index(failing)])
    assert booking.service.of(3) == [*done, *(UNDOES[name] for name in reversed(done))]
    assert booking.service.assert_nothing_half_booked(range(6)) == (5, 1)
    (letter,) = booking.flow.letters()
    assert (letter.step, letter.error_code) == (failing, "http_status")
    assert json.loads(letter.event)["data"]["order"] == 3
    told = json.loads(letter.compensation)
    assert [(each["step"], each["status"]) for each in told] == [
        (name, "compensated") for name in reversed(done)
    ]
    (saga,) = booking.sagas()
    assert (saga.status, saga.step) == ("compensated", failing)
    assert booking.flow.totals() == {"booking": (5, 1, 0)}
