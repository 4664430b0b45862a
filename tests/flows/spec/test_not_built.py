"""What a release reads, checks and does not execute is named, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors import registry
from connectors.registry import connector_type
from flows.plan import not_built

FLOW = """
    modules:
      - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topic: t}}
      - {name: out, type: sink.stdout}
    pipelines:
      p:
        trigger: {source: jobs, event_type: "a.*", when: ".data.x > 1"}
        tenant: .data.tenant
        key: .data.id
        partition_by: .data.id
        on_invalid: skip
        steps:
          - name: say
            type: step.log
            on_error: skip
            if: .data.x
            skip_if: .data.y
            config: {message: hello}
          - {name: publish, type: step.publish}
    history: {record: sampled(0.1), retention: 1d, max_size: 1GB}
    log: {level: debug, format: json}
    state: {url: "sqlite:///elsewhere.db"}
"""


def found(plan) -> list[str]:
    return [f"{p.line}: {p.message.removesuffix(' is not built yet.')}" for p in not_built(plan)]


def test_a_flow_of_what_is_built_is_not_refused(load):
    assert found(load(FLOW)) == []


def test_defaults_may_be_written_down(load):
    text = FLOW.replace(
        "        on_invalid: skip\n",
        "        order: key\n        delivery: at_least_once\n        saga: {enabled: false}\n"
        "        dead_letter: {enabled: true, retention: 7d, replayable: false}\n",
    ).replace("max_size: 1GB", "redact: []")
    assert found(load(text + "    alerts: []\n")) == []


@pytest.mark.parametrize("of_step", [True, False])
def test_a_pipeline_that_is_spread_over_processes_can_not_hold_back_a_partition(load, of_step):
    line = "on_error: skip" if of_step else "on_invalid: skip"
    text = FLOW.replace(line, "retry: {max_attempts: 2}")
    assert found(load(text)) == []
    text = text.replace("        key: .data.id\n", "        order: partition\n")
    assert found(load(text)) == ["8: partition_by with order: partition"]


def test_a_pipeline_that_is_spread_over_processes_can_not_have_a_saga_yet(load):
    text = FLOW.replace("on_invalid: skip", "saga: {enabled: true}")
    assert found(load(text)) == ["9: partition_by with saga"]


def test_a_pipeline_that_is_spread_over_processes_may_wait_for_keys(load):
    text = FLOW.replace("on_invalid: skip", "idempotency: {key_template: a}")
    assert found(load(text)) == []
    text = text.replace("        key: .data.id\n", "        order: partition\n")
    assert found(load(text)) == ["8: partition_by with order: partition"]


def test_a_setting_of_a_module_or_of_the_flow_that_is_not_built_is_named(load):
    text = FLOW.replace("max_size: 1GB", "redact: [.data.card]")
    text += "    scale: {}\n    isolation: {}\n"
    assert found(load(text)) == [
        "22: scale",
        "23: isolation",
    ]


def test_an_archive_is_of_a_module_that_a_pipeline_reads_from(load):
    kept = FLOW.replace("topic: t}}", "topic: t}, archive: {retention: 1d, max_size: 1GB}}")
    assert found(load(kept)) == []
    archive = load(kept).source("jobs").archive
    assert (archive.retention, archive.max_size) == (86400.0, 10**9)
    unread = kept.replace('trigger: {source: jobs, event_type: "a.*", when: ".data.x > 1"}', "")
    assert found(load(unread))[0] == "2: archive of a module that no pipeline reads from"


def test_a_connector_that_is_not_built_is_named_at_its_type(load, monkeypatch):
    modelled = replace(connector_type("sink.slack"), sink=None)
    monkeypatch.setitem(registry._CONNECTORS._loaded, "sink.slack", modelled)
    text = FLOW.replace(
        "type: sink.stdout", "type: sink.slack, config: {token: xoxb-1, channel: c}"
    )
    (problem,) = not_built(load(text))
    assert (problem.line, problem.column, problem.width) == (3, 23, 10)
    assert problem.excerpt.endswith("config: {token: ******, channel: c}}")


def test_a_pipeline_without_a_trigger_is_started_by_hand_and_not_spread(load):
    plan = load(FLOW.replace('trigger: {source: jobs, event_type: "a.*", when: ".data.x > 1"}', ""))
    assert plan.pipeline("p").module is None
    assert plan.source("jobs").pipelines == ()
    assert [source.name for source in plan.source_modules] == ["jobs"]
    assert found(plan) == ["9: partition_by of a pipeline without a source"]
