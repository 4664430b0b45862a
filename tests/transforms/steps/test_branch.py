"""`step.branch`: some events run some steps, whose outputs are the pipeline's."""

from __future__ import annotations

import pytest

from connectors.errors import FlowFileError
from tests.transforms.steps.inside import Kept, foreach, jq, places, step


def branch(branches, name="tier", field="data.tier", **config):
    return step(name, "branch", {"field": field, "branches": branches, **config})


def test_each_event_runs_the_steps_of_its_value_and_later_steps_read_their_outputs(
    steps, executions
):
    run = steps(
        branch(
            {
                "gold": [jq("rate", "0.8"), jq("note", ".steps.rate.output * 10")],
                "silver": [jq("rate", "0.9")],
            },
            default=[jq("rate", "1")],
        ),
        jq("total", ".data.total * .steps.rate.output"),
    )
    found = run.run(
        executions(*[{"tier": tier, "total": 100} for tier in ("gold", "silver", None, "gold")])
    )
    assert found.outputs["total"] == [80, 90, 100, 80]
    assert [view.get("note", {}).get("output") for view in map(found.steps_view, range(4))] == [
        8,
        None,
        None,
        8,
    ]
    assert "tier" not in found.outputs


@pytest.mark.parametrize(
    ("value", "route"), [(True, "true"), (None, "null"), (42, "42"), ("gold", "gold")]
)
def test_values_are_looked_up_as_text(steps, executions, value, route):
    found = steps(branch({route: [jq("taken", "1")]})).run(executions({"tier": value}))
    assert found.outputs["taken"] == [1]


def test_without_a_default_other_events_go_on_untouched(steps, executions):
    run = steps(branch({"gold": [jq("rate", "0.8")]}), jq("after", ".steps.rate.output"))
    found = run.run(executions({"tier": "tin"}, {"tier": "gold"}))
    assert found.outputs["after"] == [None, 0.8]
    assert found.ended == {}


def test_merge_step_is_where_all_go_on_also_those_that_took_no_branch(steps, executions):
    run = steps(
        branch({"gold": [jq("rate", "0.8")]}, merge_step="end"), jq("between", "1"), jq("end", "2")
    )
    found = run.run(executions({"tier": "tin"}, {"tier": "gold"}))
    assert "between" not in found.outputs
    assert found.outputs["end"] == [2, 2]


def test_a_failure_inside_names_both_steps_and_keeps_the_outputs_so_far(steps, executions):
    run = steps(
        branch({"gold": [jq("rate", "0.8"), jq("bad", ".data.total / 2")]}, merge_step="end"),
        jq("end", "1"),
    )
    found = run.run(executions({"tier": "gold", "total": "x"}, {"tier": "gold", "total": 4}))
    assert places(found) == {0: ("tier.bad", "jq_error")}
    assert found.steps_view(0) == {"rate": {"output": 0.8}}
    assert found.steps_view(1)["end"] == {"output": 1}


def test_a_branch_or_a_step_in_it_may_be_skipped_on_error(steps, executions):
    bad = jq("bad", ".data.total / 2")
    whole = branch({"gold": [bad, jq("unseen", "1")]}) | {"on_error": "skip"}
    part = branch({"gold": [bad | {"on_error": "skip", "name": "worse"}, jq("seen", "1")]}, "two")
    found = steps(whole, part, jq("end", "1")).run(executions({"tier": "gold", "total": "x"}))
    assert found.ended == {}
    assert found.passed_over["tier"][0].code == "jq_error"
    assert found.passed_over["worse"][0].code == "jq_error"
    assert list(found.steps_view(0)) == ["seen", "end"]


def test_branches_nest(steps, executions):
    inner = branch(
        {"1": [jq("rate", '"gold one"')]}, "level", "data.level", default=[jq("rate", '"gold"')]
    )
    run = steps(branch({"gold": [inner]}, default=[jq("rate", '"none"')]))
    found = run.run(
        executions({"tier": "gold", "level": 1}, {"tier": "gold"}, {"tier": "tin", "level": 1})
    )
    assert found.outputs["rate"] == ["gold one", "gold", "none"]


def test_what_is_published_after_a_branch_is_what_it_made(steps, executions):
    sink = Kept()
    run = steps(
        branch({"gold": [jq("rate", "8")]}, default=[jq("other", "1")]),
        step("send", "publish"),
        sinks={"out": sink},
    )
    run.run(executions({"tier": "gold"}, {"tier": "tin"}, {"tier": "gold"}))
    assert sink.values == [8, 1, 8]


def test_what_a_step_inside_reads_must_come_before_it(steps):
    with pytest.raises(FlowFileError, match="no step later with an output"):
        steps(
            branch(
                {
                    "gold": [
                        step("two", "jq", {"expression": ".", "input_from": "steps.later.output"})
                    ]
                }
            ),
            jq("later", "1"),
        )


def test_in_a_loop_each_item_takes_its_branch(steps, executions):
    run = steps(
        foreach(
            branch(
                {"a": [jq("kind", '"first"')]}, "route", "item", default=[jq("kind", '"other"')]
            ),
            step("see", "set", {"values": {"kind": "{{ .steps.kind.output }}"}}),
        )
    )
    found = run.run(executions({"items": ["a", "b"]}, {"items": ["a"]}))
    assert [output["results"] for output in found.outputs["lines"]] == [
        [{"kind": "first"}, {"kind": "other"}],
        [{"kind": "first"}],
    ]
