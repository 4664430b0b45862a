"""Sagas in a worker: what a failed one has done is undone, in order, once, and the event is kept."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from flows.state.history import decode_chunk
from flows.state.tables import history_chunks
from tests.connectors.kafka.driving import write
from tests.flows.runtime.booking import SOON, STEPS, UNDOES, Booking, Bookings
from tests.flows.runtime.running import kafka_source, wait_for
from tests.transforms.steps.answering import Answer, as_json, serving

EXAMPLES = Path(__file__).parents[1] / "spec" / "examples"

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


def test_steps_are_undone_first_to_last_where_the_saga_says_so(booking):
    booking.write_flow(saga={"compensation_order": "forward"})
    booking.service.fails = lambda action, *_: Answer(status=409) if action == "ship" else None
    booking.send([1])
    booking.flow.run()
    assert booking.service.of(1) == ["reserve", "charge", "release", "refund"]


def test_a_compensation_sees_the_outputs_of_all_steps_the_event_and_the_error(booking):
    steps = booking.steps()
    steps[0]["compensate"]["config"]["body"] = {
        "order": "{{ .steps.charge.output.order }}",
        "ticket": "{{ .steps.reserve.output.ticket }}",
        "key": "{{ .trigger.data.key }}",
        "why": "{{ .error.code }} at {{ .error.step }}",
    }
    booking.write_flow(steps=steps)
    booking.service.fails = lambda action, *_: Answer(status=409) if action == "ship" else None
    booking.send([1])
    booking.flow.run()
    (body,) = (body for call, body in booking.service.bodies.items() if call.action == "release")
    assert body == {
        "order": 1,
        "ticket": "reserve-1",
        "key": "k1",
        "why": "http_status at ship",
    }


def test_a_step_that_may_have_taken_effect_is_undone_too(booking):
    hang = threading.Event()
    late = Answer(status=200, wait=hang)
    booking.write_flow(steps=booking.steps(charge={"config": {"timeout": "300ms"}}))
    booking.service.late = lambda action, *_: late if action == "charge" else None
    booking.send([1])
    try:
        booking.flow.run()
    finally:
        hang.set()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (letter,) = booking.flow.letters()
    assert letter.error_code == "http_timeout"


def test_a_step_that_could_not_even_be_sent_is_not_undone(booking):
    closed = "http://127.0.0.1:9/"  # nobody listens on the discard port
    booking.write_flow(steps=booking.steps(charge={"config": {"url": closed}}))
    booking.send([1])
    booking.flow.run()
    assert booking.service.of(1) == ["reserve", "release"]
    assert booking.service.tries["refund", 1] == 0


def test_a_step_is_compensated_only_when_its_retries_are_used_up(booking):
    booking.write_flow(steps=booking.steps(charge={"retry": SOON}))
    booking.service.fails = lambda action, order, tries: (
        Answer(status=503) if action == "charge" and (order == 2 or tries < 3) else None
    )
    booking.send(range(4))
    booking.flow.run()
    assert booking.service.assert_nothing_half_booked(range(4)) == (3, 1)
    assert booking.service.of(2) == ["reserve", "release"]
    assert booking.service.tries["charge", 2] == 4
    assert booking.service.tries["refund", 2] == 0
    (letter,) = booking.flow.letters()
    assert (letter.attempts, letter.step) == (4, "charge")


def test_a_compensation_is_tried_again_and_holds_up_only_its_key(booking):
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409)
        if (action, order) == ("ship", 0)
        else Answer(status=503)
        if (action, order) == ("refund", 0) and tries < 4
        else None
    )
    booking.send([0, 10, 1, 2, 11], keys=10)
    booking.flow.run()
    assert booking.service.of(0) == ["reserve", "charge", "refund", "release"]
    assert booking.service.tries["refund", 0] == 4
    assert booking.service.assert_nothing_half_booked([0, 10, 1, 2, 11]) == (4, 1)
    calls = [(call.action, call.order) for call in booking.service.calls]
    assert calls.index(("release", 0)) < calls.index(("reserve", 10))
    assert calls.index(("ship", 2)) < calls.index(("release", 0))
    (letter,) = booking.flow.letters()
    assert [each["attempts"] for each in json.loads(letter.compensation)] == [4, 1]


def test_sagas_of_one_key_run_one_after_another(booking):
    booking.send(range(8), keys=1)
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409) if action == "ship" and order % 2 else None
    )
    booking.flow.run()
    assert booking.service.assert_nothing_half_booked(range(8)) == (4, 4)
    orders = [call.order for call in booking.service.calls]
    assert orders == sorted(orders)


def test_a_saga_that_takes_too_long_is_undone_with_what_may_have_happened(booking):
    """The charge is never heard of; its retries would go on for minutes."""
    hang = threading.Event()
    booking.write_flow(
        saga={"timeout": "1500ms"},
        steps=booking.steps(
            charge={
                "config": {"timeout": "200ms"},
                "retry": {"max_attempts": 100, "initial_delay": "60s", "max_delay": "60s"},
            }
        ),
    )
    late = Answer(status=200, wait=hang)
    booking.service.late = lambda action, *_: late if action == "charge" else None
    booking.send([1])
    try:
        booking.flow.run()
    finally:
        hang.set()
    assert booking.service.of(1) == ["reserve", "charge", "refund", "release"]
    (letter,) = booking.flow.letters()
    assert (letter.step, letter.error_code) == ("charge", "saga_timeout")


def test_what_is_passed_over_when_it_fails_does_not_fail_the_saga(booking):
    booking.write_flow(steps=booking.steps(charge={"on_error": "skip"}))
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409) if action == "charge" or (action, order) == ("ship", 1) else None
    )
    booking.send([0, 1])
    booking.flow.run()
    assert booking.service.of(0) == ["reserve", "ship"]
    assert booking.service.of(1) == ["reserve", "release"]


@pytest.mark.parametrize("recorded", [True, False])
def test_compensations_are_in_the_history_where_the_saga_says_so(booking, recorded):
    booking.write_flow(saga={"track_compensation": recorded})
    booking.service.fails = lambda action, *_: Answer(status=409) if action == "charge" else None
    booking.send([1])
    booking.flow.run()
    with booking.flow.store() as store:
        ((body,),) = store._all(select(history_chunks.c.body))
    undone = decode_chunk(body).executions.undone
    assert [each["step"] for each in undone.get(0, [])] == (["reserve"] if recorded else [])


class TestACompensationThatFails:
    @pytest.fixture
    def failed(self, booking):
        self.mended = []
        booking.service.fails = lambda action, order, tries: (
            Answer(status=409)
            if (action, order) == ("ship", 1)
            else Answer(status=404)
            if action == "refund" and not self.mended
            else None
        )
        booking.send([1, 2])
        booking.flow.run()
        return booking

    def saga(self, booking):
        (saga,) = booking.sagas()
        return saga

    def penstock(self, booking, *arguments):
        done = booking.flow.penstock("saga", *arguments, str(booking.flow.path), "-o", "json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def test_is_shown_and_what_comes_behind_it_waits(self, failed):
        assert failed.service.of(1) == ["reserve", "charge"]
        code, (listed,) = self.penstock(failed, "list", "--status", "compensation_failed")
        assert (code, listed["step"], listed["compensation_failed_at"]) == (0, "ship", "charge")
        _, shown = self.penstock(failed, "show", listed["id"][:20])
        told = {each["step"]: each["compensation"] for each in shown["steps"]}
        assert told["charge"]["error"]["code"] == "http_status"
        assert (told["charge"]["status"], told["reserve"]) == ("failed", None)
        (letter,) = failed.flow.letters()
        assert [each["status"] for each in json.loads(letter.compensation)] == ["failed"]
        assert failed.flow.totals() == {"booking": (1, 1, 0)}

    def test_goes_on_when_somebody_has_mended_the_cause_and_the_flow_runs(self, failed):
        run = failed.flow.start()
        run.wait_until_started()
        code, _ = self.penstock(failed, "retry", self.saga(failed).id)
        assert code == 1
        assert failed.service.of(1) == ["reserve", "charge"]
        self.mended.append(True)
        code, shown = self.penstock(failed, "retry", self.saga(failed).id)
        assert (code, shown["status"]) == (0, "compensated")
        assert run.stop() == 0, run.text()
        assert failed.service.of(1) == ["reserve", "charge", "refund", "release"]
        (letter,) = failed.flow.letters()
        assert letter.attempts == 1
        assert [each["status"] for each in json.loads(letter.compensation)] == ["compensated"] * 2
        assert failed.flow.totals() == {"booking": (1, 1, 0)}

    def test_goes_on_behind_what_somebody_has_undone_by_hand(self, failed):
        saga = self.saga(failed)
        code, shown = self.penstock(failed, "retry", saga.id, "--done", "charge", "--no-wait")
        assert (code, shown["status"]) == (0, "retrying")
        failed.flow.run()
        assert self.saga(failed).status == "compensated"
        assert failed.service.of(1) == ["reserve", "charge", "release"]

    def test_is_run_to_its_end_where_no_flow_runs(self, failed):
        tries = []

        def fails(action, order, number):
            if action == "refund":
                tries.append(number)
                return Answer(status=503) if len(tries) < 3 else None
            return None

        failed.service.fails = fails
        assert self.penstock(failed, "retry", self.saga(failed).id)[0] == 0
        assert len(tries) == 3
        assert failed.service.of(1) == ["reserve", "charge", "refund", "release"]
        assert self.saga(failed).status == "compensated"

    def test_is_resolved_by_hand_with_a_note(self, failed):
        saga = self.saga(failed)
        code, shown = self.penstock(failed, "resolve", saga.id, "--note", "refunded by hand")
        assert (code, shown["status"], shown["note"]) == (0, "resolved", "refunded by hand")
        failed.flow.run()
        assert failed.service.of(1) == ["reserve", "charge"]
        again = failed.flow.penstock("saga", "retry", saga.id, str(failed.flow.path))
        assert again.returncode == 2
        assert "saga_status" in again.stderr


def test_an_example_flow_books_and_cancels_with_real_services(flow, kafka, service):
    """spec's travel example as it stands, but for where its services are."""
    text = (EXAMPLES / "saga-travel.yaml").read_text()
    example = YAML(typ="safe").load(text)["pipelines"]["book-travel"]
    url = service.receiver.url
    for each in example["steps"]:
        for call in (each["config"], each["compensate"]["config"]):
            call["url"] = url + "/" + call["url"].partition("://")[2]
    example["trigger"] = {"type": "event", "source": "orders"}
    topic = kafka.create_topic()
    flow.write(modules=[kafka_source(kafka, topic)], pipelines={"book-travel": example})
    answers = {"flights-api": {"booking_id": "F1"}, "hotels-api": {"reservation_id": "H1"}}
    called = []

    def answer(seen):
        called.append(f"{seen.method} {seen.path}")
        service_name = seen.path.split("/")[1]
        return as_json(answers.get(service_name), 200 if service_name in answers else 503)

    service.receiver.answer = answer
    trip = {"booking_id": "b1", "origin": "TXL", "destination": "LIS", "date": "x", "nights": 2}
    write(kafka, topic, json.dumps(trip).encode())
    flow.run()
    assert called == [
        "POST /flights-api/api/bookings",
        "POST /hotels-api/api/reservations",
        "POST /cars-api/api/rentals",
        "POST /hotels-api/api/reservations/H1/cancel",
        "POST /flights-api/api/bookings/F1/cancel",
    ]
    assert [letter.step for letter in flow.letters()] == ["book-car"]


