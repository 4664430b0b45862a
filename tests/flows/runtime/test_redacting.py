"""What `history.redact` names is recorded nowhere, and is whole where an event is to run again."""

from __future__ import annotations

import json

import orjson
import pytest
import zstandard

from connectors.batch import Change
from connectors.errors import FlowFileError, PermanentError
from dlq.again import asked_again
from flows.history.documents import detail_document, timeline_document
from flows.history.finding import find_execution
from flows.spec.redactions import data_masker, masked_at, parse_redaction
from flows.state.bodies import encode_each
from schema_registry.validation import Validator
from tests.flows.history.recording import FLOW, Recording
from transforms.executions import UNSET, Ended

CARD = "4111-1111-1111-1111"
REDACTING = FLOW.replace(
    "name: shop",
    'name: shop\nhistory: {redact: [.data.card, ".data.items[].pin", .steps.charge.output.name,'
    " .before.name]}",
    1,
)


@pytest.fixture
def recording(tmp_path):
    made = Recording(f"sqlite:///{tmp_path}/state.db", REDACTING)
    yield made
    made.store.close()


def order(recording, *numbers, **data):
    made = recording.done(*numbers, card=CARD, items=[{"pin": 4711, "sku": "s"}], **data)
    made.outputs["charge"] = [{"charged": n, "name": "Ada Lovelace"} for n in numbers]
    return made


def stored(recording):
    """Everything that history has, as text."""
    rows = recording.store._database.run(
        lambda c: c.exec_driver_sql("SELECT body FROM penstock_history_chunks").all()
    )
    texts = [zstandard.ZstdDecompressor().decompress(body) for (body,) in rows]
    assert texts
    return b"".join(texts).decode()


def shown(recording, made, index=0):
    return find_execution(recording.store, "shop", recording.ids(made)[index])


def test_what_is_named_is_masked_and_everything_else_is_as_it_was(recording):
    made = order(recording, 3, 4)
    recording.settle(made)
    found = shown(recording, made)
    data = {"n": 3, "total": 3, "shop": "shop-1", "card": "***"}
    assert found.attribute("data") == data | {"items": [{"pin": "***", "sku": "s"}]}
    assert found.executions.outputs["charge"] == [{"charged": 3, "name": "***"}]
    assert found.redacted
    assert (found.tenant, found.status) == ("shop-1", "completed")
    text = stored(recording)
    assert not any(each in text for each in (CARD, "4711", "Ada Lovelace"))
    assert json.loads(orjson.dumps(detail_document(found)))["redacted"] is True


def test_the_batch_that_goes_on_is_not_touched(recording):
    made = order(recording, 3)
    made.encoded["charge"] = [b'{"charged":3,"name":"Ada Lovelace"}']
    recording.settle(made)
    assert made.events.column("data")[0]["card"] == CARD
    assert made.outputs["charge"][0]["name"] == "Ada Lovelace"
    assert "Ada" not in stored(recording)


def test_its_value_is_masked_wherever_else_it_stands(recording):
    made = order(recording, 3)
    made.outputs["check"] = [{"copied": f"card {CARD}!", "nested": [{"pin": 4711}]}]
    made.details["charge"] = [{"status": 200, "headers": {"x-card": CARD}}]
    made.events.columns["subject"] = [f"cards/{CARD}"]
    made.events.columns["key"] = [CARD]
    made.passed_over["write"] = {0: PermanentError(f"no {CARD}.", code="c", said=[CARD])}
    recording.settle(made)
    assert CARD not in stored(recording)
    found = shown(recording, made)
    assert found.executions.outputs["check"] == [
        {"copied": "card ***!", "nested": [{"pin": "***"}]}
    ]
    assert CARD not in orjson.dumps(timeline_document(found)).decode()
    assert found.attribute("key") == "***"


def test_a_row_is_masked_before_and_after_its_change(recording):
    made = order(recording, 3)
    before = {"card": "5500-0000-0000-0004", "name": "Ada Lovelace"}
    made.events.columns["change"] = [Change("UPDATE", before, made.events.column("data")[0])]
    recording.settle(made)
    text = stored(recording)
    assert not any(each in text for each in (CARD, "5500", "Ada Lovelace"))
    change = shown(recording, made).attribute("change")
    assert change.before == {"card": "***", "name": "***"}
    assert change.after["card"] == "***"


def test_the_dead_letter_keeps_the_event_and_history_does_not(recording):
    made = order(recording, 3)
    made.outputs["charge"] = [UNSET]
    error = PermanentError(f"the server refused {CARD}.", code="http_status")
    made.end(0, Ended("failed", "charge", error))
    settlement = recording.settle(made)
    assert CARD not in stored(recording)
    assert json.loads(settlement.dead_letters[0].event)["data"]["card"] == CARD
    assert error.message == f"the server refused {CARD}."
    assert shown(recording, made).error.message == "the server refused ***."


