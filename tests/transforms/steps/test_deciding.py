"""conditional, validate and log: steps without an output."""

from __future__ import annotations

import logging

import pytest
import structlog

from connectors.errors import FlowFileError
from schema_registry.validation import Validator

NUMBERS = {"check": 0, "first": 1, "second": 2, "third": 3}


def test_a_route_jumps_to_its_step(make, executions):
    config = {"field": "data.kind", "routes": {"a": "second", "b": "third"}, "default": "first"}
    batch = executions({"kind": "a"}, {"kind": "b"}, {"kind": "c"}, {})
    assert make("conditional", config, numbers=NUMBERS).run(batch, range(4)) == []
    assert batch.jumps == {0: 2, 1: 3, 2: 1, 3: 1}


def test_without_a_route_or_default_the_next_step_runs(make, executions):
    batch = executions({"kind": "a"}, {"kind": "z"})
    step = make("conditional", {"field": "data.kind", "routes": {"a": "second"}}, numbers=NUMBERS)
    step.run(batch, range(2))
    assert batch.jumps == {0: 2}


@pytest.mark.parametrize(
    ("value", "route"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (42, "42"),
        (1.5, "1.5"),
        (2.0, "2"),
        ("", ""),
    ],
)
def test_values_are_compared_as_text(make, executions, value, route):
    batch = executions({"kind": value})
    config = {"field": "data.kind", "routes": {route: "third"}}
    make("conditional", config, numbers=NUMBERS).run(batch, range(1))
    assert batch.jumps == {0: 3}


def test_a_condition_has_two_ways(make, executions):
    batch = executions({"n": 1}, {"n": 20}, {})
    config = {"condition": ".data.n > 10", "then": "third", "else": "second"}
    make("conditional", config, numbers=NUMBERS).run(batch, range(3))
    assert batch.jumps == {0: 2, 1: 3, 2: 2}


def test_an_event_whose_field_can_not_be_read_fails_and_does_not_jump(make, executions):
    batch = executions("text", {"kind": "a"})
    config = {"field": "data.kind", "routes": {"a": "second"}, "default": "third"}
    make("conditional", config, numbers=NUMBERS).run(batch, range(2))
    assert set(batch.failures) == {0}
    assert batch.jumps == {1: 2}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"field": "a"},
        {"field": "a", "routes": {"x": "first"}, "condition": "."},
        {"condition": "."},
        {"condition": ".", "then": "first", "default": "first"},
        {"field": "a", "routes": {"x": "first"}, "then": "first"},
    ],
)
def test_half_a_conditional_is_refused(make, config):
    with pytest.raises(ValueError, match="Value error"):
        make("conditional", config, numbers=NUMBERS)


def test_what_is_required_must_be_there_and_not_null(make, executions):
    batch = executions({"a": {"b": 0}}, {"a": {"b": None}}, {"a": 3}, "text", None)
    assert make("validate", {"required": ["a.b"]}).run(batch, range(5)) == []
    assert set(batch.failures) == {1, 2, 3, 4}
    error = batch.failures[1]
    assert error.code == "validation_failed"
    assert error.context["problems"] == ["a.b: expected a value, found none"]


def test_data_must_fit_an_inline_schema(make, executions):
    schema = {"type": "object", "properties": {"n": {"minimum": 1}}, "required": ["n", "m"]}
    batch = executions({"n": 1, "m": 1}, {"n": 0})
    make("validate", {"schema": schema}).run(batch, range(2))
    assert set(batch.failures) == {1}
    assert len(batch.failures[1].context["problems"]) == 2


def test_a_declared_schema_is_used_by_its_name(make, executions):
    asked = []

    def validator(name):
        asked.append(name)
        return Validator({"type": "string"})

    batch = executions("a", 1)
    make("validate", {"schema": "text@2"}, validator=validator).run(batch, range(2))
    assert asked == ["text@2"]
    assert set(batch.failures) == {1}


def test_something_else_than_the_triggers_data_may_be_checked(make, executions):
    batch = executions({}, {}, outputs={"one": [{"x": 1}, {}]})
    make("validate", {"source": "steps.one.output", "required": ["x"]}).run(batch, range(2))
    assert set(batch.failures) == {1}
    assert "steps.one.output" in batch.failures[1].message


def test_a_bad_schema_and_nothing_to_check_are_refused_when_the_flow_is_loaded(make):
    with pytest.raises(ValueError, match="not a valid JSON Schema: expected object, array"):
        make("validate", {"schema": {"type": "strnig"}})
    with pytest.raises(ValueError, match="required or schema"):
        make("validate", {})


def test_log_writes_a_line_per_event_with_its_fields(make, executions):
    config = {
        "message": "order {{ .data.id }}: {{ .data.missing }}",
        "level": "warn",
        "fields": {"total": "{{ .data.total }}"},
    }
    batch = executions({"id": 1, "total": 2.5}, {"id": 2})
    with structlog.testing.capture_logs() as lines:
        assert make("log", config, name="say").run(batch, range(2)) == []
    assert [line["event"] for line in lines] == ["order 1: ", "order 2: "]
    first = lines[0]
    assert first["log_level"] == "warning"
    assert (first["flow"], first["pipeline"], first["step"]) == ("shop", "orders", "say")
    assert first["total"] == 2.5
    assert first["execution"] == batch.execution_id(0)


def test_a_level_that_is_left_out_costs_no_rendering(make, executions):
    step = make("log", {"message": "{{ .data.a.b }}", "level": "debug"})
    batch = executions({"a": "not an object"})
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        step.run(batch, range(1))
    finally:
        structlog.reset_defaults()
    assert not batch.failures


def test_a_line_that_can_not_be_made_fails_its_event_alone(make, executions):
    batch = executions({"a": "text"}, {"a": {"b": 1}})
    with structlog.testing.capture_logs() as lines:
        make("log", {"message": "{{ .data.a.b }}"}).run(batch, range(2))
    assert [line["event"] for line in lines] == ["1"]
    assert set(batch.failures) == {0}


def test_a_field_that_every_line_has_is_refused(make):
    with pytest.raises(ValueError, match="other names than event, step"):
        make("log", {"message": "m", "fields": {"step": 1, "event": 2}})


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("publish", {"sink": "out", "data_from": "steps.onne.output"}),
        ("publish", {"sink": "out", "data_from": "steps.onne.output.part"}),
        ("python", {"function": "json:dumps", "input_from": "steps.onne.output"}),
        ("jq", {"expression": ".", "input_from": "steps.onne"}),
        ("validate", {"required": ["x"], "source": "steps.onne.output"}),
        ("conditional", {"field": "steps.onne.output", "routes": {"a": "second"}}),
    ],
)
def test_a_path_to_a_step_that_can_not_have_run_is_refused(make, sink, kind, config):
    with pytest.raises(FlowFileError, match="no step onne with an output") as raised:
        make(kind, config, numbers=NUMBERS, sinks={"out": sink}, earlier=["one", "two"])
    assert "one, two" in raised.value.hint
