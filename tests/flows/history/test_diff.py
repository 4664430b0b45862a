"""Two executions side by side."""

from __future__ import annotations

import json

import orjson
import pytest

from flows.history.diff import diff_document, differences
from flows.history.finding import find_execution


def _diff(recording, left, right):
    found = []
    for made in (left, right):
        recording.settle(made)
        found.append(find_execution(recording.store, "shop", recording.ids(made)[0]))
    return json.loads(orjson.dumps(diff_document(*found)))


def test_executions_that_did_the_same_are_identical(on_sqlite):
    other = on_sqlite.done(3, at=5000.0)
    shown = _diff(on_sqlite, on_sqlite.done(3), other)
    assert shown["summary"]["steps_different"] == 0
    assert shown["summary"]["steps_identical"] == 4
    assert shown["summary"]["event_identical"]
    assert {each["status"] for each in shown["step_diffs"]} == {"identical"}


def test_an_output_that_differs_is_told_path_by_path(on_sqlite):
    other = on_sqlite.done(3, at=5000.0)
    other.outputs["charge"] = [{"charged": 4, "reason": "late"}]
    shown = _diff(on_sqlite, on_sqlite.done(3), other)
    charge = next(each for each in shown["step_diffs"] if each["step"] == "charge")
    assert charge["status"] == "output_different"
    assert charge["left_output"] == {"charged": 3}
    assert charge["diff"] == {
        "charged": {"left": 3, "right": 4},
        "reason": {"left": None, "right": "late"},
    }
    assert charge["left_duration_ms"] == 250.0
    assert (shown["summary"]["steps_different"], shown["summary"]["steps_identical"]) == (1, 3)


def test_a_step_that_one_side_did_not_run_says_why(on_sqlite):
    shown = _diff(on_sqlite, on_sqlite.done(3), on_sqlite.done(0, at=5000.0))
    by_step = {each["step"]: each for each in shown["step_diffs"]}
    assert by_step["charge"]["status"] == "right_skipped"
    assert by_step["charge"]["reason"] == "right: conditional routing from route"
    assert by_step["check"]["diff"] == {"ok": {"left": True, "right": False}}
    assert shown["event_diff"]["n"] == {"left": 3, "right": 0}


def test_a_failure_on_one_side_is_told(on_sqlite):
    shown = _diff(on_sqlite, on_sqlite.failed(3), on_sqlite.done(3, at=5000.0))
    statuses = {each["step"]: each["status"] for each in shown["step_diffs"]}
    assert statuses == {
        "check": "identical",
        "route": "identical",
        "charge": "left_failed",
        "write": "left_not_reached",
    }
    assert shown["summary"]["left_status"] == "failed"


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}, 4]}, {"a[1].b": (2, 3), "a[2]": (None, 4)}),
        (1, 1.0, {}),
        (True, 1, {".": (True, 1)}),
        (None, {"a": 1}, {".": (None, {"a": 1})}),
        ([], {}, {".": ([], {})}),
    ],
)
def test_differences_have_paths(left, right, found):
    assert differences(left, right) == found