def test_what_waits_keeps_the_event(recording):
    made = order(recording, 3)
    (body,) = encode_each(made, [0])
    assert CARD.encode() in body


def test_of_data_that_can_not_be_read_nothing_is_recorded(recording):
    made = order(recording, 3)
    made.events.columns["raw"] = [b'{"card": "' + CARD.encode()]
    made.end(0, Ended("failed", None, PermanentError("no JSON.", code="data_not_json")))
    recording.settle(made)
    assert "4111" not in stored(recording)


def test_what_was_masked_is_not_replayed_as_if_it_were_the_event(recording):
    made = order(recording, 3)
    recording.settle(made)
    with pytest.raises(FlowFileError, match="masked before it was recorded") as caught:
        asked_again(recording.store, "shop", recording.ids(made)[0], now=1.0, plan=recording.plan)
    assert caught.value.code == "replay_not_possible"


def test_events_that_have_nothing_of_it_are_as_they_were(recording):
    made = recording.done(3)
    recording.settle(made)
    found = shown(recording, made)
    assert not found.redacted
    assert found.attribute("raw") == made.events.column("raw")[0]


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        (".data", "***"),
        (".data.a", {"a": "***", "list": [{"x": 1}, {"y": 2}], "none": None}),
        (".data.list[].x", {"a": {"b-c": 1}, "list": [{"x": "***"}, {"y": 2}], "none": None}),
        (".data.list[1]", {"a": {"b-c": 1}, "list": [{"x": 1}, "***"], "none": None}),
        ('.data.a["b-c"]', {"a": {"b-c": "***"}, "list": [{"x": 1}, {"y": 2}], "none": None}),
        (".data.a.b-c", {"a": {"b-c": "***"}, "list": [{"x": 1}, {"y": 2}], "none": None}),
        (".data.none", {"a": {"b-c": 1}, "list": [{"x": 1}, {"y": 2}], "none": None}),
        (".data.list.x", {"a": {"b-c": 1}, "list": [{"x": 1}, {"y": 2}], "none": None}),
    ],
)
def test_a_path_masks_what_it_leads_to(path, masked):
    value = {"a": {"b-c": 1}, "list": [{"x": 1}, {"y": 2}], "none": None}
    assert masked_at(value, parse_redaction(path).parts, lambda _: "***") == masked


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "card",
        ".card",
        ".steps",
        ".steps[]",
        ".data | .card",
        ".data.card // 1",
        ".data..card",
    ],
)
def test_what_is_no_path_does_not_load(path):
    with pytest.raises(ValueError, match="a path"):
        parse_redaction(path)


LONG = "Ada " + "Lovelace-" * 30


@pytest.mark.parametrize(
    ("card", "quoted"),
    [
        (CARD, f'found "{CARD}"'),
        ('say "hi" to Ada', r'found "say \"hi\" to Ada"'),
        ("naïve Ada", 'found "naïve Ada"'),
        (LONG, f'found "{LONG[:80]}…'),
        (LONG, f'found {{"name":"{LONG[:4]}…'),
    ],
)
def test_an_error_that_quotes_it_in_whole_or_in_part_is_recorded_without(recording, card, quoted):
    made = recording.done(3, card=card)
    problem = f"/card: expected at most 3 characters, {quoted}"
    error = PermanentError(problem, code="schema_invalid", problems=[problem])
    made.ended[0] = Ended("failed", "shape", error)
    recording.settle(made)
    text = stored(recording)
    for length in (4, 8):
        assert card[:length] not in text
    assert "expected at most 3 characters" in text


def test_a_rejection_tells_nothing_of_what_is_masked_however_short(tmp_path):
    mask = data_masker([parse_redaction(".data.pin"), parse_redaction(".after.card.cvc")], "[x]")
    schema = {
        "properties": {
            "pin": {"type": "integer", "maximum": 9},
            "n": {"type": "integer"},
            "after": {"properties": {"card": {"maxProperties": 1}}},
        }
    }
    data = {"pin": 17, "n": "seven", "after": {"card": {"cvc": 123, "name": "A"}}}
    told = Validator(schema).problems(data, mask)
    assert sorted(told) == [
        '/after/card: expected at most 1 properties, found {"cvc":"[x]","name":"A"}',
        '/n: expected integer, found "seven"',
        '/pin: expected at most 9, found "[x]"',
    ]
    assert data["pin"] == 17
    assert data_masker([parse_redaction(".steps.look.output")], "[x]") is None
