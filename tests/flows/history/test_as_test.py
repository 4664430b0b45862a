"""A recorded execution as a case of `penstock test`."""

from __future__ import annotations

import pytest

from connectors.batch import Change
from connectors.errors import FlowFileError, PermanentError
from flows.history.as_test import exported
from flows.history.finding import find_execution
from flows.plan import load_flow
from tests.flows.history.recording import FLOW
from transforms.executions import UNSET, Duplicate, Ended


@pytest.fixture
def export(on_sqlite):
    def settled(executions, plan=None):
        on_sqlite.settle(executions)
        (execution,) = on_sqlite.ids(executions)
        found = find_execution(on_sqlite.store, "shop", execution)
        return exported(found, plan or on_sqlite.plan)

    return settled


def test_it_has_the_event_the_answers_and_what_was_published(on_sqlite, export):
    made = export(on_sqlite.done(3))
    assert made.misses == []
    case = made.case
    assert case["event"]["data"] == {"n": 3, "total": 3, "shop": "shop-1"}
    assert (case["event"]["id"], case["event"]["type"]) == ("e3", "order.placed")
    assert case["mocks"] == {"charge": {"output": {"charged": 3}}}
    assert case["expect"]["outcome"] == "done"
    assert case["expect"]["steps"] == {"check": {"output": {"ok": True}}}
    (published,) = case["expect"]["published"]
    assert (published["sink"], published["data"]) == ("out", {"charged": 3})


def test_a_step_that_did_not_run_must_not_run(on_sqlite, export):
    made = export(on_sqlite.done(0))
    assert made.misses == []
    assert "mocks" not in made.case
    assert made.case["expect"]["steps"]["charge"] == {"ran": False}


def test_a_failure_is_expected_again(on_sqlite, export):
    made = export(on_sqlite.failed(3))
    assert made.misses == []
    assert made.case["mocks"]["charge"]["error"]["code"] == "http_status"
    assert made.case["expect"]["dead_letters"] == [{"step": "charge", "code": "http_status"}]
    assert made.case["expect"]["published"] == []


def test_an_answer_has_its_status_and_headers(on_sqlite, export):
    executions = on_sqlite.done(3)
    executions.details["charge"] = [{"status": 201, "headers": {"x-id": "7"}}]
    mock = export(executions).case["mocks"]["charge"]
    assert (mock["status"], mock["headers"]) == (201, {"x-id": "7"})


def test_every_digit_of_the_data_is_kept(on_sqlite, export):
    executions = on_sqlite.done(3)
    executions.events.columns["raw"] = [b'{"n":3,"total":3.10,"shop":"shop-1"}']
    event = export(executions).case["event"]
    assert event["raw"] == '{"n":3,"total":3.10,"shop":"shop-1"}'
    assert "data" not in event


def test_a_rows_change_keeps_what_was_before(on_sqlite, export):
    executions = on_sqlite.done(3)
    data = executions.events.column("data")[0]
    executions.events.columns["change"] = [Change("UPDATE", {"n": 2}, data)]
    event = export(executions).case["event"]
    assert (event["operation"], event["before"], event["after"]) == ("UPDATE", {"n": 2}, data)


def test_a_flow_that_does_something_else_by_now_is_told(on_sqlite, export, tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(FLOW.replace("(.data.total > 0)", "(.data.total > 3)"))
    made = export(on_sqlite.done(3), load_flow([path], {}))
    assert made.case["expect"]["steps"]["check"] == {"output": {"ok": True}}
    assert next(miss.path[:3] for miss in made.misses) == ("expect", "steps", "check")


def test_no_secret_of_the_flow_is_in_a_case(on_sqlite, export, tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(FLOW.replace("method: POST", 'method: POST, headers: {auth: "${TOKEN}"}'))
    executions = on_sqlite.done(3)
    executions.outputs["charge"] = [{"said": "hunter2-hunter2"}]
    made = export(executions, load_flow([path], {"TOKEN": "hunter2-hunter2"}))
    assert "hunter2" not in str(made.case)


def test_what_no_case_can_show_is_refused(on_sqlite, export):
    skipped = on_sqlite.batch(3)
    skipped.end(0, Ended("skipped"))
    skipped.duplicates[0] = Duplicate("0199f2a1-0000-7000-8000-000000000000", None)
    with pytest.raises(FlowFileError, match="duplicate of 0199f2a1") as caught:
        export(skipped)
    assert caught.value.code == "export_not_possible"
    binary = on_sqlite.done(4)
    binary.events.columns["raw"] = [b"\xff\x00"]
    binary.outputs["charge"] = [UNSET]
    binary.end(0, Ended("failed", None, PermanentError("no JSON.", code="data_not_json")))
    with pytest.raises(FlowFileError, match="not text"):
        export(binary)
