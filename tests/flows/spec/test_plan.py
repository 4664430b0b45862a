"""The plan that `run`, `explain` and `validate` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.plan import FlowErrors, load_flow

FLOW = """
    name: shop
    modules:
      - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topic: t}}
      - {name: out, type: sink.kafka, config: {brokers: "127.0.0.1:9092", topic: o}}
      - {name: console, type: sink.stdout}
      - name: notify
        type: step.http_call
        config: {url: "http://127.0.0.1/{{ .data.id }}", method: POST, timeout: 5s}
    schemas:
      order.changed: {version: "1.0", type: cloudevents, data_schema: {type: object, required: [id]}}
    pipelines:
      p:
        trigger:
          type: event
          source: jobs
          schema: order.changed@1.0
          event_type: "order.*"
          when: .data.total > 0
        tenant: .data.tenant
        key: .data.id
        partition_by: .data.region
        on_invalid: skip
        dead_letter: {enabled: false, retention: 1h}
        steps:
          - name: tell
            use: notify
            if: .data.vip
            skip_if: .data.quiet
            on_error: skip
            config: {method: PUT}
          - {name: publish, type: step.publish, config: {topic: orders}}
      by-hand:
        steps: [{name: say, type: step.log, config: {message: hello}}]
    history: {record: sampled(0.25), retention: 1d}
"""


def test_a_plan_holds_what_the_flow_says(load, tmp_path):
    plan = load(FLOW)
    assert (plan.name, plan.folder, plan.log.level) == ("shop", tmp_path, "info")
    assert (plan.history.record, plan.history.fraction) == ("sampled", 0.25)
    assert (plan.history.retention, plan.history.max_size) == (86400.0, 10_000_000_000)
    assert [sink.name for sink in plan.sinks] == ["out", "console"]
    (pipeline,) = plan.source("jobs").pipelines
    assert pipeline is plan.pipeline("p")
    assert (pipeline.schema, pipeline.event_type) == ("order.changed@1.0", "order.*")
    assert (pipeline.when, pipeline.tenant, pipeline.key) == (
        ".data.total > 0",
        ".data.tenant",
        ".data.id",
    )
    assert pipeline.partition_by == ".data.region"
    assert (pipeline.on_invalid, pipeline.dead_letter.enabled) == ("skip", False)
    assert pipeline.dead_letter.retention == 3600.0
    assert plan.pipeline("by-hand").module is None


def test_a_step_that_uses_a_module_has_its_config_with_its_own_on_top(load):
    step = load(FLOW).pipeline("p").steps[0]
    assert (step.name, step.number, step.type, step.use) == ("tell", 0, "step.http_call", "notify")
    assert (step.if_, step.skip_if, step.on_error) == (".data.vip", ".data.quiet", "skip")
    assert step.settings.method == "PUT"
    assert step.settings.timeout == 5.0
    assert step.settings.url == "http://127.0.0.1/{{ .data.id }}"
    assert step.place.line == 25


def test_a_step_module_may_leave_required_keys_to_its_users(load, refused):
    text = FLOW.replace('url: "http://127.0.0.1/{{ .data.id }}", ', "")
    said = refused(text)
    assert "flow.yaml:30:9: url is missing in config." in said
    assert said.count("url is missing") == 1
    assert load(text.replace("{method: PUT}", '{url: "http://127.0.0.1/"}'))


def test_both_forms_of_a_trigger_mean_the_same(load, refused):
    nested = FLOW.replace(
        "          source: jobs\n          schema: order.changed@1.0\n",
        "          config: {source: jobs, schema: order.changed@1.0}\n",
    )
    assert load(nested).pipeline("p").schema == "order.changed@1.0"
    twice = FLOW.replace(
        "          source: jobs\n", "          source: jobs\n          config: {source: x}\n"
    )
    assert "source is there twice: here and on line 15." in refused(twice)


def test_a_publish_step_gets_the_only_sink_that_carries_its_topic(load, refused):
    assert load(FLOW).pipeline("p").steps[1].settings.sink == "out"
    two = FLOW.replace(
        "{name: console, type: sink.stdout}",
        '{name: second, type: sink.kafka, config: {brokers: "b:1"}}',
    )
    assert "several sinks could take it: out, second." in refused(two)
    named = two.replace("{topic: orders}", "{topic: orders, sink: second}")
    assert load(named).pipeline("p").steps[1].settings.sink == "second"


def test_schemas_resolve_by_name_and_by_version(load):
    schemas = load(FLOW).schemas
    assert schemas.validator("order.changed") is schemas.validator("order.changed@1.0")
    assert schemas.validator("order.changed").kind == "cloudevents"
    assert schemas.validator("order.changed").is_valid({"id": 1})


def test_the_environment_overrides_where_the_state_is(load):
    assert load(FLOW).state_url == "sqlite:///penstock.db"
    url = "postgresql://u:hidden-pw@h/d"
    plan = load(FLOW, PENSTOCK_STATE_URL=url)
    assert plan.state_url == url
    assert "hidden-pw" not in plan.redact(f"opening {url}")
    with pytest.raises(FlowErrors, match=r"PENSTOCK_STATE_URL.*a URL such as sqlite"):
        load(FLOW, PENSTOCK_STATE_URL="mysql://h/d")


def test_a_flow_without_a_name_is_called_like_its_first_file(tmp_path: Path):
    path = tmp_path / "My orders (2).yaml"
    path.write_text("modules: []\n")
    assert load_flow([path], {}).name == "My-orders-2"


def test_no_file_at_all_is_refused():
    with pytest.raises(FlowErrors, match="no flow file is named"):
        load_flow([], {})


def test_numbers_of_any_size_may_stand_in_a_flow(load):
    schema = "{minimum: 123456789012345678901234567890}"
    text = f"    schemas: {{big: {{data_schema: {schema}}}}}\n"
    assert load(text).version_hash != load(text.replace("123", "124")).version_hash
