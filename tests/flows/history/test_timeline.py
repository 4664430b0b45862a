"""What a recorded execution did, step by step and as a stream of events."""

from __future__ import annotations

import json
from typing import get_args

import orjson
import pytest

from connectors.errors import PermanentError
from flows.history.documents import detail_document, events_document, timeline_document
from flows.history.events import EventType, events_of
from flows.history.finding import find_execution
from flows.history.plans import flow_document
from flows.plan import load_flow
from tests.flows.history.recording import FLOW
from transforms.executions import UNSET, Duplicate, Ended


def told(document):
    return json.loads(orjson.dumps(document))


@pytest.fixture
def find(on_sqlite):
    def settled(executions, index=0):
        on_sqlite.settle(executions)
        return find_execution(on_sqlite.store, "shop", on_sqlite.ids(executions)[index])

    return settled


def types(recorded):
    return [(e.event_type, e.event_data.get("step_name")) for e in events_of(recorded)]


def steps(recorded):
    return {step["name"]: step for step in told(timeline_document(recorded))["steps"]}


def test_a_timeline_has_every_step_with_its_time_input_and_output(on_sqlite, find):
    shown = told(timeline_document(find(on_sqlite.done(3))))
    assert shown["pipeline"] == "ship"
    assert (shown["tenant"], shown["status"]) == ("shop-1", "completed")
    assert shown["started_at"] == "1970-01-01T00:33:20.000Z"
    assert shown["duration_ms"] > 0
    assert shown["trigger"] == {
        "type": "source.kafka",
        "module": "orders",
        "event_id": "e3",
        "event_source": "/orders",
        "event_type": "order.placed",
        "subject": "orders/3",
        "partition": "orders/0",
        "position": f"{3:020}",
    }
    check, route, charge, write = shown["steps"]
    assert check == {
        "name": "check",
        "type": "step.jq",
        "status": "completed",
        "started_at": "1970-01-01T00:33:20.000Z",
        "duration_ms": 1.0,
        "attempts": 1,
        "input": {"expression": "{ok: (.data.total > 0)}"},
        "output": {"ok": True},
    }
    assert (route["status"], "routed_to" in route) == ("completed", False)
    assert charge["duration_ms"] == 250.0
    assert charge["input"]["url"] == "http://127.0.0.1:1/charge/3"
    assert charge["input"]["body"] == {"n": 3, "total": 3, "shop": "shop-1"}
    assert charge["output"] == {"charged": 3}
    assert (write["type"], write["status"]) == ("step.publish", "completed")


def test_the_stream_of_one_that_went_through(on_sqlite, find):
    recorded = find(on_sqlite.done(3))
    assert types(recorded) == [
        ("execution.started", None),
        *[
            (f"step.{kind}", "check")
            for kind in ("started", "input_recorded", "output_recorded", "completed")
        ],
        *[(f"step.{kind}", "route") for kind in ("started", "input_recorded", "completed")],
        *[
            (f"step.{kind}", "charge")
            for kind in ("started", "input_recorded", "output_recorded", "completed")
        ],
        *[(f"step.{kind}", "write") for kind in ("started", "input_recorded", "completed")],
        ("execution.completed", None),
    ]
    shown = told(events_document(recorded))["events"]
    assert [each["sequence_num"] for each in shown] == list(range(1, len(shown) + 1))
    assert shown[0]["event_data"]["trigger_data"]["event_id"] == "e3"
    assert shown[-1]["event_data"]["output"] == {"charged": 3}
    assert all(each["event_type"] in get_args(EventType) for each in shown)


def test_a_step_that_did_not_apply_is_skipped_and_says_why(on_sqlite, find):
    recorded = find(on_sqlite.done(7))
    assert steps(recorded)["charge"]["status"] == "skipped"
    assert steps(recorded)["charge"]["reason"] == "if"
    assert ("step.skipped", "charge") in types(recorded)


def test_a_jump_is_computed_again(on_sqlite, find):
    recorded = find(on_sqlite.done(0))
    assert steps(recorded)["route"]["routed_to"] == "write"
    assert steps(recorded)["charge"]["reason"] == "conditional routing from route"
    assert steps(recorded)["write"]["status"] == "completed"
    routed = [e for e in events_of(recorded) if e.event_type == "conditional.routed"]
    assert [dict(e.event_data) for e in routed] == [{"step_name": "route", "to": "write"}]


def test_a_failure_ends_it_at_its_step(on_sqlite, find):
    recorded = find(on_sqlite.failed(3))
    shown = steps(recorded)
    assert [step["status"] for step in shown.values()] == [
        "completed",
        "completed",
        "failed",
        "not_reached",
    ]
    assert shown["charge"]["error"]["code"] == "http_status"
    assert types(recorded)[-2:] == [("step.failed", "charge"), ("execution.failed", "charge")]


def test_a_failure_before_the_first_step_reaches_none(on_sqlite, find):
    made = on_sqlite.batch(3)
    made.end(0, Ended("failed", None, PermanentError("it does not fit.", code="schema_invalid")))
    recorded = find(made)
    assert {step["status"] for step in steps(recorded).values()} == {"not_reached"}
    assert types(recorded) == [("execution.started", None), ("execution.failed", None)]


def test_a_failure_that_was_passed_over_is_told(on_sqlite, find):
    made = on_sqlite.done(3)
    made.outputs["charge"] = [UNSET]
    made.passed_over["charge"] = {0: PermanentError("no.", code="http_status")}
    recorded = find(made)
    assert recorded.status == "completed"
    assert steps(recorded)["charge"]["reason"] == "on_error: skip"
    assert ("step.failed", "charge") in types(recorded)
    assert types(recorded)[-1] == ("execution.completed", None)


def test_tries_are_told_with_their_times(on_sqlite, find):
    made = on_sqlite.done(3)
    made.resumed[0] = type(
        "Before",
        (),
        {
            "tries": '[{"at":"2026-01-01T00:00:00.000Z","step":"charge","code":"http_status",'
            '"message":"503","after":1.5}]',
            "parked_at": 5.0,
            "place": type("Place", (), {"id": "x"}),
        },
    )()
    made.starts[0] = 1990.0
    made.took_before[0] = {"check": (1990.5, 0.002)}
    recorded = find(made)
    assert recorded.started_at == 1990.0
    assert steps(recorded)["charge"]["attempts"] == 2
    retried = [e for e in events_of(recorded) if e.event_type == "retry.attempted"]
    assert [(e.event_data["attempt"], e.event_data["delay_seconds"]) for e in retried] == [(1, 1.5)]
    assert retried[0].at == 1767225600.0


def test_a_saga_that_was_undone_is_told(on_sqlite, find):
    made = on_sqlite.failed(3)
    made.undone[0] = [{"step": "check", "status": "compensated", "attempts": 1, "at": 2001.0}]
    document = find_undone(on_sqlite, made)
    assert document[-4:] == [
        ("saga.compensating", "charge"),
        ("step.compensated", "check"),
        ("saga.compensated", None),
        ("execution.failed", "charge"),
    ]


def find_undone(recording, made):
    """History has compensations only of pipelines with a saga; dead letters always tell them."""
    recording.settle(made, record="off")
    return types(find_execution(recording.store, "shop", recording.ids(made)[0]))


def test_a_duplicate_names_the_one_that_did_its_work(on_sqlite, find):
    made = on_sqlite.batch(3)
    made.end(0, Ended("skipped"))
    made.duplicates[0] = Duplicate("0199f2a1-0000-7000-8000-000000000000", None)
    recorded = find(made)
    assert told(detail_document(recorded))["duplicate_of"].startswith("0199f2a1")
    assert told(timeline_document(recorded))["status"] == "skipped"


def test_numbers_keep_every_digit(on_sqlite, find):
    made = on_sqlite.done(3)
    made.events.columns["raw"] = [b'{"n":3,"big":123456789012345678901234567890,"d":10.50}']
    made.outputs["check"] = [{"big": 123456789012345678901234567890}]
    recorded = find(made)
    text = orjson.dumps(detail_document(recorded))
    assert b'"d":10.50' in text
    assert text.count(b"123456789012345678901234567890") == 2
    assert b"123456789012345678901234567890" in orjson.dumps(timeline_document(recorded))


def test_what_was_recorded_before_the_flow_was_kept_is_told_as_far_as_it_is_known(on_sqlite):
    made = on_sqlite.failed(3)
    on_sqlite.store._database.run(lambda c: c.exec_driver_sql("DELETE FROM penstock_flow_versions"))
    on_sqlite.settle(made)
    recorded = find_execution(on_sqlite.store, "shop", on_sqlite.ids(made)[0])
    assert [(s["name"], s["status"]) for s in steps(recorded).values()] == [
        ("check", "completed"),
        ("charge", "failed"),
    ]


def test_secrets_of_the_flow_are_in_no_input(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(
        FLOW.replace("method: POST", 'method: POST, headers: {auth: "Bearer ${TOKEN}"}')
    )
    plan = load_flow([path], {"TOKEN": "hunter2-hunter2"})
    document = json.dumps(flow_document(plan))
    assert "hunter2" not in document
    assert '"auth"' in document
