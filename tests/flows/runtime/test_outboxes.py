"""A change and its event in one transaction: both happen or neither, whatever is killed when."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from connectors.failpoints import OUTBOX_NAMES
from tests.connectors.kafka.driving import write
from tests.flows.runtime.outbox_booking import PARTITIONS, QUERY, Booking
from tests.flows.runtime.running import step, wait_for
from tests.penstock.api.served import client_of
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def booking(flow, kafka, database):
    return Booking(flow, kafka, database)


def test_each_change_is_published_once_with_what_the_statement_returned(booking):
    booking.write_flow(announce={"type": "order.{{ .data.key }}"})
    booking.send(range(300))
    booking.flow.run()
    events = booking.events(300)
    assert len({event["id"] for event in events}) == len(events) == 300
    numbers = {event["data"][0]["number"] for event in events}
    assert numbers == set(booking.orders())
    assert {event["type"] for event in events} == {f"order.k{n}" for n in range(7)}
    assert booking.waiting() == 0
    assert booking.flow.totals() == {"booking": (300, 0, 0)}


@pytest.mark.parametrize("point", [*OUTBOX_NAMES, "after_effects_before_settle"])
def test_a_kill_leaves_no_change_without_its_event_and_no_event_without_its_change(booking, point):
    booking.send_at_once(400)
    booking.flow.killed_at(point)
    changed, waiting, published = len(booking.orders()), booking.waiting(), booking.messages_there()
    if point == "before_outbox_commit":
        assert (changed, waiting, published) == (0, 0, 0)
    else:
        assert changed > 0
        assert changed <= waiting + published
    booking.flow.catch_up()
    events = booking.events(400)
    assert len({event["id"] for event in events}) == 400
    assert len(booking.orders()) == 400
    assert booking.waiting() == 0
    firsts, seen = [], set()
    for event in events:
        if event["id"] not in seen:
            seen.add(event["id"])
            firsts.append(event["data"][0]["number"])
    # A statement that ran twice made no second order, and the order of the first events stands.
    assert [booking.orders()[number] for number in firsts] == list(range(400))
    if point == "before_outbox_commit":
        assert len(events) == 400
    assert booking.flow.totals() == {"booking": (400, 0, 0)}


def test_what_the_database_refuses_is_not_published_and_what_can_not_be_published_not_changed(
    booking,
):
    schema = {
        "type": "array",
        "items": {"type": "object", "properties": {"number": {"type": "integer"}}},
    }
    key = 'if .data.id == 5 then error("no") else "k" end'
    booking.write_flow(announce={"schema": "receipt", "key": key})
    flow = json.loads(booking.flow.path.read_text())
    flow["schemas"] = {"receipt": {"version": "1", "type": "json", "data_schema": schema}}
    booking.flow.path.write_text(json.dumps(flow))
    booking.send([1, 2, 3])
    booking.send([4], total=-1)
    booking.send([5, 6])
    booking.flow.catch_up()
    assert sorted(booking.orders().values()) == [1, 2, 3, 6]
    events = booking.events(4)
    assert len(events) == 4
    letters = {letter.error_code: letter.step for letter in booking.flow.letters()}
    assert letters == {"db_constraint": "book", "jq_error": "book"}
    assert booking.flow.totals() == {"booking": (4, 2, 0)}


def test_a_condition_of_the_publish_step_sees_what_the_statement_did(booking):
    flow = json.loads(booking.flow.path.read_text())
    flow["pipelines"]["booking"]["steps"][1]["if"] = ".steps.book.output[0].number % 2 == 0"
    booking.flow.path.write_text(json.dumps(flow))
    booking.send_at_once(50)
    booking.flow.catch_up()
    events = booking.events(25)
    assert sorted(event["data"][0]["number"] % 2 for event in events) == [0] * 25
    assert len(booking.orders()) == 50


def test_workers_share_the_outbox_and_keep_each_keys_order(booking):
    for partition in range(PARTITIONS):
        ids = range(partition * 1000, partition * 1000 + 500)
        values = [
            json.dumps({"id": n, "key": f"p{partition}k{n % 5}", "total": n}).encode() for n in ids
        ]
        for key in range(5):
            write(
                booking.kafka,
                booking.topic,
                *(value for n, value in zip(ids, values, strict=True) if n % 5 == key),
                partition=partition,
                key=f"p{partition}k{key}",
            )
    booking.flow.run("--workers", "2")
    events = booking.events(1000)
    assert len({event["id"] for event in events}) == 1000
    of_key = defaultdict(list)
    orders = booking.orders()
    for event in events:
        of_key[event["partitionkey"]].append(orders[event["data"][0]["number"]])
    assert len(of_key) == 10
    assert all(found == sorted(found) for found in of_key.values())


SLOW_QUERY = "WITH slow AS (SELECT pg_sleep(0.3)) " + QUERY.replace(
    "VALUES ($1, $2)", "SELECT $1::int, $2::int FROM slow"
)


def shares_of_five(booking):
    """Send 500 orders of five keys to each partition."""
    for partition in range(PARTITIONS):
        for key in range(5):
            ids = [partition * 1000 + n for n in range(500) if n % 5 == key]
            name = f"p{partition}k{key}"
            values = [json.dumps({"id": n, "key": name, "total": n}).encode() for n in ids]
            write(booking.kafka, booking.topic, *values, partition=partition, key=name)


def in_order(booking, events):
    """The keys of whose orders the events came in the order of the orders, each first event counted."""
    of_key = defaultdict(dict)
    for event in events:
        of_key[event["partitionkey"]].setdefault(event["id"], event["data"][0]["number"])
    return [key for key, found in of_key.items() if list(found.values()) == sorted(found.values())]


@pytest.mark.parametrize("point", ["", "before_outbox_commit", "after_outbox_published"])
def test_a_pipeline_that_is_spread_over_a_cluster_publishes_each_change_in_order(booking, point):
    booking.write_flow(partition_by=".data.key")
    shares_of_five(booking)
    if point:
        run = booking.flow.start("--workers", "2", environ={"PENSTOCK_FAIL_POINT": f"{point}:3"})
        run.wait_for_lines("starts again")
        run.kill_all()
    booking.flow.run("--workers", "2")
    assert booking.waiting() == 0
    assert len(booking.orders()) == 1000
    events = booking.events(booking.messages_there())
    assert len({event["id"] for event in events}) == 1000
    assert len(in_order(booking, events)) == 10
    assert booking.flow.totals() == {"booking": (1000, 0, 0)}


def test_a_change_that_was_made_in_time_is_published_though_the_time_is_over_then(booking):
    booking.write_flow(book={"query": SLOW_QUERY}, timeout="1s")
    booking.send_at_once(
        8
    )  # of one key, so one after another: the last is made after more than 2 s
    booking.flow.catch_up()
    assert len(booking.orders()) == 8
    assert len(booking.events(8)) == 8
    assert (booking.flow.letters(), booking.flow.totals()) == ([], {"booking": (8, 0, 0)})


def test_what_is_over_time_after_its_change_is_a_dead_letter_of_the_step_that_it_was_not_in_time_for(
    booking,
):
    booking.write_flow(
        step("late", "set", {"values": {"done": True}}), book={"query": SLOW_QUERY}, timeout="1s"
    )
    booking.send_at_once(8)
    booking.flow.catch_up()
    assert len(booking.orders()) == len(booking.events(8)) == 8
    letters = booking.flow.letters()
    assert {(letter.step, letter.error_code) for letter in letters} == {
        ("late", "execution_timeout")
    }


def test_a_step_with_a_key_publishes_nothing_for_what_was_done(booking):
    booking.write_flow(book={"idempotent": True, "idempotency_key": "book_{{ .data.id }}"})
    booking.send([1, 2, 3, 1, 2, 3])
    booking.flow.catch_up()
    booking.send([3, 4])
    booking.flow.catch_up()
    assert len(booking.events(4)) == 4
    assert booking.flow.totals() == {"booking": (8, 0, 0)}


class TestASink:
    """A webhook that a test lets fail."""

    @pytest.fixture
    def receiver(self):
        with serving() as made:
            yield made

    @pytest.fixture
    def telling(self, booking, receiver):
        config = {"url": f"{receiver.url}/events", "format": "cloudevents_structured"}
        sink = {"name": "topic", "type": "sink.webhook", "config": config}
        booking.write_flow(sink=sink)
        return booking

    def test_that_is_away_costs_the_changes_nothing_and_gets_its_events_later(
        self, telling, receiver
    ):
        receiver.answer = lambda seen: Answer(status=503)
        run = telling.flow.start("--address", "127.0.0.1:0")
        telling.send_at_once(20)
        wait_for(lambda: telling.flow.totals() == {"booking": (20, 0, 0)}, "the changes")
        assert (len(telling.orders()), telling.waiting()) == (20, 20)
        with client_of(run) as client:

            def shown(line):
                return line in client.get("/metrics").text

            told = 'workflow_outbox_events{pipeline="booking"}'
            wait_for(lambda: shown(f"{told} 20.0"), "the depth")
            assert shown('workflow_connector_health{connector="topic",type="sink.webhook"} 0.0')
            receiver.answer = lambda seen: Answer(status=204)
            wait_for(lambda: telling.waiting() == 0, "the events")
            wait_for(lambda: shown(f"{told} 0.0"), "the depth")
        assert run.stop() == 0, run.text()

    def test_that_stays_away_does_not_hold_up_the_end_and_what_waits_is_published_next_time(
        self, telling, receiver
    ):
        receiver.answer = lambda seen: Answer(status=503)
        run = telling.flow.start()
        telling.send_at_once(10)
        wait_for(lambda: telling.flow.totals() == {"booking": (10, 0, 0)}, "the changes")
        assert run.stop() == 0, run.text()
        assert telling.waiting() == 10
        receiver.answer = lambda seen: Answer(status=204)
        telling.flow.catch_up()
        assert telling.waiting() == 0


def test_explain_and_validate_name_the_outbox(booking):
    def checked():
        return booking.flow.said("validate", "--connect", str(booking.flow.path))

    _, said = booking.flow.said("explain", str(booking.flow.path))
    assert "Together with the change of book" in " ".join(said.split())
    code, said = checked()
    assert code == 0, said
    assert "missing; it is made at the first run" in said
    booking.flow.catch_up()
    assert "may use it" in checked()[1]
    booking.execute("DROP TABLE penstock_outbox")
    booking.execute("CREATE TABLE penstock_outbox (id int)")
    code, said = checked()
    assert code == 1
    assert "it is there, and no outbox" in said
    run = booking.flow.start("--until-caught-up")
    assert run.wait() == 4
    assert "is no outbox" in run.text()


def test_a_test_of_the_flow_sees_what_would_be_published(booking):
    case = {
        "tests": [
            {
                "name": "an order is announced",
                "pipeline": "booking",
                "data": {"id": 1, "key": "k", "total": 3},
                "mocks": {"book": {"output": [{"number": 9}]}},
                "expect": {"published": [{"data": [{"number": 9}]}]},
            }
        ]
    }
    tests = booking.flow.folder / "flow.test.json"
    tests.write_text(json.dumps(case))
    ran = booking.flow.penstock("test", str(booking.flow.path), str(tests))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout
