"""An event of an outbox that its sink refuses for good is a dead letter; its replay publishes it, and no more."""

from __future__ import annotations

import json

import pytest

from connectors.failpoints import REFUSED_NAMES
from flows.state.letter_filter import LetterFilter
from tests.flows.runtime.outbox_booking import Booking
from tests.flows.runtime.running import kafka_sink, publish, step, wait_for
from tests.flows.runtime.test_replay import replay, wait_until_over
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]


class Receiver:
    """A webhook that refuses some orders for good, and another that a later step calls."""

    def __init__(self, server):
        self.server = server
        self.url = server.url
        self.refuses = set()
        self.taken = []
        self.calls = 0
        server.answer = self.answer

    def answer(self, seen):
        if seen.path == "/after":
            self.calls += 1
            return Answer(status=204)
        event = json.loads(seen.body)
        order = event["data"][0]["id"] if isinstance(event["data"], list) else event["data"]["id"]
        if (seen.path, order) in self.refuses or order in self.refuses:
            return Answer(status=400)
        self.taken.append(event)
        return Answer(status=204)

    def orders(self):
        return sorted(event["data"][0]["id"] for event in self.taken)


@pytest.fixture
def receiver():
    with serving() as server:
        yield Receiver(server)


def hook(receiver, name="topic", path="/events"):
    config = {"url": f"{receiver.url}{path}", "format": "cloudevents_structured"}
    return {"name": name, "type": "sink.webhook", "config": config}


QUERY = (
    "INSERT INTO orders (id, total) VALUES ($1, $2)"
    " ON CONFLICT (id) DO UPDATE SET total = EXCLUDED.total RETURNING id, number"
)


@pytest.fixture
def booking(flow, kafka, database, receiver):
    made = Booking(flow, kafka, database)
    after = step("after", "http_call", {"url": f"{receiver.url}/after", "method": "POST"})
    made.write_flow(after, sink=hook(receiver), book={"query": QUERY})
    return made


def times_booked(booking):
    """How often the statement ran: each time it takes a number."""
    ((last,),) = booking.execute("SELECT last_value FROM orders_number_seq")
    return last


def test_it_is_listed_and_shown_with_the_event_as_it_came_and_its_replay_publishes_it(
    booking, receiver
):
    receiver.refuses = {2}
    booking.send_at_once(4)
    log = booking.flow.run()
    assert "outbox_refused" in log
    assert (receiver.orders(), booking.waiting(), receiver.calls) == ([0, 1, 3], 0, 4)
    assert booking.flow.totals() == {"booking": (4, 0, 0)}
    (letter,) = booking.flow.letters()
    assert (letter.pipeline, letter.step, letter.begins_at) == ("booking", "announce", "announce")
    assert "400" in letter.error_message
    assert json.loads(letter.event)["data"] == {"id": 2, "key": "k", "total": 2}
    assert json.loads(letter.outputs)["book"][0]["id"] == 2
    path = str(booking.flow.path)
    assert (
        letter.id in booking.flow.said("dlq", "list", path, "--step", "announce", "-o", "json")[1]
    )
    assert "replays from:" in booking.flow.said("dlq", "show", letter.id, path)[1]
    rehearsed = booking.flow.penstock(
        "dlq", "replay", "--all", "--dry-run", "-o", "json", str(booking.flow.path)
    )
    assert json.loads(rehearsed.stdout)["verdicts"] == {"reaches": 1}, rehearsed.stdout

    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", str(booking.flow.path))
    assert again.returncode == 1, again.stdout + again.stderr
    (failed_again,) = booking.flow.letters()
    assert (failed_again.id, failed_again.replays) == (letter.id, 1)
    receiver.refuses = set()
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", str(booking.flow.path))
    assert again.returncode == 0, again.stdout + again.stderr
    assert booking.flow.letters() == []
    assert receiver.orders() == [0, 1, 2, 3]
    assert len({event["id"] for event in receiver.taken}) == 4
    # Neither the change nor what came after it was done again.
    assert (times_booked(booking), receiver.calls) == (4, 4)


def test_a_flow_that_runs_replays_it_edited(booking, receiver):
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.write_flow(
        sink=hook(receiver), book={"query": QUERY}, announce={"type": "{{ .data.key }}.booked"}
    )
    run = booking.flow.start()
    wait_for(booking.flow.letters, "the dead letter")
    receiver.refuses = set()
    number = replay(booking.flow, edit='.key = "mended"')
    wait_until_over(booking.flow, number)
    assert receiver.orders() == [0, 1]
    assert [event["type"] for event in receiver.taken] == ["k.booked", "mended.booked"]
    assert (booking.flow.letters(), times_booked(booking)) == ([], 2)
    assert run.stop() == 0, run.text()


