"""set and jq: steps that make an output of what is there."""

from __future__ import annotations

import pytest

from transforms.executions import UNSET


def test_set_puts_values_together_and_keeps_their_types(make, executions):
    values = {
        "id": "{{ .data.id }}",
        "label": "order {{ .data.id }}",
        "list": ["{{ .data.tags }}", 1, True, None],
        "constant": {"deep": "as it is"},
    }
    step = make("set", {"values": values})
    assert step.run(executions({"id": 7, "tags": ["a"]}, {"id": "x"}), range(2)) == [
        {
            "id": 7,
            "label": "order 7",
            "list": [["a"], 1, True, None],
            "constant": {"deep": "as it is"},
        },
        {
            "id": "x",
            "label": "order x",
            "list": [None, 1, True, None],
            "constant": {"deep": "as it is"},
        },
    ]


def test_set_fails_the_event_whose_expression_fails(make, executions):
    batch = executions({"a": {"b": 1}}, {"a": "text"}, {"a": None})
    outputs = make("set", {"values": {"b": "{{ .data.a.b }}"}}).run(batch, range(3))
    assert outputs == [{"b": 1}, UNSET, {"b": None}]
    assert set(batch.failures) == {1}


def test_set_needs_something_to_set(make):
    with pytest.raises(ValueError, match="at least 1"):
        make("set", {"values": {}})


def test_jq_makes_an_output_of_the_context(make, executions):
    batch = executions({"id": 1, "n": 2}, outputs={"who": [{"name": "Ada"}]})
    program = "{id: .trigger.data.id, who: .steps.who.output.name, more: (.data.n + 1)}"
    assert make("jq", {"expression": program}).run(batch, range(1)) == [
        {"id": 1, "who": "Ada", "more": 3}
    ]


@pytest.mark.parametrize(
    ("program", "output"),
    [
        (".data.items", [1, 2]),
        (".data.items[]", [1, 2]),
        (".data.items[0]", 1),
        ("empty", None),
        (".data.items | map(. * 2)", [2, 4]),
    ],
)
def test_several_outputs_of_jq_are_a_list_and_none_is_null(make, executions, program, output):
    assert make("jq", {"expression": program}).run(executions({"items": [1, 2]}), range(1)) == [
        output
    ]


@pytest.mark.parametrize(
    ("path", "program", "output"),
    [
        ("steps.one.output", ".n", 5),
        ("steps.one.output", "[.list[] | . + 1] # and a comment", [2, 3]),
        ("steps.one.output.list", "length", 2),
        ("steps.one.output.list", ".[1]", 2),
        ("steps.one.output.list[1]", ".", 2),
        ('steps.one.output["od\\"d"]', ".", "yes"),
        ("steps.one.output", "def f: .n; f + f", 10),
    ],
)
def test_jq_may_work_on_a_part(make, executions, path, program, output):
    batch = executions({}, outputs={"one": [{"n": 5, "list": [1, 2], 'od"d': "yes"}]})
    step = make("jq", {"expression": program, "input_from": path})
    assert step.run(batch, range(1)) == [output]


def test_an_event_on_which_jq_fails_fails_alone(make, executions):
    batch = executions({"n": 1}, {"n": "x"}, {"n": 3})
    outputs = make("jq", {"expression": ".data.n + 1"}).run(batch, range(3))
    assert outputs == [2, UNSET, 4]
    assert batch.failures[1].code == "jq_error"
    assert outputs[1] is UNSET


def test_only_the_indexes_asked_for_are_shaped(make, executions):
    batch = executions({"n": 1}, {"n": 2}, {"n": 3})
    assert make("jq", {"expression": ".data.n"}).run(batch, [2, 0][::-1]) == [1, 3]
    assert make("set", {"values": {"n": "{{ .data.n }}"}}).run(batch, [1]) == [{"n": 2}]
