"""The JSON Schema that editors check flow files with as they are typed."""

from __future__ import annotations

from functools import cache

import jsonschema_rs
import pytest

from connectors.registry import connector_types
from flows.spec.json_schema import flow_json_schema
from transforms.registry import step_types

NEWER_THAN_DRAFT_07 = {"$defs", "prefixItems", "dependentRequired", "unevaluatedProperties"}


@cache
def schema():
    return flow_json_schema()


@cache
def validator():
    return jsonschema_rs.Draft7Validator(schema(), validate_formats=True, offline=True)


def keywords(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keywords(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keywords(inner)


def step(**keys):
    return {"pipelines": {"p": {"steps": [{"name": "a", **keys}]}}}


def loop(inner):
    return step(type="step.foreach", config={"collection": "data.items", "steps": [inner]})


def test_it_is_a_draft_07_schema_with_nothing_newer_in_it():
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema_rs.Draft7Validator(
        {"$ref": "http://json-schema.org/draft-07/schema#"}, offline=True
    ).validate(schema())
    assert not NEWER_THAN_DRAFT_07 & set(keywords(schema()))


def test_nothing_stands_beside_a_reference_where_draft_07_would_ignore_it():
    def check(value):
        if isinstance(value, dict):
            assert "$ref" not in value or len(value) == 1, value
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    check(schema())


def test_every_connector_and_step_has_its_config_in_it():
    module = schema()["definitions"]["Module"]
    types = [choice["if"]["properties"]["type"]["const"] for choice in module["allOf"]]
    assert types == sorted([*connector_types(), *step_types()])


def test_every_key_of_the_top_level_is_described():
    for key, found in schema()["properties"].items():
        meant = found.get("$ref", "").rsplit("/", 1)[-1]
        assert (schema()["definitions"][meant] if meant else found).get("description"), key


@pytest.mark.parametrize(
    "flow",
    [
        {"log": {"level": "${LEVEL}"}},
        {"history": {"retention": "1d12h", "max_size": "${SIZE:-10GB}"}},
        step(use="notify", config={"anything": 1}),
        step(type="step.log", config={"message": "hello"}),
        loop({"use": "pay", "if": ".item", "timeout": "1s"}),
        loop({"type": "step.jq", "on_error": "skip", "config": {"expression": "."}}),
        {
            "pipelines": {
                "p": {
                    "trigger": {"type": "event", "config": {"source": "x"}},
                    "steps": [{"name": "a", "use": "b"}],
                }
            }
        },
        {"steps": [{"name": "a", "use": "b"}]},
        {"modules": [{"name": "a", "type": "step.http_call", "config": {"method": "POST"}}]},
        {"modules": [{"name": "a", "type": "sink.slack", "config": {"webhookURL": "${URL}"}}]},
    ],
)
def test_what_loads_is_accepted(flow):
    assert [error.message for error in validator().iter_errors(flow)] == []


@pytest.mark.parametrize(
    "flow",
    [
        {"nmae": "x"},
        {"log": {"level": "loud"}},
        {"history": {"retention": "30 days"}},
        {"modules": [{"name": "a", "type": "source.aws_sqs"}]},
        {"modules": [{"name": "a", "type": "source.aws_sqs", "config": {"queue_ur": "x"}}]},
        {"modules": [{"name": "a", "type": "source.nothing"}]},
        step(type="step.log", config={"mesage": "x"}),
        step(type="step.log", use="b", config={"message": "x"}),
        step(type="sink.stdout"),
        step(),
        loop({"type": "step.jq", "config": {"expresion": "."}}),
        loop({"type": "step.jq", "use": "pay", "config": {"expression": "."}}),
        {"pipelines": {"p": {"steps": []}}},
    ],
)
def test_what_does_not_load_is_refused(flow):
    assert not validator().is_valid(flow)
