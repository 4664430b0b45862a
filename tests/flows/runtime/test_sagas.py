"""Sagas in a worker: what a failed one has done is undone, in order, once, and the event is kept."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from flows.state.history import decode_chunk
from flows.state.tables import history_chunks
from tests.connectors.kafka.driving import write
from tests.flows.runtime.booking import SOON, STEPS, UNDOES, Booking, Bookings
from tests.flows.runtime.running import FlowFolder, kafka_source, wait_for
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


class Case:
    """A pipeline of its own: its orders are those of a hundred, and counted from 0 in its tests."""

    def __init__(self, hundred, orders, fails=None, steps=None, late=None, **more):
        self.first, self.orders, self.fails, self.late = 100 * hundred, orders, fails, late
        self.of_step, self.more = steps or {}, more

    def pipeline(self, booking):
        when = f".data.order >= {self.first} and .data.order < {self.first + 100}"
        steps = booking.steps(**self.of_step)
        return booking.pipeline(steps=steps, trigger={"when": when}, **self.more)


class Ran:
    """Many pipelines in one run, and what became of one of them."""

    def __init__(self, booking, cases):
        self.booking, self.cases, service = booking, cases, booking.service
        self.hang = threading.Event()
        service.fails = lambda action, order, tries: self._ask("fails", action, order, tries)
        service.late = lambda action, order, tries: self._ask("late", action, order, tries)
        booking.write_pipelines(**{name: case.pipeline(booking) for name, case in cases.items()})
        booking.send([c.first + order for c in cases.values() for order in c.orders])
        try:
            booking.flow.catch_up()
        finally:
            self.hang.set()

    def _ask(self, what, action, order, tries):
        for case in self.cases.values():
            if case.first <= order < case.first + 100 and (asked := getattr(case, what)):
                answer = asked(action, order - case.first, tries)
                return answer._replace(wait=self.hang) if answer and what == "late" else answer
        return None

    def of(self, case, order):
        return self.booking.service.of(self.cases[case].first + order)

    def tries(self, case, action, order):
        return self.booking.service.tries[action, self.cases[case].first + order]

    def calls(self, case):
        first = self.cases[case].first
        calls = [(call.action, call.order - first) for call in self.booking.service.calls]
        return [(action, order) for action, order in calls if 0 <= order < 100]

    def whole_and_undone(self, case):
        case = self.cases[case]
        orders = [case.first + order for order in case.orders]
        return self.booking.service.assert_nothing_half_booked(orders)

    def letters(self, case):
        """Order → its dead letter."""
        first, letters = self.cases[case].first, self.booking.flow.letters(case)
        return {json.loads(letter.event)["data"]["order"] - first: letter for letter in letters}

    def sagas(self, case):
        return [saga for saga in self.booking.sagas() if saga.pipeline == case]


def refused(*actions):
    return lambda action, order, tries: Answer(status=409) if action in actions else None


REFUSED = dict(zip((3, 4, 5), STEPS, strict=True))
"""Of the plain pipeline's orders, the step that each of these fails at."""

CLOSED = "http://127.0.0.1:9/"
"""Nobody listens on the discard port."""

CASES = {
    "plain": Case(
        0,
        range(20),
        lambda action, order, _: Answer(status=422) if REFUSED.get(order) == action else None,
    ),
    "forward": Case(1, [1], refused("ship"), saga={"compensation_order": "forward"}),
    "outputs": Case(
        2,
        [1],
        refused("ship"),
        steps={
            "reserve": {
                "undo": {
                    "body": {
                        "order": "{{ .steps.charge.output.order }}",
                        "ticket": "{{ .steps.reserve.output.ticket }}",
                        "key": "{{ .trigger.data.key }}",
                        "why": "{{ .error.code }} at {{ .error.step }}",
                    }
                }
            }
        },
    ),
    "unsent": Case(3, [1], steps={"charge": {"config": {"url": CLOSED}}}),
    "retried": Case(
        4,
        range(4),
        lambda action, order, tries: (
            Answer(status=503) if action == "charge" and (order == 2 or tries < 3) else None
        ),
        steps={"charge": {"retry": SOON}},
    ),
    "keys": Case(
        5,
        [0, 10, 1, 2, 11],
        lambda action, order, tries: (
            Answer(status=409)
            if (action, order) == ("ship", 0)
            else Answer(status=503)
            if (action, order) == ("refund", 0) and tries < 4
            else None
        ),
        key=".data.order % 10 | tostring",
    ),
    "one_key": Case(
        6,
        range(8),
        lambda action, order, _: Answer(status=409) if action == "ship" and order % 2 else None,
        key='"all"',
    ),
    "skipped": Case(
        7,
        [0, 1],
        lambda action, order, _: (
            Answer(status=409) if action == "charge" or (action, order) == ("ship", 1) else None
        ),
        steps={"charge": {"on_error": "skip"}},
    ),
    "recorded": Case(8, [1], refused("charge"), saga={"track_compensation": True}),
    "unrecorded": Case(9, [1], refused("charge"), saga={"track_compensation": False}),
}

