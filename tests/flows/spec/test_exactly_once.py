"""What `delivery: exactly_once` can't hold is refused with its line; what it can, loads."""

from __future__ import annotations

import pytest

from flows.plan import not_built

FLOW = """
    modules:
      - {name: bus, type: messaging.kafka, config: {brokers: [k:9092, l:9092], topics: [in]}}
      - {name: same, type: sink.kafka, config: {brokers: "l:9092,k:9092", topic: same}}
      - {name: other, type: sink.kafka, config: {brokers: m:9092, topic: other}}
      - {name: lines, type: sink.file, config: {path: out.jsonl}}
      - {name: rows, type: source.postgres_cdc, config: {connection: "postgresql://x/y", slot_name: s, tables: [{table: t}]}}
    pipelines:
      p:
        trigger: {source: bus}
        delivery: exactly_once
        steps:
          - {name: shape, type: step.jq, config: {expression: .data}}
          - {name: send, type: step.publish, config: {sink: bus, topic: out}}
"""


def test_from_kafka_to_the_same_cluster_it_can_be_run(load):
    for text in (FLOW, FLOW.replace("sink: bus, topic: out", "sink: same")):
        plan = load(text)
        assert not_built(plan) == []
        assert plan.pipeline("p").delivery == "exactly_once"
    assert plan.source("bus").transactional_sink == "same"


def test_a_source_without_exactly_once_has_no_transactions(load):
    plan = load(FLOW.replace("exactly_once", "at_least_once"))
    assert plan.source("bus").transactional_sink is None


@pytest.mark.parametrize(
    ("changed", "to", "place", "said"),
    [
        (
            "trigger: {source: bus}",
            "trigger: {source: rows}",
            "10:15",
            "rows is a source.postgres_cdc",
        ),
        ("        trigger: {source: bus}\n", "", "9:15", "this pipeline has none"),
        ("sink: bus, topic: out", "sink: lines", "13:57", "lines, a sink.file: that can't be part"),
        ("sink: bus, topic: out", "sink: other", "13:57", "whose brokers are not those of the"),
        (
            "- {name: send, type: step.publish, config: {sink: bus, topic: out}}",
            "- {name: say, type: step.log, config: {message: hello}}",
            "10:15",
            "this one publishes nothing",
        ),
        (
            "        delivery: exactly_once\n",
            "        delivery: exactly_once\n        partition_by: .data.id\n",
            "10:15",
            "can't be together with partition_by (line 11)",
        ),
        (
            "        delivery: exactly_once\n",
            "        delivery: exactly_once\n        saga: {enabled: true}\n",
            "11:21",
            "which an aborted transaction can't take back",
        ),
    ],
)
def test_what_a_transaction_can_not_hold_is_refused_where_it_stands(
    refused, changed, to, place, said
):
    assert changed in FLOW
    message = refused(FLOW.replace(changed, to))
    assert f"flow.yaml:{place}: " in message
    assert said in message


def test_two_producers_are_two_transactions(refused):
    second = "          - {name: also, type: step.publish, config: {sink: same}}\n"
    message = refused(FLOW + second)
    assert "flow.yaml:14:" in message
    assert "the transactions of bus go through bus" in message
    assert "Publish to bus, with topic: on the step" in message


def test_a_publish_step_inside_a_step_is_looked_at_too(refused):
    text = FLOW.replace(
        "- {name: send, type: step.publish, config: {sink: bus, topic: out}}",
        "- {name: each, type: step.foreach, config: {items: .data, steps: ["
        "{name: send, type: step.publish, config: {sink: lines}}]}}",
    )
    assert "send publishes to lines, a sink.file" in refused(text)


def test_a_neighbour_that_is_spread_by_key_is_refused_too(refused):
    text = (
        FLOW
        + """      q:
        trigger: {source: bus}
        partition_by: .data.id
        steps: [{name: write, type: step.publish, config: {sink: lines}}]
"""
    )
    assert "steps of q would run in other processes than the transaction" in refused(text)


def test_a_neighbour_may_publish_elsewhere_at_least_once(load):
    text = (
        FLOW
        + """      q:
        trigger: {source: bus}
        steps: [{name: write, type: step.publish, config: {sink: lines}}]
"""
    )
    assert not_built(load(text)) == []
