"""What programs and templates read of steps: a name that cannot be there is told at load."""

from __future__ import annotations

import pytest

FLOW = """\
modules:
  - {name: in, type: source.kafka, config: {brokers: "b:1", topics: [t]}}
  - {name: out, type: sink.stdout}
pipelines:
  p:
    trigger: {source: in}
    steps:
      - {name: look-up, type: step.jq, config: {expression: .data}}
      - {name: say, type: step.log, config: {message: hello}}
      - name: each
        type: step.foreach
        config:
          collection: data.items
          steps:
            - {name: one, type: step.jq, config: {expression: .item}}
            - {name: two, type: step.set, config: {values: {a: "A"}}}
      - name: tier
        type: step.branch
        config:
          field: data.tier
          branches: {gold: [{name: rate, type: step.jq, config: {expression: "1"}}]}
          default: [{name: rate, type: step.jq, config: {expression: "2"}}]
      - {name: last, type: step.set, config: {values: {b: B}}}
      - {name: send, type: step.publish}
"""


@pytest.mark.parametrize(
    ("old", "new", "name", "hint"),
    [
        ("{b: B}", '{b: "{{ .steps.lok-up.output.id }}"}', "lok-up", "Did you mean look-up?"),
        ("{b: B}", '{b: ["x", {c: "n {{ .id }} {{ json .steps.lokup }}"}]}', "lokup", "look-up"),
        ("{b: B}", '{b: "{{ step `look_up` `output` }}"}', "look_up", "look-up"),
        ("{b: B}", '{b: "{{ .steps.rat.output + 1 }}"}', "rat", "Did you mean rate?"),
        ("{b: B}", '{b: "{{ .steps.last.output }}"}', "last", "look-up"),
        ("{b: B}", '{b: "{{ .steps.say.output }}"}', "say", ""),
        ("{b: B}", '{b: "{{ .steps.one.output }}"}', "one", ""),
        ("expression: .data}", "expression: .steps.last.output}", "last", "No step with an output"),
        ("name: last,", 'name: last, if: ".steps.eech.output != null",', "eech", "each"),
        ("name: last,", 'name: last, skip_if: ".steps.send.output",', "send", ""),
        ("expression: .item}", 'expression: "{a: .steps.two.output}"}', "two", "look-up"),
        ('{a: "A"}', '{a: "{{ .steps.tier.output }}"}', "tier", "one"),
        ("expression: .item}", 'expression: ". as $c | .steps.luk.output"}', "luk", ""),
    ],
)
def test_a_step_that_cannot_have_an_output_here_is_named_with_its_place(
    refused, old, new, name, hint
):
    assert old in FLOW
    text = FLOW.replace(old, new, 1)
    said = refused(text)
    assert f"reads steps.{name}, and no step {name} with an output comes before it." in said
    assert hint in said
    before, row = text[: text.index(new)], text[: text.index(new)].count("\n")
    within = text.index(name, len(before) + new.index("steps" if "steps" in new else name))
    column = within - text.rindex("\n", 0, within)
    assert said.startswith(f"flow.yaml:{row + 1}:{column}: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{b: B}", '{b: "{{ .steps.look-up.output.id }} {{ index .steps `each` `output` }}"}'),
        ("{b: B}", '{b: "{{ .steps.rate.output + 1 }}"}'),
        ("{b: B}", '{b: "{{ .steps | keys }}"}'),
        ("{b: B}", '{b: "{{ .steps[.data.which].output }}"}'),
        ("{b: B}", '{b: "{{ .data.steps.whatever }} {{ .trigger.steps.any }}"}'),
        ("{b: B}", '{b: "{{ [.data.items[] | .steps.of_the_item] }}"}'),
        ('{a: "A"}', '{a: "{{ .steps.one.output }} {{ .steps.look-up.output }}"}'),
        ("name: last,", 'name: last, if: ".steps.each.output.count > 1",'),
        ('expression: "2"}', 'expression: ".steps.each.output"}'),
    ],
)
def test_what_may_be_there_is_fine(load, old, new):
    assert old in FLOW
    assert load(FLOW.replace(old, new, 1))