def test_a_state_store_that_is_away_holds_a_saga_back_and_nothing_is_lost(
    flow, kafka, service, postgres16, database16
):
    flow.state_url = database16
    made = Booking(flow, kafka, service)
    made.write_flow(steps=made.steps(keys=True))
    going, gate = threading.Event(), threading.Event()

    def late(action, order, tries):
        if action == "charge" and not gate.is_set():
            going.set()
            gate.wait(30)

    service.fails = late
    run = flow.start()
    run.wait_until_started()
    made.send(range(5))
    assert going.wait(30)
    postgres16.stop("fast", 5)
    gate.set()
    run.wait_for_lines("state store")
    postgres16.start_again()
    wait_for(lambda: flow.totals() == {"booking": (5, 0, 0)}, "all sagas")
    assert run.stop() == 0, run.text()
    assert service.assert_nothing_half_booked(range(5)) == (5, 0)


def test_a_compensation_that_waits_for_a_saga_which_is_switched_off_leaves_a_dead_letter(booking):
    steps = booking.steps(
        reserve={"compensate": {"retry": {"max_attempts": 9, "initial_delay": "2s", "jitter": 0}}}
    )
    booking.write_flow(steps=steps)
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409) if action == "charge" else Answer(status=503) if action == "release" else None
    )  # fmt: skip
    run = booking.flow.start()
    booking.send([1])
    wait_for(lambda: booking.service.tries["release", 1], "the first try")
    assert run.stop() == 0, run.text()
    booking.write_flow(steps=steps, saga={"enabled": False})
    booking.flow.run()
    (letter,) = booking.flow.letters()
    assert letter.error_code == "step_gone"
    assert [saga.status for saga in booking.sagas()] == ["compensating"]


