"""A dead letter's event comes back as it was: to the last digit, with its key, change and bytes."""

from __future__ import annotations

import json

import pytest

from connectors.batch import Batch, Change
from connectors.errors import PermanentError
from flows.runtime.reviving import revived
from flows.state.letters import dead_letter
from tests.flows.state.samples import letter
from transforms.executions import Ended, Executions


def failed(error=None, step="charge", **columns):
    """Return the dead letter of an event with these columns."""
    given = {
        "raw": [b'{"total":10.50,"n":123456789012345678901234567890}'],
        "id": ["e1"],
        "source": ["/orders"],
        "type": ["order.created"],
        "subject": ['a "data": b'],
        "time": ["2026-11-21T08:00:00.123456789Z"],
        "key": ["base64:/w=="],
        "partition": ["orders/3"],
        "position": ["0007"],
        "timestamp": [1795248000.123456],
        "extensions": [{"partitionkey": "x", "sequence": 7}],
    } | {name: [value] for name, value in columns.items()}
    executions = Executions(Batch(1, given, after={}), "enrich")
    executions.end(0, Ended("failed", step, error or PermanentError("no.", code="http_status")))
    made = dead_letter(
        executions,
        0,
        flow="shop",
        flow_version="v1",
        source_module="orders",
        tenant="acme",
        now=5.0,
    )
    return made, given


def back(one, edit=None):
    batch = revived([one], [edit])
    return {name: column[0] for name, column in batch.columns.items()}, batch.errors.get(0)


def test_every_column_is_as_it_was():
    one, given = failed()
    found, error = back(one)
    assert error is None
    for name, (value,) in given.items():
        if name == "timestamp":
            assert found[name] == pytest.approx(value)
        else:
            assert found[name] == value, name
    assert found["datacontenttype"] == "application/json"
    assert (found["change"], found["wire"]) == (None, None)


def test_data_that_is_absent_stays_absent():
    found, error = back(failed(raw=None)[0])
    assert (found["raw"], error) == (None, None)


def test_bytes_that_are_not_json_are_tried_again_as_they_are():
    one, _ = failed(raw=b"\xff{torn", step=None)
    batch = revived([one], [None])
    assert batch.columns["raw"] == [b"\xff{torn"]
    batch.column("data")
    assert batch.errors[0].code == "data_not_json"


def test_a_change_comes_back_and_its_image_follows_an_edit_of_the_data():
    row = {"id": 1, "total": 9007199254740993}
    one, _ = failed(raw=json.dumps(row).encode(), change=Change("UPDATE", {"id": 0}, row))
    found, _ = back(one)
    assert found["change"] == Change("UPDATE", {"id": 0}, row)
    found, _ = back(one, '{"id":2}')
    assert found["change"] == Change("UPDATE", {"id": 0}, {"id": 2})
    assert found["raw"] == b'{"id":2}'


def test_an_envelope_that_could_not_be_read_is_decoded_anew():
    """The code that reads it was mended since."""
    wire = b'{"specversion":"1.0","id":"x","source":"/s","type":"t","data":{"n":1.0}}'
    one = letter(
        1,
        step=None,
        error_code="cloudevents_attribute",
        event='{"specversion":"1.0","id":"t/0/1","source":"/kafka/t","type":"t.message"}',
        wire=wire,
    )
    found, error = back(one)
    assert (found["id"], found["source"], found["raw"], error) == ("x", "/s", b'{"n":1.0}', None)


def test_what_still_can_not_be_read_fails_with_the_error_it_had():
    one = letter(
        1,
        step=None,
        error_code="cloudevents_attribute",
        event='{"specversion":"1.0","type":"t.message"}',
        wire=b"torn{",
    )
    found, error = back(one)
    assert (error.code, error.message) == ("cloudevents_attribute", one.error_message)
    assert (found["id"], found["source"]) == (one.id, "orders")
    assert back(one, "1")[1] is None


def test_a_row_of_which_nothing_was_kept_fails_until_it_is_edited():
    one = letter(
        1,
        step=None,
        error_code="row_undecodable",
        event='{"specversion":"1.0","id":"e","source":"/s","type":"t"}',
    )
    assert back(one)[1].code == "row_undecodable"
    assert back(one, '{"id":1}')[1] is None


def test_a_dead_letter_of_an_older_program_has_its_key_in_the_event():
    one = letter(
        1,
        event='{"specversion":"1.0","id":"e","source":"/s","type":"t","partitionkey":"k","data":1}',
    )
    found, _ = back(one)
    assert found["key"] == "k"
    assert found["timestamp"] == one.first_failed_at
