"""`dead_letter.sink`: a dead letter's copy gets to its sink whatever dies or is away meanwhile."""

from __future__ import annotations

import json

import psycopg
import pytest
from confluent_kafka import Producer

from connectors.failpoints import COPY_NAMES
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    cdc_source,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def dead_topic(kafka, topic, name="dead"):
    return {
        "name": name,
        "type": "sink.kafka",
        "config": {"brokers": kafka.bootstrap, "topic": topic},
    }


def failing(condition=".data.bad"):
    return step("check", "jq", {"expression": f'if {condition} then error("bad") else . end'})


class Failing:
    """A flow from a topic to a file; what is bad is copied to a topic of its own."""

    def __init__(self, flow, kafka, *steps, partitions=1, source=None, target=None, **more):
        self.flow, self.kafka = flow, kafka
        self.topic = kafka.create_topic(partitions)
        self.dead = kafka.create_topic(**(target or {}))
        made = pipeline(
            "orders", *(steps or (failing(),)), publish("out"), dead_letter={"sink": "dead"}, **more
        )
        flow.write(
            modules=[
                kafka_source(kafka, self.topic, **(source or {})),
                file_sink(flow.folder),
                dead_topic(kafka, self.dead),
            ],
            pipelines={"check": made},
        )

    def send(self, *values, **message):
        write(self.kafka, self.topic, *values, **message)

    def copies(self, count, timeout=30):
        return self.kafka.read_all(self.dead, count, timeout)


def order(n, *, bad=False):
    return json.dumps({"n": n, "bad": bad}).encode()


def headers(message):
    """The headers of a copy that say why; text."""
    return {
        name: value.decode()
        for name, value in message.headers()
        if name.startswith(("__connect.", "penstock."))
    }


def numbers(messages):
    return [json.loads(message.value())["n"] for message in messages]


def test_a_copy_is_the_message_as_it_arrived_with_headers_that_say_why(flow, kafka):
    failing_flow = Failing(flow, kafka)
    own = [("trace", b"\xff\x00"), ("empty", None), ("trace", b"again")]
    failing_flow.send(b' {"n": 1.50, "bad": true}', key=b"\xfe\xed", headers=own)
    failing_flow.send(b"{no json", key="k2", headers={"a": "b"})
    failing_flow.send(order(3), key="k3")
    flow.catch_up()
    bad, torn = failing_flow.copies(2)
    assert (bad.key(), bad.value()) == (b"\xfe\xed", b' {"n": 1.50, "bad": true}')
    assert bad.headers()[:3] == own
    letter, undecoded = flow.letters()
    said = headers(bad)
    times = {name: said.pop(name) for name in list(said) if name.endswith("failed_at")}
    assert len(times) == 2
    stack = said.pop("__connect.errors.exception.stacktrace")
    assert "check: " in stack
    assert "bad" in stack
    assert said == {
        "__connect.errors.topic": failing_flow.topic,
        "__connect.errors.partition": "0",
        "__connect.errors.offset": "0",
        "__connect.errors.connector.name": "flow",
        "__connect.errors.task.id": "0",
        "__connect.errors.stage": "TRANSFORMATION",
        "__connect.errors.class.name": "step.jq",
        "__connect.errors.exception.class.name": "connectors.errors.PermanentError",
        "__connect.errors.exception.message": letter.error_message,
        "penstock.dead_letter.id": letter.id,
        "penstock.flow.version": letter.flow_version,
        "penstock.pipeline": "check",
        "penstock.step": "check",
        "penstock.error.code": letter.error_code,
        "penstock.error.kind": "permanent",
        "penstock.attempts": "1",
        "penstock.event.id": f"{failing_flow.topic}/0/0",
        "penstock.event.type": f"{failing_flow.topic}.message",
        "penstock.source": "orders",
        "penstock.source.partition": f"{failing_flow.topic}/0",
        "penstock.source.position": letter.position,
        "penstock.tenant": "default",
    }
    assert (torn.key(), torn.value()) == (b"k2", b"{no json")
    assert torn.headers()[0] == ("a", b"b")
    why = dict(torn.headers())
    assert why["__connect.errors.stage"] == b"VALUE_CONVERTER"
    assert why["__connect.errors.class.name"] == b"source.kafka"
    assert why["__connect.errors.offset"] == b"1"
    assert why["penstock.error.code"] == b"data_not_json"
    assert why["penstock.dead_letter.id"].decode() == undecoded.id
    assert [line["data"]["n"] for line in flow.lines()] == [3]


