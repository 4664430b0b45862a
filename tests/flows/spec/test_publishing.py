"""A publish step that is idempotent loads where its key can't outlive what was published."""

from __future__ import annotations

import pytest

FLOW = """
    modules:
      - {name: bus, type: messaging.kafka, config: {brokers: k:9092, topics: [in]}}
      - {name: other, type: source.kafka, config: {brokers: k:9092, topics: [other]}}
      - {name: lines, type: sink.file, config: {path: out.jsonl}}
    pipelines:
      p:
        trigger: {source: bus}
        steps:
          - name: send
            type: step.publish
            config: {sink: bus, topic: out, idempotent: true, idempotency_key: "{{ .data.id }}"}
      q:
        trigger: {source: SOURCE}
        delivery: DELIVERY
        steps:
          - {name: copy, type: step.publish, config: {sink: bus, topic: copy}}
"""


def flow(source="bus", delivery="at_least_once"):
    return FLOW.replace("SOURCE", source).replace("DELIVERY", delivery)


@pytest.mark.parametrize("more", [{}, {"source": "other", "delivery": "exactly_once"}])
def test_to_a_sink_that_keeps_what_it_was_given_it_loads(load, more):
    (step,) = load(flow(**more)).pipeline("p").steps
    assert step.is_idempotent
    assert step.settings.idempotency_key == "{{ .data.id }}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            flow().replace("sink: bus, topic: out", "sink: lines"),
            "after a crash lines undoes what was not settled",
        ),
        (flow(delivery="exactly_once"), "is part of a Kafka transaction"),
    ],
)
def test_where_the_key_would_outlive_the_event_it_is_refused(refused, text, said):
    answer = refused(text)
    assert "flow.yaml:11:" in answer
    assert said in answer


def test_a_key_without_idempotent_is_a_mistake(refused):
    assert "idempotent: true, beside idempotency_key" in refused(
        flow().replace("idempotent: true, ", "")
    )