LATE = {
    "timed_out": Case(
        0,
        [1],
        late=lambda action, *_: Answer(status=200) if action == "charge" else None,
        steps={"charge": {"config": {"timeout": "300ms"}}},
    ),
    # The charge is never heard of; its retries would go on for minutes.
    "too_long": Case(
        1,
        [1],
        late=lambda action, *_: Answer(status=200) if action == "charge" else None,
        saga={"timeout": "1500ms"},
        steps={
            "charge": {
                "config": {"timeout": "200ms"},
                "retry": {"max_attempts": 100, "initial_delay": "60s", "max_delay": "60s"},
            }
        },
    ),
}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory, kafka):
    """Run pipelines in a flow of a folder of its own; its processes end with the module."""
    with ExitStack() as stack:

        def run(cases):
            flow = FlowFolder(tmp_path_factory.mktemp("sagas"))
            stack.callback(flow.end)
            receiver = stack.enter_context(serving())
            return Ran(Booking(flow, kafka, Bookings(receiver)), cases)

        yield run


@pytest.fixture(scope="module")
def ran(at_once):
    return at_once(CASES)


@pytest.fixture(scope="module")
def ran_late(at_once):
    return at_once(LATE)


def test_a_saga_that_completes_books_all_and_leaves_nothing_behind(ran):
    assert ran.whole_and_undone("plain") == (17, 3)
    left = {saga.id for saga in ran.sagas("plain")}
    assert left == {letter.id for letter in ran.letters("plain").values()}
    assert ran.booking.flow.totals()["plain"] == (17, 3, 0)


@pytest.mark.parametrize(("order", "failing"), REFUSED.items())
def test_what_was_done_before_a_step_that_fails_is_undone_last_first(ran, order, failing):
    done = list(STEPS[: STEPS.index(failing)])
    assert ran.of("plain", order) == [*done, *(UNDOES[name] for name in reversed(done))]
    letters = ran.letters("plain")
    assert set(letters) == set(REFUSED)
    letter = letters[order]
    assert (letter.step, letter.error_code) == (failing, "http_status")
    told = json.loads(letter.compensation)
    assert [(each["step"], each["status"]) for each in told] == [
        (name, "compensated") for name in reversed(done)
    ]
    (saga,) = (saga for saga in ran.sagas("plain") if saga.id == letter.id)
    assert (saga.status, saga.step) == ("compensated", failing)


def test_steps_are_undone_first_to_last_where_the_saga_says_so(ran):
    assert ran.of("forward", 1) == ["reserve", "charge", "release", "refund"]


def test_a_compensation_sees_the_outputs_of_all_steps_the_event_and_the_error(ran):
    order = ran.cases["outputs"].first + 1
    assert ran.booking.service.bodies["release", order] == {
        "order": order,
        "ticket": f"reserve-{order}",
        "key": f"k{order}",
        "why": "http_status at ship",
    }


def test_a_step_that_may_have_taken_effect_is_undone_too(ran_late):
    assert ran_late.of("timed_out", 1) == ["reserve", "charge", "refund", "release"]
    assert ran_late.letters("timed_out")[1].error_code == "http_timeout"


