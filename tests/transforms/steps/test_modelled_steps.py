"""Steps that are modelled and not built yet: what they take, what they refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from transforms.registry import step_type

GOOD = [
    ("step.request_parse", {"path_params": ["id"], "parse_body": True}),
    ("step.json_response", {"status": 404, "body": {"error": "{{ .data.why }}"}}),
    ("step.json_response", {"status_from": "steps.a.status", "body_from": "steps.a.output"}),
]

BAD = [
    ("step.json_response", {"body": 1, "body_from": "data"}, "not both"),
    ("step.request_parse", {"params": ["id"]}, "params"),
]


@pytest.mark.parametrize(("kind", "config"), GOOD)
def test_what_a_modelled_step_takes_is_taken_and_it_says_that_it_is_not_built(kind, config):
    found = step_type(kind)

    assert found.settings.model_validate(config)
    assert found.make is None
    assert found.summary


@pytest.mark.parametrize(("kind", "config", "said"), BAD)
def test_what_it_could_not_do_is_refused_with_what_is_expected(kind, config, said):
    with pytest.raises(ValidationError, match=said):
        step_type(kind).settings.model_validate(config)
