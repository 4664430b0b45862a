"""Steps inside steps: their mistakes are found where they are, and what they use is resolved."""

from __future__ import annotations

import pytest

from flows.plan import not_built

FLOW = """
    modules:
      - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topics: [t]}}
      - {name: out, type: sink.file, config: {path: out.jsonl}}
      - {name: pay, type: step.http_call, config: {method: POST, timeout: 5s}}
    pipelines:
      p:
        trigger: {source: jobs}
        steps:
          - name: lines
            type: step.foreach
            config:
              collection: data.items
              steps:
                - {name: shape, type: step.jq, config: {expression: .item}}
                - {name: charge, use: pay, config: {url: "http://x/{{ .item.sku }}"}}
                - {type: step.publish, config: {}}
          - name: tier
            type: step.branch
            config:
              field: data.tier
              branches:
                gold: [{name: rate, type: step.set, config: {values: {p: 1}}}]
              default: [{name: rate, type: step.set, config: {values: {p: 2}}}]
              merge_step: end
          - {name: end, type: step.publish}
"""


def test_the_plan_has_the_inner_steps_with_their_settings(load):
    plan = load(FLOW)
    assert not_built(plan) == []
    pipeline = plan.pipeline("p")
    assert [(step.place_in_pipeline, step.type) for step in pipeline.every_step()] == [
        ("lines", "step.foreach"),
        ("lines.shape", "step.jq"),
        ("lines.charge", "step.http_call"),
        ("lines.step-3", "step.publish"),
        ("tier", "step.branch"),
        ("tier.rate", "step.set"),
        ("tier.rate", "step.set"),
        ("end", "step.publish"),
    ]
    lines, tier, _ = pipeline.steps
    shape, charge, publish = lines.inner["steps"]
    assert (charge.use, charge.settings.method, charge.settings.timeout) == ("pay", "POST", 5.0)
    assert publish.settings.sink == "out"
    assert (shape.number, publish.number) == (0, 2)
    assert set(tier.inner) == {"branches.gold", "default"}
    assert [step.acts for step in pipeline.steps] == [True, False, True]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "type: step.jq, config: {expression: .item}",
            "type: step.jp, config: {expression: .item}",
            "flow.yaml:14:35: there is no type step.jp.",
        ),
        (
            "type: step.jq, config: {expression: .item}",
            "type: step.jq, config: {expresion: .item}",
            "flow.yaml:14:53: unknown key expresion.",
        ),
        ("{expression: .item}", "{expression: '.item | (' }", "flow.yaml:14:"),
        (
            "type: step.jq, config: {expression: .item}",
            "type: step.jq, iff: .x, config: {expression: .item}",
            "flow.yaml:14:44: unknown key iff.",
        ),
        (
            "name: shape, type: step.jq",
            "name: shape, if: '.item |', type: step.jq",
            "flow.yaml:14:",
        ),
        ("use: pay", "use: play", "flow.yaml:15:35: there is no module play."),
        ("use: pay", "use: pay, type: step.jq", "either type, such as step.jq, or use"),
        ("use: pay, config", "config", "either type, such as step.jq, or use"),
        ("name: charge", "name: shape", "flow.yaml:15:22: step shape is there twice"),
        ("default: [{name: rate", "default: [{name: lines", "step lines is there twice"),
        ("merge_step: end", "merge_step: lines", "jumps back to lines"),
        (
            "type: step.publish, config: {}",
            "type: step.publish, config: {sink: oút}",
            "there is no module",
        ),
        (
            "type: step.publish, config: {}",
            "type: step.publish, config: {schema: s}",
            "there is no schema s",
        ),
        (
            "collection: data.items",
            "collection: data.items\n              item_var: data",
            "those are the event's",
        ),
        (
            "collection: data.items",
            "collection: data.items\n              index_key: item",
            "not item_var too",
        ),
        (
            "collection: data.items",
            "collection: data.items\n              concurrency: 0",
            "at least 1",
        ),
        (
            "collection: data.items",
            "collection: data.items\n              error_strategy: none",
            "fail_fast",
        ),
    ],
)
def test_a_mistake_inside_is_found_at_its_place(refused, old, new, said):
    assert old in FLOW
    assert said in refused(FLOW.replace(old, new, 1))