@pytest.mark.parametrize("name", ["after_checkpoint_before_acknowledge", *COPY_NAMES])
def test_a_copy_gets_there_when_the_worker_is_killed_at_a_named_point(flow, kafka, name):
    failing_flow = Failing(flow, kafka)
    failing_flow.send(*(order(n, bad=n % 10 == 0) for n in range(100)))
    flow.killed_at(name)
    flow.catch_up()
    copies = failing_flow.copies(10)
    assert sorted(set(numbers(copies))) == list(range(0, 100, 10))
    ids = {headers(copy)["penstock.dead_letter.id"] for copy in copies}
    assert ids == {letter.id for letter in flow.letters()}
    if name != "after_copy_before_forgotten":
        assert len(copies) == 10
    with flow.store() as store:
        assert store.copies.counts("flow") == {}


def test_a_broker_that_is_stopped_holds_up_no_event_and_loses_no_copy(flow, kafka, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, bad boolean)")
        dead = kafka.create_topic()
        flow.write(
            modules=[
                cdc_source(database, "dead_letters", "orders", name="orders"),
                file_sink(flow.folder),
                dead_topic(kafka, dead),
            ],
            pipelines={
                "check": pipeline("orders", failing(), publish("out"), dead_letter={"sink": "dead"})
            },
        )
        run = flow.start()
        run.wait_until_started()
        insert = (
            "INSERT INTO orders SELECT n, mod(n, 10) = 0 FROM generate_series(%s::int, %s::int) n"
        )
        connection.execute(insert, (1, 100))
        wait_for(lambda: len(flow.lines()) == 90, "the first events")
        assert len(kafka.read_all(dead, 10)) == 10
        kafka.stop()
        try:
            connection.execute(insert, (101, 200))
            wait_for(lambda: len(flow.lines()) == 180, "events while the sink is away")
            wait_for(lambda: len(flow.letters()) == 20, "their dead letters")
            run.kill_all()
            again = flow.start()
            again.wait_for_lines("copies of dead letters wait for their sink")
            connection.execute(insert, (201, 300))
            wait_for(lambda: len(flow.lines()) == 270, "events after a start without the sink")
        finally:
            kafka.start_again()
        copies = kafka.read_all(dead, 30, 60)
        wait_for(lambda: again.text().count("copies of dead letters go on"), "the sink to be back")
        assert again.stop() == 0, again.text()
    assert sorted({json.loads(copy.value())["id"] for copy in copies}) == list(range(10, 301, 10))
    own = dict(copies[-1].headers())
    assert copies[-1].key() == b"public.orders/300"
    assert own["ce_type"] == b"public.orders.insert"
    assert own["penstock.source"] == b"orders"
    assert "__connect.errors.topic" not in own


def test_a_copy_that_the_sink_refuses_for_good_is_shown_and_does_not_block_the_others(flow, kafka):
    failing_flow = Failing(flow, kafka, target={"max_message_bytes": "4000"})
    large = json.dumps({"n": 2, "bad": True, "text": "x" * 5000}).encode()
    failing_flow.send(order(1, bad=True), large, order(3, bad=True))
    log = flow.run()
    assert numbers(failing_flow.copies(2)) == [1, 3]
    assert "dead_letter_copy_refused" in log
    first, refused, _ = flow.letters()
    shown = flow.told("dlq", "show", refused.id, str(flow.path)).stdout
    assert "not at its sink: refused [message_too_large]" in " ".join(shown.split())
    assert "not at its sink" not in flow.told("dlq", "show", first.id, str(flow.path)).stdout
    assert "dead_letter_copy_refused" in flow.run()  # tried once more at the next start
    gone = flow.told("dlq", "discard", "--all", "--purge", "--yes", str(flow.path))
    assert gone.returncode == 0, gone.stderr
    assert flow.letters() == []
    assert numbers(failing_flow.copies(2)) == [1, 3]
    with flow.store() as store:
        assert store.copies.counts("flow")["check"].refused == 1


