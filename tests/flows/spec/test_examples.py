"""The flow files that Penstock promises to understand, with a companion for what they leave out."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from flows.plan import FlowErrors, load_flow, not_built
from flows.spec.json_schema import flow_json_schema
from flows.spec.nodes import plain
from flows.spec.problems import Problems
from flows.spec.source import read_documents

EXAMPLES = Path(__file__).parent / "examples"

FLOWS = {
    "alerts": ["process-order", "companion"],
    "cdc-enrich": ["companion"],
    "cdc-source": ["companion"],
    "circuit-breaker": ["companion"],
    "dead-letters": ["companion"],
    "idempotency": ["companion"],
    "isolation": ["companion"],
    "saga-order": ["companion"],
    "saga-travel": ["companion"],
    "scale": ["companion"],
    "schemas": ["order-events", "companion"],
    "transforms": ["companion"],
}


def load_example(name: str, environ):
    return load_flow([EXAMPLES / f"{part}.yaml" for part in (name, *FLOWS[name])], environ)


@pytest.mark.parametrize("name", FLOWS)
def test_an_example_loads_with_its_companion(name, environ):
    assert load_example(name, environ).name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http-routes", "this is a list, not a flow file."),
        ("autoscaler", "this is a Kubernetes manifest (HorizontalPodAutoscaler), not a flow file."),
    ],
)
def test_an_example_that_is_no_flow_is_called_so(name, words):
    with pytest.raises(FlowErrors, match="not a flow file") as caught:
        load_flow([EXAMPLES / f"{name}.yaml"])
    assert [problem.message for problem in caught.value.problems] == [words]


def test_every_example_is_tried():
    tried = {*FLOWS, *(part for parts in FLOWS.values() for part in parts)}
    assert {path.stem for path in EXAMPLES.iterdir()} == tried | {"http-routes", "autoscaler"}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("cdc-enrich", {}),
        ("cdc-source", {}),
        ("alerts", {"alerts": 1}),
        ("scale", {"scale": 1}),
        ("isolation", {"isolation": 1}),
        ("circuit-breaker", {}),
        ("dead-letters", {}),
        ("idempotency", {}),
        ("schemas", {}),
        ("transforms", {}),
    ],
)
def test_what_an_example_uses_and_is_not_built_is_named_with_its_line(name, lines, environ):
    problems = not_built(load_example(name, environ))
    own = {
        problem.message.removesuffix(" is not built yet."): problem.line
        for problem in problems
        if Path(problem.file).stem == name
    }
    assert own == lines
    assert {problem.code for problem in problems} <= {"not_built"}


def test_an_examples_saga_is_undone_last_step_first(environ):
    plan = load_example("saga-travel", environ).pipeline("book-travel")
    assert [step.name for step in plan.compensations()] == [
        "book-car.compensate",
        "book-hotel.compensate",
        "book-flight.compensate",
    ]


def test_a_publish_step_without_a_sink_goes_to_the_only_one_that_carries_topics(environ):
    plan = load_example("cdc-enrich", environ)
    publish = plan.pipeline("order-change-processor").steps[-1]
    assert (publish.settings.sink, publish.settings.topic) == ("bus", "enriched-orders")
    assert plan.pipeline("order-change-processor").schema == "order.changed"
    assert plan.schemas.validator("enriched.order@2.1").is_valid({"order_id": 1})


@pytest.mark.parametrize("name", [*FLOWS, "companion", "order-events", "process-order"])
def test_an_example_fits_the_json_schema_for_editors(name):
    validator = jsonschema_rs.Draft7Validator(flow_json_schema(), offline=True)
    for document in read_documents(EXAMPLES / f"{name}.yaml", Problems()):
        assert [error.message for error in validator.iter_errors(plain(document))] == []