@pytest.mark.parametrize("point", REFUSED_NAMES)
def test_a_kill_between_letter_and_row_loses_nothing_and_makes_no_second_letter(
    booking, receiver, point
):
    receiver.refuses = {2}
    booking.send_at_once(4)
    booking.flow.killed_at(point)
    (before,) = booking.flow.letters()
    assert booking.waiting() >= 1
    booking.flow.catch_up()
    (letter,) = booking.flow.letters()
    assert (letter.id, letter.attempts) == (before.id, 1)
    assert (booking.waiting(), set(receiver.orders())) == (0, {0, 1, 3})


def test_two_refused_events_of_one_execution_are_two_letters_and_replayed_at_once(
    booking, receiver
):
    flow = json.loads(booking.flow.path.read_text())
    flow["modules"].append(hook(receiver, "others", "/others"))
    second = publish("others", "tell", outbox={"step": "book"}, data_from="steps.book.output")
    steps = flow["pipelines"]["booking"]["steps"]
    flow["pipelines"]["booking"]["steps"] = [*steps[:2], second, *steps[2:]]
    booking.flow.path.write_text(json.dumps(flow))
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.flow.catch_up()
    letters = booking.flow.letters()
    assert {letter.step for letter in letters} == {"announce", "tell"}
    receiver.refuses = set()
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", str(booking.flow.path))
    assert again.returncode == 0, again.stdout + again.stderr
    assert receiver.orders() == [0, 0, 1, 1]
    assert (booking.flow.letters(), times_booked(booking), receiver.calls) == ([], 2, 2)


def test_its_replay_is_no_duplicate_of_its_execution_though_that_has_the_idempotency_key(
    booking, receiver
):
    booking.write_flow(
        sink=hook(receiver),
        book={"query": QUERY},
        idempotency={"key_template": "order_{{ .data.id }}"},
    )
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.flow.catch_up()
    receiver.refuses = set()
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", str(booking.flow.path))
    assert again.returncode == 0, again.stdout + again.stderr
    assert (receiver.orders(), times_booked(booking)) == ([0, 1], 2)


def test_a_later_condition_does_not_keep_back_what_was_to_be_published(booking, receiver):
    flow = json.loads(booking.flow.path.read_text())
    flow["pipelines"]["booking"]["steps"][1]["if"] = '.data.key == "k"'
    booking.flow.path.write_text(json.dumps(flow))
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.flow.catch_up()
    receiver.refuses = set()
    path = str(booking.flow.path)
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", "--edit", ".key = 1", path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (receiver.orders(), receiver.calls) == ([0, 1], 2)


def test_a_copy_of_it_goes_to_the_sink_of_dead_letters(booking, receiver):
    flow = json.loads(booking.flow.path.read_text())
    flow["modules"].append(kafka_sink(booking.kafka.bootstrap, booking.target, "letters"))
    flow["pipelines"]["booking"]["dead_letter"] = {"sink": "letters"}
    booking.flow.path.write_text(json.dumps(flow))
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.flow.catch_up()
    (copy,) = booking.kafka.read_all(booking.target, 1)
    assert json.loads(copy.value()) == {"id": 1, "key": "k", "total": 1}
    headers = dict(copy.headers())
    assert headers["__connect.errors.stage"] == b"TASK_PUT"
    assert headers["__connect.errors.topic"].decode() == booking.topic


def test_without_dead_letters_the_worker_stops_and_the_event_stays_in_the_outbox(booking, receiver):
    booking.write_flow(sink=hook(receiver), book={"query": QUERY}, dead_letter={"enabled": False})
    receiver.refuses = {1}
    booking.send_at_once(2)
    run = booking.flow.start("--until-caught-up")
    assert run.wait() == 4, run.text()
    assert "dead_letter.enabled is false" in run.text()
    assert (booking.waiting(), booking.flow.letters()) == (1, [])
    receiver.refuses = set()
    booking.flow.catch_up()
    assert (booking.waiting(), set(receiver.orders())) == (0, {0, 1})


def test_it_is_exported_discarded_and_imported_with_the_place_it_goes_on_at(booking, receiver):
    receiver.refuses = {1}
    booking.send_at_once(2)
    booking.flow.catch_up()
    path, archive = str(booking.flow.path), booking.flow.folder / "letters.jsonl"
    code, said = booking.flow.said(
        "dlq", "discard", "--all", "--yes", "--archive", str(archive), path
    )
    assert code == 0, said
    code, said = booking.flow.said("dlq", "import", str(archive), path)
    assert code == 0, said
    with booking.flow.store() as store:
        (letter,) = store.letters.page(LetterFilter(flow="flow"), 10)
    assert letter.begins_at == "announce"
    receiver.refuses = set()
    again = booking.flow.penstock("dlq", "replay", "--all", "--yes", path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (receiver.orders(), times_booked(booking), receiver.calls) == ([0, 1], 2, 2)
