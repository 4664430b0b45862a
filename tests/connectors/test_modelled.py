"""Connectors that are modelled and validated but not built: their settings and their errors."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from connectors.registry import connector_type
from connectors.schedule.cron import parse_cron

MINIMAL = {
    "sink.elasticsearch": {"urls": ["http://127.0.0.1:9200"], "index": "orders"},
    "sink.email": {
        "host": "mail",
        "from": "shop@example.com",
        "to": ["a@example.com"],
        "subject": "Order {{ .id }}",
        "text": "paid",
    },
    "sink.slack": {"token": "x", "channel": "#orders"},
    "notification.slack": {"webhookURL": "https://hooks.slack.com/services/x", "channel": "#a"},
}


@pytest.mark.parametrize("name", sorted(MINIMAL))
def test_a_minimal_configuration_is_valid_and_describes_itself(name):
    found = connector_type(name)
    assert found.name == name
    assert found.roles == {"source" if name.startswith("source.") else "sink"}
    assert found.source is None
    assert found.sink is None
    found.settings.model_validate(MINIMAL[name])
    schema = found.settings.model_json_schema()
    undescribed = [
        key for key, value in schema["properties"].items() if not value.get("description")
    ]
    assert undescribed == []
    json.dumps(schema)


def refused(name, **changes):
    config = {key: value for key, value in (MINIMAL[name] | changes).items() if value is not ...}
    with pytest.raises(ValidationError) as caught:
        connector_type(name).settings.model_validate(config)
    errors = caught.value.errors()
    assert len(errors) == 1
    return errors[0]["msg"]


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("sink.elasticsearch", {"username": "u"}, "username and password together"),
        ("sink.elasticsearch", {"id": None, "operation": "update"}, "an id, which"),
        ("sink.email", {"host": ...}, "host, the SMTP server"),
        ("sink.email", {"text": ...}, "a body"),
        ("sink.slack", {"channel": ...}, "channel, which a token needs"),
        ("sink.slack", {"webhook_url": "https://h/x"}, "either webhook_url or token"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(name, changes, expected):
    assert expected in refused(name, **changes)


@pytest.mark.parametrize(
    ("expression", "field", "values"),
    [
        ("*/15 * * * *", "minutes", {0, 15, 30, 45}),
        ("5/20 * * * *", "minutes", {5, 25, 45}),
        ("0 9-17/4 * * *", "hours", {9, 13, 17}),
        ("0 0 * JAN,jul *", "months", {1, 7}),
        ("0 0 * * MON-FRI", "weekdays", {1, 2, 3, 4, 5}),
        ("0 0 * * 5-7", "weekdays", {5, 6, 0}),
        ("@weekly", "weekdays", {0}),
        (" 0  0 1,15 * 1", "days", {1, 15}),
    ],
)
def test_cron_fields_hold_the_times_they_name(expression, field, values):
    assert getattr(parse_cron(expression), field) == values


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * * * *", "5-1 * * * *", "*/0 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *"),
        *("* * * * 8", "a * * * *", "1,,2 * * * *", "* * 31 2 *", "@reboot", "\u0661 * * * *"),
    ],
)
def test_cron_expressions_that_make_no_sense_are_refused(expression):
    with pytest.raises(ValueError):
        parse_cron(expression)


def test_a_day_matches_either_field_only_when_both_are_restricted():
    assert parse_cron("0 0 13 * FRI").either_day
    assert not parse_cron("0 0 * * FRI").either_day
    assert not parse_cron("0 0 13 * *").either_day
