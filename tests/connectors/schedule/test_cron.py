"""Cron expressions: the times they name, and those that make no sense."""

from __future__ import annotations

import pytest

from connectors.schedule.cron import parse_cron


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
