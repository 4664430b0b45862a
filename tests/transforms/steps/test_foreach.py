"""`step.foreach`: a pass of its steps for each item, many events' items at once."""

from __future__ import annotations

import pytest

from tests.transforms.steps.inside import Steps, foreach, jq, step


@pytest.fixture
def steps(tmp_path):
    made = []

    def make(*listed, **more):
        made.append(Steps(tmp_path, list(listed), **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def item_lists(*lists):
    return [{"id": number, "items": items} for number, items in enumerate(lists)]


def test_each_item_runs_the_steps_and_the_results_stand_in_the_order_of_the_items(
    steps, executions
):
    run = steps(
        jq("rate", ".data.rate"),
        foreach(
            jq("net", ".item * 2"),
            jq("gross", "{n: .index, net: .steps.net.output, rate: .steps.rate.output, id: .id}"),
        ),
        jq("after", ".steps.lines.output.count"),
    )
    found = run.run(
        executions(
            {"id": 7, "rate": 3, "items": [10, 20]},
            {"id": 8, "rate": 4, "items": []},
            {"id": 9, "rate": 5, "items": [30]},
        )
    )
    assert found.outputs["lines"] == [
        {
            "results": [
                {"n": 0, "net": 20, "rate": 3, "id": 7},
                {"n": 1, "net": 40, "rate": 3, "id": 7},
            ],
            "count": 2,
        },
        {"results": [], "count": 0},
        {"results": [{"n": 0, "net": 60, "rate": 5, "id": 9}], "count": 1},
    ]
    assert found.outputs["after"] == [2, 0, 1]
    assert list(found.outputs) == ["rate", "lines", "after"]


def test_a_step_of_the_loop_hides_an_outer_one_of_its_name_before_it_has_run_too(steps, executions):
    run = steps(
        jq("net", '"outer"'),
        foreach(
            step("look", "set", {"values": {"net": "{{ .steps.net.output }}"}}),
            jq("net", '"inner"', **{"if": ".item == 1"}),
            step(
                "see",
                "set",
                {
                    "values": {
                        "look": "{{ .steps.look.output.net }}",
                        "net": "{{ .steps.net.output }}",
                    }
                },
            ),
        ),
    )
    found = run.run(executions({"items": [1, 2]}))
    assert found.outputs["lines"][0]["results"] == [
        {"look": None, "net": "inner"},
        {"look": None, "net": None},
    ]
    assert found.outputs["net"] == ["outer"]
