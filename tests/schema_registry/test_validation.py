"""What fits a schema, and what is said about what does not."""

from __future__ import annotations

import pytest

from connectors.batch import Batch
from connectors.errors import FlowFileError
from schema_registry.subjects import SubjectVersions
from schema_registry.validation import (
    SchemaError,
    Validator,
    compile_schema,
    envelope_problems,
)

ORDER = {
    "type": "object",
    "required": ["order_id", "total"],
    "additionalProperties": False,
    "properties": {
        "order_id": {"type": "string", "format": "uuid"},
        "total": {"type": "number", "minimum": 0},
        "carrier": {"enum": ["ups", "dhl"]},
        "a/b": {"items": {"type": ["string", "null"]}},
    },
}


def test_what_is_wrong_is_said_with_a_pointer_and_what_was_expected():
    validator = Validator(ORDER)
    assert not validator.is_valid({"order_id": "x"})
    value = {"order_id": "x", "carrier": "fedex", "a/b": ["", 5], "more": 1}
    assert sorted(validator.problems(value)) == [
        "/: expected no properties but those of the schema, found more",
        "/: expected the property total, which is missing",
        "/a~1b/1: expected null or string, found 5",
        '/carrier: expected one of ["ups","dhl"], found "fedex"',
        '/order_id: expected the format uuid, found "x"',
    ]


def test_what_fits_has_no_problems():
    validator = Validator(ORDER)
    value = {"order_id": "2f1f6b1e-6f0a-4a51-9d0e-0a8f6c1d2e3f", "total": 0}
    assert validator.is_valid(value)
    assert validator.problems(value) == []


def test_values_are_shortened():
    (problem,) = Validator({"type": "integer"}).problems("x" * 1000)
    assert problem.startswith('/: expected integer, found "xxx')
    assert len(problem) < 100


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"format": "date-time"}, "2026-11-01T12:00:00Z", "yesterday"),
        ({"format": "email"}, "a@b.example", "a"),
        ({"format": "int64"}, "x", None),
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                "minimum": 3,
                "exclusiveMinimum": True,
            },
            4,
            3,
        ),
        ({"$schema": "http://json-schema.org/draft-06/schema#", "const": 3}, 3, 4),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "if": {"type": "string"},
                "then": {"minLength": 2},
            },
            "ab",
            "a",
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2019-09/schema",
                "dependentRequired": {"a": ["b"]},
            },
            {"a": 1, "b": 1},
            {"a": 1},
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "prefixItems": [{"type": "string"}],
            },
            ["a"],
            [1],
        ),
        ({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}, 1, "1"),
        (False, None, 1),
    ],
)
def test_formats_and_drafts_are_enforced(schema, good, bad):
    validator = Validator(schema)
    if good is not None:
        assert validator.is_valid(good)
    if bad is not None:
        assert not validator.is_valid(bad)


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        (
            {"properties": {"a": {"type": "strng"}}},
            ("properties", "a", "type"),
            "expected object, array",
        ),
        ({"properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern"), "format regex"),
        (
            {"properties": {"a": {"format": "uiid"}}},
            ("properties", "a", "format"),
            'the format "uiid" is not known',
        ),
        ({"required": "id"}, ("required",), "expected array"),
        ({"$ref": "https://example.com/schema.json"}, (), "nothing is fetched"),
        ({"$ref": "#/definitions/none"}, (), "leads nowhere"),
        ({"$schema": "https://example.com/none"}, (), "Unknown meta-schema"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_the_part_that_is_wrong(schema, path, words):
    with pytest.raises(SchemaError, match="not a valid JSON Schema") as caught:
        compile_schema(schema)
    assert caught.value.path == path
    assert words in str(caught.value)


def envelope(**changes):
    return {"id": "1", "source": "/s", "type": "t", "time": "2026-11-01T12:00:00.5+01:00"} | changes


def test_an_envelope_needs_its_attributes():
    assert envelope_problems(envelope()) == []
    assert envelope_problems(envelope(time=None)) == []
    assert envelope_problems(envelope(id="", source=None, type=5, time="1 Nov")) == [
        '/id: expected text that is not empty, found ""',
        "/source: expected the attribute source, which CloudEvents requires",
        "/type: expected text that is not empty, found 5",
        '/time: expected a time such as 2026-11-01T12:00:00Z (RFC 3339), found "1 Nov"',
    ]


@pytest.mark.parametrize(
    "time", ["2026-13-01T12:00:00Z", "2026-11-01 12:00:00Z", "2026-11-01T12:00:00"]
)
def test_a_time_that_is_not_rfc_3339_is_refused(time):
    assert len(envelope_problems(envelope(time=time))) == 1


def test_the_envelopes_of_a_batch_are_looked_at_for_cloudevents_only():
    rows = [envelope(), envelope(id=""), envelope(time="late")]
    columns = {name: [row[name] for row in rows] for name in envelope()}
    batch = Batch(3, columns, after={})
    assert Validator({}, kind="json").envelope_problems(batch) == {}
    found = Validator({}, kind="cloudevents").envelope_problems(batch)
    assert sorted(found) == [1, 2]
    good = Batch(1, {name: [value] for name, value in envelope().items()}, after={})
    assert Validator({}, kind="cloudevents").envelope_problems(good) == {}


def test_subjects_resolve_by_name_and_version():
    order = Validator(ORDER, subject="order", version="1.0")
    subjects = SubjectVersions([order])
    assert subjects.validator("order") is order
    assert subjects.validator("order@1.0") is order
    assert subjects.names() == ["order", "order@1.0"]
    with pytest.raises(FlowFileError, match=r"no schema order@2.*Declared: order, order@1.0"):
        subjects.validator("order@2")


def test_a_list_of_values_is_checked_and_only_what_is_wrong_is_said():
    validator = Validator(ORDER)
    good = {"order_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "total": 1}
    assert validator.all_problems([good, good]) == {}
    assert validator.all_problems([good, {**good, "total": -1}]) == {
        1: ["/total: expected at least 0, found -1"]
    }


def test_a_value_that_json_does_not_have_is_a_problem_and_no_crash():
    (problems,) = (
        Validator({"properties": {"at": {"type": "array"}}}).all_problems([{"at": {1}}]).values()
    )
    assert problems == [
        "/: expected a JSON value, found one that is none (Unsupported type: 'set')"
    ]