def test_a_step_that_could_not_even_be_sent_is_not_undone(ran):
    assert ran.of("unsent", 1) == ["reserve", "release"]
    assert ran.tries("unsent", "refund", 1) == 0


def test_a_step_is_compensated_only_when_its_retries_are_used_up(ran):
    assert ran.whole_and_undone("retried") == (3, 1)
    assert ran.of("retried", 2) == ["reserve", "release"]
    assert ran.tries("retried", "charge", 2) == 4
    assert ran.tries("retried", "refund", 2) == 0
    ((order, letter),) = ran.letters("retried").items()
    assert (order, letter.attempts, letter.step) == (2, 4, "charge")


def test_a_compensation_is_tried_again_and_holds_up_only_its_key(ran):
    assert ran.of("keys", 0) == ["reserve", "charge", "refund", "release"]
    assert ran.tries("keys", "refund", 0) == 4
    assert ran.whole_and_undone("keys") == (4, 1)
    calls = ran.calls("keys")
    assert calls.index(("release", 0)) < calls.index(("reserve", 10))
    assert calls.index(("ship", 2)) < calls.index(("release", 0))
    ((order, letter),) = ran.letters("keys").items()
    assert order == 0
    assert [each["attempts"] for each in json.loads(letter.compensation)] == [4, 1]


def test_sagas_of_one_key_run_one_after_another(ran):
    assert ran.whole_and_undone("one_key") == (4, 4)
    orders = [order for _, order in ran.calls("one_key")]
    assert orders == sorted(orders)


def test_a_saga_that_takes_too_long_is_undone_with_what_may_have_happened(ran_late):
    assert ran_late.of("too_long", 1) == ["reserve", "charge", "refund", "release"]
    letter = ran_late.letters("too_long")[1]
    assert (letter.step, letter.error_code) == ("charge", "saga_timeout")


def test_what_is_passed_over_when_it_fails_does_not_fail_the_saga(ran):
    assert ran.of("skipped", 0) == ["reserve", "ship"]
    assert ran.of("skipped", 1) == ["reserve", "release"]


@pytest.mark.parametrize("case", ["recorded", "unrecorded"])
def test_compensations_are_in_the_history_where_the_saga_says_so(ran, case):
    with ran.booking.flow.store() as store:
        bodies = select(history_chunks.c.body).where(history_chunks.c.pipeline == case)
        ((body,),) = store._all(bodies)
    undone = decode_chunk(body).executions.undone
    assert [each["step"] for each in undone.get(0, [])] == (
        ["reserve"] if case == "recorded" else []
    )