def test_a_dead_letter_that_is_replayed_is_a_new_saga_from_its_first_step(booking):
    mended = []
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409) if action == "ship" and not mended else None
    )
    booking.send([1])
    booking.flow.run()
    first = ["reserve", "charge", "refund", "release"]
    assert booking.service.of(1) == first
    path = str(booking.flow.path)
    refused = booking.flow.penstock("dlq", "replay", "--all", "--yes", "--from-step", path)
    assert "replay_from_step" in refused.stdout
    assert booking.service.of(1) == first
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", path)
    assert again.returncode == 1, again.stderr
    assert booking.service.of(1) == first * 2
    (letter,) = booking.flow.letters()
    assert (letter.replays, len(json.loads(letter.compensation))) == (1, 2)
    mended.append(True)
    done = booking.flow.penstock("dlq", "replay", "--all", "--yes", path)
    assert done.returncode == 0, done.stderr
    assert booking.service.of(1) == [*first, *first, *STEPS]
    assert booking.flow.letters() == []
    assert [saga.status for saga in booking.sagas()] == ["compensated", "compensated"]


def test_keys_of_what_was_undone_and_of_what_undid_it_are_free_for_a_replay(booking):
    """The service forgets nothing by itself here: only our store would keep a call from being made."""
    steps = booking.steps()
    for name in ("reserve", "charge"):
        by = steps[STEPS.index(name)]
        by["config"] |= {"idempotent": True, "idempotency_key": name + "-{{ .data.order }}"}
        undo = by["compensate"]["config"]
        undo |= {"idempotent": True, "idempotency_key": "undo-" + name + "-{{ .data.order }}"}
    booking.write_flow(steps=steps)
    booking.service.fails = lambda action, *_: Answer(status=409) if action == "ship" else None
    booking.send([1])
    booking.flow.run()
    path = str(booking.flow.path)
    assert booking.flow.penstock("dlq", "replay", "--all", "--yes", path).returncode == 1
    tries = {action: booking.service.tries[action, 1] for action in (*UNDOES, *UNDOES.values())}
    assert tries == {"reserve": 2, "charge": 2, "ship": 2, "release": 2, "refund": 2, "cancel": 0}
