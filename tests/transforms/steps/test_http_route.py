"""request_parse and json_response: a request taken apart, an answer put together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from transforms.registry import step_type

REQUEST = {
    "method": "POST",
    "path": "/orders/17",
    "path_params": {"id": "17"},
    "query": {"full": "1"},
    "headers": {"x-request-id": "r-1"},
    "body": {"total": 5, "id": "other"},
}


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("step.json_response", {"body": 1, "body_from": "data"}, "not both"),
        ("step.json_response", {"status": 100}, "greater than or equal to 200"),
        ("step.request_parse", {"params": ["id"]}, "params"),
    ],
)
def test_what_it_could_not_do_is_refused_with_what_is_expected(kind, config, said):
    with pytest.raises(ValidationError, match=said):
        step_type(kind).settings.model_validate(config)


def test_only_what_is_asked_for_is_taken_over(make, executions):
    config = {
        "path_params": ["id", "no"],
        "query_params": ["full"],
        "parse_headers": ["X-Request-ID"],
    }
    batch = executions(REQUEST)
    (found,) = make("request_parse", config).run(batch, [0])
    assert found == {
        "path_params": {"id": "17", "no": None},
        "query": {"full": "1"},
        "headers": {"X-Request-ID": "r-1"},
    }


def test_the_parts_stand_beside_the_output_too(make, executions):
    batch = executions(REQUEST)
    step = make("request_parse", {"path_params": ["id"]})
    batch.outputs["shown"] = step.run(batch, [0])
    (details,) = batch.details.values()
    assert details == [{"path_params": {"id": "17"}}]


def test_a_merged_body_does_not_win_over_the_route(make, executions):
    body = {"path_params": "mine", "total": 5}
    batch = executions({**REQUEST, "body": body})
    config = {"path_params": ["id"], "parse_body": True, "merge_body": True}
    (found,) = make("request_parse", config).run(batch, [0])
    assert found == {"path_params": {"id": "17"}, "total": 5}


@pytest.mark.parametrize(
    ("wanted", "body", "found"),
    [
        ("auto", {"a": 1}, {"a": 1}),
        ("json", '{"a": 1}', {"a": 1}),
        ("form", "a=1&b=2&b=3", {"a": "1", "b": ["2", "3"]}),
        ("text", {"a": 1}, '{"a":1}'),
        ("text", "plain", "plain"),
    ],
)
def test_a_body_is_read_as_the_format_says(make, executions, wanted, body, found):
    batch = executions({**REQUEST, "body": body})
    step = make("request_parse", {"parse_body": True, "format": wanted})
    assert step.run(batch, [0]) == [{"body": found}]


def test_what_is_no_request_or_no_json_fails_alone(make, executions):
    batch = executions({"id": 1}, {**REQUEST, "body": "{"}, {**REQUEST, "body": "1"})
    step = make("request_parse", {"parse_body": True, "format": "json"})
    assert step.run(batch, range(3))[2] == {"body": 1}
    codes = {index: error.code for index, error in batch.failures.items()}
    assert codes == {0: "not_a_request", 1: "request_body_invalid"}


def test_an_answer_is_rendered_and_keeps_the_types_of_values(make, executions):
    config = {
        "status": 201,
        "headers": {"Location": "/orders/{{ .data.id }}"},
        "body": {"id": "{{ .data.id }}", "text": "order {{ .data.id }}"},
    }
    batch = executions({"id": 17})
    assert make("json_response", config).run(batch, [0]) == [
        {
            "status": 201,
            "headers": {"location": "/orders/17"},
            "body": {"id": 17, "text": "order 17"},
        }
    ]


def test_status_and_body_may_come_from_the_context(make, executions):
    batch = executions({"code": 404, "why": ["gone"]}, {"code": "oops", "why": 1})
    step = make("json_response", {"status_from": "data.code", "body_from": "data.why"})
    found = step.run(batch, range(2))
    assert found[0] == {"status": 404, "headers": {}, "body": ["gone"]}
    assert batch.failures[1].code == "answer_status"


def test_a_header_can_not_be_split(make, executions):
    batch = executions({"id": "1\r\nset-cookie: a=b"})
    step = make("json_response", {"headers": {"x-id": "{{ .data.id }}"}})
    step.run(batch, [0])
    assert batch.failures[0].code == "answer_header"
