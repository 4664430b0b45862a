"""A dead letter holds what is needed to see why an event failed, and to try it again."""

from __future__ import annotations

import base64
import json
from decimal import Decimal

import pytest

from connectors.batch import Batch, Change
from connectors.errors import PermanentError, RetryableError
from flows.state.letters import dead_letter
from transforms.executions import UNSET, Ended, Executions

ERROR = RetryableError(
    "the server did not answer.", code="timeout", hint="Is it up?", url="http://x/1", tries=3
)


def _letter(raw=b'{"total":10.50,"n":123456789012345678901234567890}', *, error=ERROR, **more):
    columns = {
        "raw": [b"{}", raw],
        "id": ["e0", "e1"],
        "source": ["/orders", "/orders"],
        "type": ["order.created", "order.created"],
        "partition": ["orders/0", "orders/0"],
        "position": ["001", "002"],
        "timestamp": [1_700_000_000.0, 1_700_000_000.0],
        "extensions": [{}, {"operation": "INSERT", "sequence": 7}],
    }
    outputs = more.pop("outputs", {})
    columns |= more.pop("columns", {})
    made = Executions(Batch(2, columns, after={}), "enrich", outputs=outputs, **more)
    made.end(1, Ended("failed", "charge", error))
    return made, dead_letter(
        made,
        1,
        flow="shop",
        flow_version="v1",
        source_module="orders",
        tenant="acme",
        now=5.0,
    )


def test_it_tells_what_failed_where_and_why():
    made, letter = _letter()
    assert letter.id == made.execution_id(1)
    assert (letter.flow, letter.pipeline, letter.step) == ("shop", "enrich", "charge")
    assert (letter.source, letter.partition, letter.position) == ("orders", "orders/0", "002")
    assert (letter.event_id, letter.event_type, letter.tenant) == ("e1", "order.created", "acme")
    assert (letter.error_code, letter.error_kind) == ("timeout", "retryable")
    assert (letter.error_message, letter.error_hint) == ("the server did not answer.", "Is it up?")
    assert json.loads(letter.context) == {"url": "http://x/1", "tries": 3}
    assert (letter.attempts, letter.first_failed_at, letter.last_failed_at) == (1, 5.0, 5.0)


def test_a_secret_that_a_server_said_back_is_not_in_it():
    error = PermanentError("it said hunter2.", code="x", hint="Not hunter2?", said="hunter2")
    made, _ = _letter(error=error)
    letter = dead_letter(
        made,
        1,
        flow="shop",
        flow_version="v1",
        source_module="orders",
        tenant="acme",
        now=5.0,
        redact=lambda text: text.replace("hunter2", "***"),
    )
    assert (letter.error_message, letter.error_hint) == ("it said ***.", "Not ***?")
    assert json.loads(letter.context) == {"said": "***"}


def test_its_event_is_a_cloudevent_with_the_data_digit_for_digit():
    _, letter = _letter()
    assert letter.event == (
        '{"specversion":"1.0","id":"e1","source":"/orders","type":"order.created",'
        '"datacontenttype":"application/json","operation":"INSERT","sequence":7,'
        '"data":{"total":10.50,"n":123456789012345678901234567890}}'
    )
    assert letter.wire is None


def test_data_that_is_not_json_is_kept_byte_for_byte():
    _, letter = _letter(b"\xff{torn")
    event = json.loads(letter.event)
    assert base64.b64decode(event["data_base64"]) == b"\xff{torn"
    assert "data" not in event
    assert letter.wire == b"\xff{torn"


def test_what_arrived_is_kept_where_the_source_has_it():
    _, letter = _letter(None, columns={"wire": [None, b"\x00framed"]})
    assert letter.wire == b"\x00framed"
    assert "data" not in json.loads(letter.event)


def test_an_event_whose_attributes_could_not_be_read_is_a_dead_letter_too():
    unread = {"id": ["e0", None], "source": ["/orders", None], "type": ["order.created", None]}
    _, letter = _letter(columns=unread)
    _, again = _letter(columns=unread)
    _, other = _letter(columns={**unread, "position": ["001", "003"]})
    assert letter.id == again.id != other.id
    assert (letter.event_id, letter.event_type) == ("", "")
    assert json.loads(letter.event)["data"]["total"] == 10.5


def test_its_outputs_are_those_of_the_steps_that_ran_in_their_order():
    _, letter = _letter(
        outputs={
            "shape": [None, {"a": 1}],
            "priced": [None, 1.5],
            "skipped": [None, UNSET],
            "odd": [None, Decimal("1.10")],
        },
        encoded={"priced": [None, b"1.50"]},
    )
    assert letter.outputs == '{"shape":{"a":1},"priced":1.50,"odd":"1.10"}'


def test_a_rows_change_is_kept_since_a_replayed_step_may_ask_for_before():
    change = Change("UPDATE", {"total": 9}, {"total": 10})
    _, letter = _letter(columns={"change": [None, change]})
    assert json.loads(letter.change) == {
        "operation": "UPDATE",
        "before": {"total": 9},
        "after": {"total": 10},
    }
    assert _letter()[1].change is None


@pytest.mark.parametrize("context", [{"value": {1, 2}}, {"n": 2**80}, {"text": "\ud800"}])
def test_a_context_that_is_not_json_makes_no_second_error(context):
    _, letter = _letter(error=PermanentError("no.", code="c", **context))
    assert json.loads(letter.context).keys() == context.keys()


def test_what_steps_had_beside_their_outputs_is_kept_of_those_that_had_one():
    answered = {"status": 200, "headers": {"etag": "x"}}
    _, letter = _letter(
        outputs={"look": [1, 2], "call": [UNSET, UNSET]},
        details={"look": [None, answered], "call": [None, {"status": 422, "headers": {}}]},
    )
    assert json.loads(letter.details) == {"look": answered}


def test_where_no_step_had_anything_beside_its_output_nothing_is_kept():
    _, letter = _letter(outputs={"shape": [1, 2]}, details={"look": [None, None]})
    assert letter.details is None