def test_a_jump_inside_a_loop_leads_to_a_step_of_the_loop(refused, load):
    jump = "{name: shape, type: step.conditional, config: {condition: .item.x, then: THERE}}"
    text = FLOW.replace("{name: shape, type: step.jq, config: {expression: .item}}", jump)
    assert load(text.replace("THERE", "charge"))
    assert "there is no step end" in refused(text.replace("THERE", "end"))


def test_steps_of_parallel_have_names(refused):
    text = FLOW.replace("type: step.foreach", "type: step.parallel").replace(
        "collection: data.items\n", "error_strategy: fail_fast\n"
    )
    assert "a name for each step, and number 3 has none" in refused(text)


def test_what_is_not_built_is_named_inside_too(load):
    text = FLOW.replace(
        "type: step.jq, config: {expression: .item}",
        'type: step.db_query, config: {database: shop, query: "SELECT 1"}',
    )
    (problem,) = not_built(load(text))
    assert (problem.line, problem.message) == (
        14,
        "database: the name of a module is not built yet.",
    )


def test_a_secret_inside_is_masked(load):
    text = FLOW.replace(
        'config: {url: "http://x/', 'config: {headers: {X-Key: hush-hush-hush}, url: "http://x/'
    )
    assert load(text).redact("it is hush-hush-hush") == "it is ***"


def test_publishing_to_the_topic_that_is_read_is_a_loop_inside_parallel_too(refused, load):
    text = FLOW.replace(
        "{name: out, type: sink.file, config: {path: out.jsonl}}",
        '{name: out, type: sink.kafka, config: {brokers: "127.0.0.1:9092", topic: o}}',
    )
    again = "{name: again, type: step.publish, config: {topic: t}}"
    inside = text.replace("{type: step.publish, config: {}}", again)
    assert load(inside)  # its items may have none of their own, and then it ends
    parallel = inside.replace("type: step.foreach", "type: step.parallel").replace(
        "collection: data.items\n", "error_strategy: fail_fast\n"
    )
    assert "the topic that pipeline p reads" in refused(parallel)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("collection: data.items", "collection: steps.end.output"),
        ("config: {expression: .item}", "config: {expression: ., input_from: steps.charge.output}"),
        ("type: step.publish, config: {}", "type: step.publish, config: {data_from: steps.rate.output}"),
        ("name: end, type: step.publish", "name: end, type: step.publish, config: {data_from: steps.shape.output}"),
        ("name: end, type: step.publish", "name: end, type: step.publish, config: {data_from: steps.tier.output}"),
    ],
)  # fmt: skip
def test_a_path_to_a_step_that_is_not_before_it_is_refused(refused, old, new):
    assert old in FLOW
    said = refused(FLOW.replace(old, new, 1))
    assert "with an output comes before it" in said
    assert said.startswith("flow.yaml:")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: step.publish, config: {}", "type: step.publish, config: {data_from: steps.shape.output}"),
        ("field: data.tier", "field: steps.lines.output.count"),
        ("name: end, type: step.publish", "name: end, type: step.publish, config: {data_from: steps.rate.output}"),
        ("name: end, type: step.publish", "name: end, type: step.publish, config: {data_from: steps.lines.output}"),
    ],
)  # fmt: skip
def test_a_path_to_a_step_that_is_before_it_is_fine(load, old, new):
    assert old in FLOW
    assert load(FLOW.replace(old, new, 1))


def test_steps_of_parallel_do_not_read_each_other(refused):
    steps = """
    steps:
      - name: both
        type: step.parallel
        config:
          steps:
            - {name: one, type: step.set, config: {values: {a: 1}}}
            - {name: two, type: step.jq, config: {expression: ., input_from: steps.one.output}}
    """
    assert "step two reads steps.one.output" in refused(steps)