def test_an_event_that_was_parked_and_tried_again_is_copied_as_it_arrived(flow, kafka):
    call = step(
        "call",
        "http_call",
        {"url": "http://127.0.0.1:9/", "method": "GET"},
        retry={"max_attempts": 2, "initial_delay": "100ms"},
    )
    failing_flow = Failing(flow, kafka, call)
    event = {"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "data": {"n": 1}}
    value = json.dumps(event, indent=1).encode()
    kind = ("content-type", b"application/cloudevents+json")
    failing_flow.send(value, key=b"\xff", headers=[kind])
    flow.catch_up()
    (copy,) = failing_flow.copies(1)
    assert (copy.key(), copy.value(), copy.headers()[0]) == (b"\xff", value, kind)
    assert headers(copy)["penstock.attempts"] == "2"
    assert headers(copy)["__connect.errors.exception.stacktrace"].count("call: ") == 2


def test_events_of_a_pipeline_that_is_spread_over_processes_are_copied_as_they_arrived(flow, kafka):
    failing_flow = Failing(flow, kafka, partition_by=".data.n")
    for n in range(20):
        failing_flow.send(order(n, bad=True), key=b"\xff%d" % n, headers=[("n", b"%d" % n)])
    flow.run("--workers", "2")
    copies = failing_flow.copies(20)
    assert sorted(numbers(copies)) == list(range(20))
    for copy in copies:
        (n,) = numbers([copy])
        assert (copy.key(), copy.headers()[0]) == (b"\xff%d" % n, ("n", b"%d" % n))


def test_dead_letters_of_a_transaction_are_copied(flow, kafka):
    topic, target, dead = kafka.create_topic(), kafka.create_topic(), kafka.create_topic()
    made = pipeline(
        "orders",
        failing(),
        publish("topic"),
        delivery="exactly_once",
        dead_letter={"sink": "dead"},
    )
    flow.write(
        modules=[
            kafka_source(kafka, topic),
            dead_topic(kafka, target, name="topic"),
            dead_topic(kafka, dead),
        ],
        pipelines={"copy": made},
    )
    write(kafka, topic, *(order(n, bad=n % 2 == 0) for n in range(10)))
    flow.killed_at("after_commit_before_settle")
    flow.catch_up()
    assert numbers(kafka.read_all(dead, 5)) == [0, 2, 4, 6, 8]


def test_a_replay_that_fails_again_is_not_copied_again(flow, kafka):
    failing_flow = Failing(flow, kafka)
    failing_flow.send(order(1, bad=True))
    flow.catch_up()
    (first,) = failing_flow.copies(1)
    replayed = flow.penstock("dlq", "replay", "--all", "--yes", str(flow.path))
    assert replayed.returncode == 1, replayed.stderr
    (letter,) = flow.letters()
    assert letter.replays == 1
    flow.catch_up()
    (copy,) = failing_flow.copies(1)
    assert copy.offset() == first.offset()


def test_a_file_gets_each_dead_letter_once_as_a_cloudevent_also_after_a_kill(flow, kafka):
    topic = kafka.create_topic()
    flow.write(
        modules=[
            kafka_source(kafka, topic),
            file_sink(flow.folder),
            file_sink(flow.folder, "dead"),
        ],
        pipelines={
            "check": pipeline("orders", failing(), publish("out"), dead_letter={"sink": "dead"})
        },
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for n in range(30):
        producer.produce(topic, b'{"n": %d.10, "bad": %s}' % (n, [b"true", b"false"][n % 2]), "k")
    producer.flush()
    flow.killed_at("after_copy_before_forgotten")
    flow.catch_up()
    lines = flow.lines("dead")
    letters = flow.letters()
    assert [line["id"] for line in lines] == [letter.id for letter in letters]
    first = lines[0]
    assert (first["type"], first["source"]) == ("penstock.dead_letter", "/penstock/flow/check")
    assert first["partitionkey"] == "k"
    assert first["data"]["event"]["data"] == {"n": 0.1, "bad": True}
    assert first["data"]["error"]["message"] == letters[0].error_message
    assert b'"n": 0.10,' in (flow.folder / "dead.jsonl").read_bytes()
