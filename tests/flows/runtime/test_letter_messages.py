"""What sinks get of a dead letter."""

from __future__ import annotations

import json

import pytest

from connectors.batch import Arrival
from flows.runtime.letter_messages import events_of, record_of
from flows.state.copies import CopiedLetter
from tests.flows.state.samples import letter

ARRIVAL = Arrival("t", 3, 7, None, None, (("own", b"1"),))


def copied(arrival=None, acting="step.jq", **changes):
    return CopiedLetter(letter(1, **changes), arrival, acting, "connectors.errors.PermanentError")


def headers(made, shard="orders/2"):
    return dict(record_of(made, shard).headers)


def test_a_tombstone_stays_one():
    record = record_of(copied(ARRIVAL), "orders/2")
    assert (record.key, record.value, record.headers[0]) == (None, None, ("own", b"1"))
    assert dict(record.headers)["__connect.errors.task.id"] == b"2"


def test_headers_of_an_earlier_failure_stand_before_those_of_this_one():
    """As Kafka's consumers read the last header of a name, and Connect adds them likewise."""
    arrival = Arrival("t", 0, 0, None, None, (("__connect.errors.topic", b"earlier"),))
    topics = [
        value
        for name, value in record_of(copied(arrival), "orders/0").headers
        if name == "__connect.errors.topic"
    ]
    assert topics == [b"earlier", b"t"]


@pytest.mark.parametrize(
    ("step", "acting", "stage"),
    [
        (None, "source.kafka", b"VALUE_CONVERTER"),
        ("a", "step.publish", b"TASK_PUT"),
        ("a", "step.jq", b"TRANSFORMATION"),
    ],
)
def test_stages_are_those_of_connect(step, acting, stage):
    assert headers(copied(ARRIVAL, acting, step=step))["__connect.errors.stage"] == stage


def test_a_stack_is_given_where_there_is_one_else_the_tries():
    name = "__connect.errors.exception.stacktrace"
    assert headers(copied(context='{"stack": "line 1"}'))[name] == b"line 1"
    tries = json.dumps(
        [
            {"at": "T1", "step": None, "message": "no", "code": "c", "after": 1.0},
            {"at": "T2", "step": "s", "message": "no", "code": "d", "after": None},
        ]
    )
    assert headers(copied(tries=tries))[name] == b"T1 before the first step: no [c]\nT2 s: no [d]"
    assert headers(copied())[name] == b"the server answered 422. [http_status]"


def test_a_text_that_is_too_long_for_a_header_is_cut():
    message = headers(copied(error_message="é" * 50_000))["__connect.errors.exception.message"]
    assert message.decode() == "é" * 15_999 + "…"


def test_an_event_from_elsewhere_comes_as_its_data_with_the_headers_of_a_cloudevent():
    record = record_of(copied(key="k"), "orders/0")
    found = dict(record.headers)
    assert (record.key, record.value) == ("k", b'{"total":10.50}')
    assert (found["ce_id"], found["ce_source"], found["ce_type"]) == (b"e", b"/s", b"t")
    assert found["content-type"] == b"application/json"
    assert "__connect.errors.topic" not in found
    assert found["penstock.source.position"] == b"%020d" % 1


def test_bytes_that_could_not_be_read_come_as_they_were():
    event = '{"specversion":"1.0","id":"e","source":"/s","type":"t","data_base64":"/w=="}'
    assert record_of(copied(event=event, wire=b"\xff"), "orders/0").value == b"\xff"


def test_other_sinks_get_a_cloudevent_with_the_letter_digit_for_digit():
    outgoing = events_of([copied(key="k", compensation="[1]"), copied()])
    attributes = outgoing.attributes()
    assert attributes["id"] == [letter(1).id] * 2
    assert attributes["source"] == ["/penstock/shop/enrich"] * 2
    assert attributes["time"] == ["1970-01-01T00:16:41.000Z"] * 2
    assert attributes["partitionkey"] == outgoing.keys == ["k", None]
    assert b'"data":{"total":10.50}' in outgoing.values[0]
    data = json.loads(outgoing.values[0])
    assert data["error"]["code"] == "http_status"
    assert data["compensation"] == [1]
    assert data.keys().isdisjoint({"status", "replay", "replays", "copy"})
