"""What a schema marks as writeOnly is not told of a value that does not fit."""

from __future__ import annotations

from functools import partial

import pytest

from schema_registry.documents import Document
from schema_registry.redaction import marks_secrets, masked
from schema_registry.validation import MOST_PROBLEMS, Validator

SECRET = {"type": "string", "maxLength": 3, "writeOnly": True}


def problems(schema, value):
    document = Document(schema)
    assert marks_secrets(document)
    return Validator(schema, mask=partial(masked, document)).problems(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"card": SECRET}}, {"card": "planted"}),
        (
            {"properties": {"card": {"$ref": "#/$defs/s"}}, "$defs": {"s": SECRET}},
            {"card": "planted"},
        ),
        ({"allOf": [{"properties": {"card": SECRET}}]}, {"card": "planted"}),
        ({"anyOf": [{"properties": {"card": SECRET}}, {"type": "null"}]}, {"card": "planted"}),
        ({"if": {"properties": {"card": SECRET}}, "else": False}, {"card": "planted"}),
        ({"patternProperties": {"^c": SECRET}}, {"card": "planted"}),
        ({"additionalProperties": SECRET}, {"card": "planted"}),
        ({"type": "array", "items": SECRET}, ["planted"]),
        ({"type": "array", "prefixItems": [SECRET]}, ["planted"]),
        ({"type": "null", "properties": {"card": SECRET}}, {"card": "planted"}),
        (
            {"properties": {"card": {"writeOnly": True, "items": {"type": "null"}}}},
            {"card": ["planted"]},
        ),
        ({"properties": {"card": {**SECRET, "const": "x"}}}, {"card": "planted"}),
        ({"uniqueItems": True, "items": SECRET}, ["planted", "planted"]),
        (
            {"properties": {"card": SECRET}, "dependentRequired": {"card": ["x"]}},
            {"card": "planted"},
        ),
        ({"propertyNames": {"maxLength": 1}, "properties": {"card": SECRET}}, {"card": "planted"}),
        ({"contains": {"type": "null"}, "items": SECRET}, ["planted"]),
    ],
)
def test_a_secret_is_in_no_problem(schema, value):
    found = problems(schema, value)
    assert found
    assert "planted" not in " ".join(found)


def test_what_is_no_secret_is_told_beside_it():
    schema = {"properties": {"card": SECRET, "n": {"type": "null"}}}
    assert sorted(problems(schema, {"card": "planted", "n": 5})) == [
        '/card: expected at most 3 characters, found "[redacted]"',
        "/n: expected null, found 5",
    ]


def test_a_value_that_is_nested_very_deep_shows_nothing():
    value: object = "planted"
    for _ in range(900):
        value = {"in": value}
    schema = {"type": "null", "properties": {"in": {"$ref": "#"}}, "$defs": {"s": SECRET}}
    assert "planted" not in " ".join(problems(schema, value))


def test_all_violations_are_told_up_to_very_many():
    validator = Validator({"items": {"type": "null"}})
    assert len(validator.problems([1] * 50)) == 50
    told = validator.problems([1] * 500)
    assert len(told) == MOST_PROBLEMS + 1
    assert told[-1] == f"/: and more than these {MOST_PROBLEMS}"


def test_a_schema_without_secrets_is_known_as_such():
    assert not marks_secrets(Document({"properties": {"a": {"writeOnly": False}}}))
