"""Schemas at work: pinned versions side by side, registered at the start, and what does not fit."""

from __future__ import annotations

import json

import pytest

from flows.schemas.registry import SchemaRegistry
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish

pytestmark = pytest.mark.kafka

SCHEMAS = {
    "order@1.0": {
        "data_schema": {
            "type": "object",
            "required": ["n"],
            "additionalProperties": False,
            "properties": {"n": {"type": "integer"}},
        }
    },
    "order": {
        "version": "2.0",
        "data_schema": {
            "type": "object",
            "required": ["n"],
            "additionalProperties": False,
            "properties": {
                "n": {"type": "integer"},
                "card": {"type": "string", "maxLength": 4, "writeOnly": True},
            },
        },
    },
}


@pytest.fixture
def topic(kafka):
    return kafka.create_topic()


@pytest.fixture
def modules(flow, kafka, topic):
    return [
        kafka_source(kafka, topic),
        file_sink(flow.folder),
        file_sink(flow.folder, "second"),
    ]


def numbers(flow, name):
    return [line["data"]["n"] for line in flow.lines(name)]


def registered(flow):
    with flow.store() as store:
        found = SchemaRegistry(store.schemas).all_versions()
        return [(each.version.subject, each.version.version, each.version.label) for each in found]


def test_a_pipeline_that_is_pinned_to_a_version_runs_beside_one_on_the_next(
    flow, kafka, topic, modules
):
    write(kafka, topic, b'{"n":1}', b'{"n":2,"card":"1234"}', b'{"n":3,"card":"planted-card"}')
    flow.write(
        modules=modules,
        schemas=SCHEMAS,
        pipelines={
            "old": pipeline("orders", publish("out"), trigger={"schema": "order@1.0"}),
            "new": pipeline("orders", publish("second"), trigger={"schema": "order"}),
        },
    )
    flow.run()
    assert numbers(flow, "out") == [1]
    assert numbers(flow, "second") == [1, 2]
    assert registered(flow) == [("order", 1, "1.0"), ("order", 2, "2.0")]
    (letter,) = flow.letters("new")
    assert letter.error_code == "schema_invalid"
    assert json.loads(letter.context)["problems"] == [
        '/card: expected at most 4 characters, found "[redacted]"'
    ]
    assert "planted-card" not in letter.error_message + letter.context


def test_a_version_that_breaks_readers_keeps_the_flow_from_starting(flow, kafka, topic, modules):
    pipelines = {"new": pipeline("orders", publish("out"), trigger={"schema": "order"})}
    flow.write(modules=modules, schemas=SCHEMAS, pipelines=pipelines)
    write(kafka, topic, b'{"n":1}')
    flow.run()
    changed = json.loads(json.dumps(SCHEMAS).replace('"integer"', '"string"').replace("2.0", "3.0"))
    del changed["order@1.0"]
    flow.write(modules=modules, schemas=changed, pipelines=pipelines)
    write(kafka, topic, b'{"n":"two"}')
    refused = flow.penstock("run", "--until-caught-up", "--no-server", str(flow.path))
    assert refused.returncode == 2
    assert "TYPE_CHANGED at /properties/n" in refused.stderr
    assert numbers(flow, "out") == [1]
    assert registered(flow)[-1] == ("order", 2, "2.0")


@pytest.mark.parametrize(
    ("on_invalid", "published", "totals"),
    [
        ("dead_letter", [1], (1, 1, 0)),
        ("skip", [1], (2, 0, 0)),
        ("pass", [1, 2], (2, 0, 0)),
    ],
)
def test_what_does_not_fit_is_not_published_unless_asked(
    flow, kafka, topic, modules, *, on_invalid, published, totals
):
    write(kafka, topic, b'{"n":1}', b'{"n":2,"more":true}')
    write_ = publish("out", schema="order", on_invalid=on_invalid)
    flow.write(modules=modules, schemas=SCHEMAS, pipelines={"check": pipeline("orders", write_)})
    flow.run()
    assert numbers(flow, "out") == published
    assert flow.totals() == {"check": totals}
