"""`step.transform`: extract, map, filter and convert, one after another."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from transforms.executions import UNSET
from transforms.registry import step_type


@pytest.fixture
def transform(make, executions):
    """Run operations over events; return outputs and the codes of what failed."""

    def run(operations, *data, outputs=None, **config):
        given = executions(*data, outputs=outputs)
        step = make("transform", {"operations": operations, **config})
        found = step.run(given, range(len(data)))
        return found, {index: error.code for index, error in given.failures.items()}

    return run


def extract(path):
    return {"type": "extract", "field": path}


@pytest.mark.parametrize("how", [extract("data"), {"type": "extract", "config": {"path": "data"}}])
def test_extract_of_the_data_is_the_data(transform, how):
    assert transform([how], {"a": 1}, [2]) == ([{"a": 1}, [2]], {})


def test_extract_goes_into_lists_and_on_from_the_operation_before(transform):
    order = {"items": [{"sku": "a"}, {"sku": "b"}]}
    assert transform([extract("items[-1].sku")], order) == (["b"], {})
    assert transform(
        [
            extract("data"),
            extract("items"),
        ],
        order,
    ) == ([order["items"]], {})


def test_extract_of_what_is_not_there_fails_and_null_goes_on(transform):
    found = transform(
        [extract("customer.id")],
        {"customer": {"id": None}},
        {"customer": {}},
        {},
        {"customer": None},
    )
    assert found[0] == [None, UNSET, UNSET, UNSET]
    assert found[1] == {1: "missing_value", 2: "missing_value", 3: "missing_value"}


def test_extract_into_what_has_no_parts_fails_as_jq_does(transform):
    assert transform([extract("data"), extract("a.b")], {"a": 5}) == ([UNSET], {0: "jq_error"})
    assert transform([extract("items[0]")], {"items": []}) == ([UNSET], {0: "missing_value"})


def test_the_input_may_be_a_steps_output_or_the_whole_context(transform):
    outputs = {"one": [{"a": 1, "b": 2}]}
    keep = {"type": "filter", "fields": ["a"]}
    assert transform([keep], {}, outputs=outputs, input_from="steps.one.output") == ([{"a": 1}], {})
    whole = {"type": "filter", "fields": ["id", "total"]}
    assert transform([whole], {"total": 3}) == ([{"id": "event-0", "total": 3}], {})


def test_map_renames_all_at_once_and_leaves_the_rest(transform):
    swap = {"type": "map", "mappings": {"a": "b", "b": "a", "absent": "x"}}
    assert transform([extract("data"), swap], {"a": 1, "b": 2, "c": 3}) == (
        [{"b": 1, "a": 2, "c": 3}],
        {},
    )


@pytest.mark.parametrize("order", [{"a": 1, "b": 2}, {"b": 2, "a": 1}])
def test_a_key_gives_way_to_one_that_is_renamed_to_it(transform, order):
    rename = {"type": "map", "config": {"mappings": {"a": "b"}}}
    assert transform([extract("data"), rename], order) == ([{"b": 1}], {})


def test_map_and_filter_go_through_lists_of_objects(transform):
    operations = [
        extract("items"),
        {"type": "map", "mappings": {"sku": "article"}},
        {"type": "filter", "config": {"fields": ["article", "absent"]}},
    ]
    assert transform(operations, {"items": [{"sku": "a", "n": 1}, {"n": 2}]}) == (
        [[{"article": "a"}, {}]],
        {},
    )


@pytest.mark.parametrize(
    "operation", [{"type": "map", "mappings": {"a": "b"}}, {"type": "filter", "fields": ["a"]}]
)
@pytest.mark.parametrize("value", [None, 5, "a", [1], [{"a": 1}, None]])
def test_map_and_filter_fail_what_is_no_object(transform, operation, value):
    found = transform([extract("v"), operation], {"v": value}, {"v": {"b": 1}})
    assert found[1] == {0: "transform_unfit"}
    assert found[0][1] in ({"b": 1}, {})


def test_convert_parses_and_writes_json_exactly(transform):
    parse = {"type": "convert", "config": {"from": "string", "to": "json"}}
    write = {"type": "convert", "config": {"from": "json", "to": "string"}}
    number = 12345678901234567890123
    assert transform([extract("t"), parse], {"t": '{"a": [1, null]}'}) == ([{"a": [1, None]}], {})
    assert transform([extract("t"), write], {"t": {"a": "é"}}) == (['{"a":"é"}'], {})
    assert transform([extract("t"), parse, write], {"t": f'{{"n":{number}}}'}) == (
        [f'{{"n":{number}}}'],
        {},
    )
    assert transform([extract("t"), parse], {"t": "{"}, {"t": 5}, {"t": "NaN"})[1] == {
        0: "transform_unfit",
        1: "transform_unfit",
        2: "transform_unfit",
    }


def test_the_event_is_left_as_it_is(transform, executions, make):
    given = executions({"a": 1, "items": [{"b": 1}]})
    step = make(
        "transform", {"operations": [extract("items"), {"type": "map", "mappings": {"b": "c"}}]}
    )
    assert step.run(given, range(1)) == [[{"c": 1}]]
    assert given.events.column("data") == [{"a": 1, "items": [{"b": 1}]}]


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([], "operations"),
        ([{"type": "extract"}], "either field or config.path"),
        ([{"type": "map"}], "either mappings"),
        ([{"type": "map", "mappings": {"a": "c", "b": "c"}}], "c is there twice"),
        ([{"type": "filter"}], "either fields"),
        ([{"type": "reduce"}], "reduce"),
        ([{"type": "convert", "config": {"from": "json", "to": "json"}}], "differs from"),
    ],
)
def test_what_it_could_not_do_is_refused(operations, said):
    with pytest.raises(ValidationError, match=said):
        step_type("step.transform").settings.model_validate({"operations": operations})