class Failed:
    """Orders 1 to 5 can't be refunded until that is mended: one for each test. 6 is well."""

    def __init__(self, booking):
        self.booking, self.flow, self.service = booking, booking.flow, booking.service
        self.mended, self.refunds = set(), Counter()
        booking.service.fails = self.fails
        booking.write_flow()
        booking.send(range(1, 7))
        booking.flow.catch_up()

    def fails(self, action, order, tries):
        if action == "ship" and order < 6:
            return Answer(status=409)
        if action == "refund" and order not in self.mended:
            return Answer(status=404)
        if action == "refund" and order == 4:
            self.refunds[order] += 1
            return Answer(status=503) if self.refunds[order] < 3 else None
        return None

    def letter(self, order):
        (found,) = (
            letter
            for letter in self.flow.letters()
            if json.loads(letter.event)["data"]["order"] == order
        )
        return found

    def saga(self, order):
        (saga,) = (saga for saga in self.booking.sagas() if saga.id == self.letter(order).id)
        return saga

    def penstock(self, *arguments, starts=False):
        run = self.flow.penstock if starts else self.flow.told
        done = run("saga", *arguments, str(self.flow.path), "-o", "json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def failed(tmp_path_factory, kafka):
    flow = FlowFolder(tmp_path_factory.mktemp("failed"))
    with serving() as receiver:
        yield Failed(Booking(flow, kafka, Bookings(receiver)))
        flow.end()


class TestACompensationThatFails:
    def test_is_shown_and_what_comes_behind_it_waits(self, failed):
        assert failed.service.of(1) == ["reserve", "charge"]
        code, found = failed.penstock("list", "--status", "compensation_failed")
        (listed,) = (each for each in found if each["id"] == failed.saga(1).id)
        assert (code, listed["step"], listed["compensation_failed_at"]) == (0, "ship", "charge")
        _, shown = failed.penstock("show", listed["id"][:28])
        told = {each["step"]: each["compensation"] for each in shown["steps"]}
        assert told["charge"]["error"]["code"] == "http_status"
        assert (told["charge"]["status"], told["reserve"]) == ("failed", None)
        assert [each["status"] for each in json.loads(failed.letter(1).compensation)] == ["failed"]
        assert failed.flow.totals() == {"booking": (1, 5, 0)}

    def test_goes_on_when_somebody_has_mended_the_cause_and_the_flow_runs(self, failed):
        run = failed.flow.start()
        run.wait_until_started()
        code, _ = failed.penstock("retry", failed.saga(2).id)
        assert code == 1
        assert failed.service.of(2) == ["reserve", "charge"]
        failed.mended.add(2)
        code, shown = failed.penstock("retry", failed.saga(2).id)
        assert (code, shown["status"]) == (0, "compensated")
        assert run.stop() == 0, run.text()
        assert failed.service.of(2) == ["reserve", "charge", "refund", "release"]
        letter = failed.letter(2)
        assert letter.attempts == 1
        assert [each["status"] for each in json.loads(letter.compensation)] == ["compensated"] * 2
        assert failed.flow.totals() == {"booking": (1, 5, 0)}

    def test_goes_on_behind_what_somebody_has_undone_by_hand(self, failed):
        saga = failed.saga(3)
        code, shown = failed.penstock("retry", saga.id, "--done", "charge", "--no-wait")
        assert (code, shown["status"]) == (0, "retrying")
        failed.flow.catch_up()
        assert failed.saga(3).status == "compensated"
        assert failed.service.of(3) == ["reserve", "charge", "release"]

    def test_is_run_to_its_end_where_no_flow_runs(self, failed):
        failed.mended.add(4)
        assert failed.penstock("retry", failed.saga(4).id, starts=True)[0] == 0
        assert failed.refunds[4] == 3
        assert failed.service.of(4) == ["reserve", "charge", "refund", "release"]
        assert failed.saga(4).status == "compensated"

    def test_is_resolved_by_hand_with_a_note(self, failed):
        saga = failed.saga(5)
        code, shown = failed.penstock("resolve", saga.id, "--note", "refunded by hand")
        assert (code, shown["status"], shown["note"]) == (0, "resolved", "refunded by hand")
        failed.flow.catch_up()
        assert failed.service.of(5) == ["reserve", "charge"]
        again = failed.flow.told("saga", "retry", saga.id, str(failed.flow.path))
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
    flow.catch_up()
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
    worker = booking.flow.worker()
    booking.send([1])
    wait_for(lambda: booking.service.tries["release", 1], "the first try")
    assert worker.drain() == 0, worker.text()
    booking.write_flow(steps=steps, saga={"enabled": False})
    booking.flow.catch_up()
    (letter,) = booking.flow.letters()
    assert letter.error_code == "step_gone"
    assert [saga.status for saga in booking.sagas()] == ["compensating"]


def test_a_dead_letter_that_is_replayed_is_a_new_saga_from_its_first_step(booking):
    mended = []
    booking.service.fails = lambda action, order, tries: (
        Answer(status=409) if action == "ship" and not mended else None
    )
    booking.send([1])
    booking.flow.catch_up()
    first = ["reserve", "charge", "refund", "release"]
    assert booking.service.of(1) == first
    path = str(booking.flow.path)
    refused = booking.flow.told("dlq", "replay", "--all", "--yes", "--from-step", path)
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
    booking.flow.catch_up()
    path = str(booking.flow.path)
    assert booking.flow.penstock("dlq", "replay", "--all", "--yes", path).returncode == 1
    tries = {action: booking.service.tries[action, 1] for action in (*UNDOES, *UNDOES.values())}
    assert tries == {"reserve": 2, "charge": 2, "ship": 2, "release": 2, "refund": 2, "cancel": 0}
