"""Which changes of a schema break those who read old data with it, and how they are named."""

from __future__ import annotations

from typing import Any

import pytest

from schema_registry.comparing import compare
from schema_registry.documents import Document
from schema_registry.validation import SchemaError

Schema = dict[str, Any] | bool


def changes(older: Schema, newer: Schema) -> list[str]:
    return sorted(
        f"{d.rule} {d.pointer}".strip() for d in compare(Document(older), Document(newer))
    )


def is_compatible(older: Schema, newer: Schema) -> bool:
    return all(each.compatible for each in compare(Document(older), Document(newer)))


def _object(properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties or {}, **more}


STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}

COMPATIBLE: list[tuple[Schema, Schema, list[str]]] = [
    (STRING, STRING, []),
    (INTEGER, NUMBER, ["TYPE_EXTENDED"]),
    ({**STRING, "title": "a"}, {**STRING, "title": "b"}, ["TITLE_CHANGED"]),
    ({**STRING, "maxLength": 3}, {**STRING, "maxLength": 4}, ["MAX_LENGTH_INCREASED /maxLength"]),
    ({**STRING, "minLength": 3}, STRING, ["MIN_LENGTH_REMOVED /minLength"]),
    ({**STRING, "pattern": "^a"}, STRING, ["PATTERN_REMOVED /pattern"]),
    ({**NUMBER, "minimum": 1}, {**NUMBER, "minimum": 0.5}, ["MINIMUM_DECREASED /minimum"]),
    ({**NUMBER, "multipleOf": 4}, {**NUMBER, "multipleOf": 2}, ["MULTIPLE_OF_REDUCED /multipleOf"]),
    ({**NUMBER, "multipleOf": 0.5}, {**NUMBER, "multipleOf": 0.50}, []),
    ({"enum": ["a"]}, {"enum": ["b", "a"]}, ["ENUM_ARRAY_EXTENDED /enum"]),
    (
        _object({"a": STRING}, required=["a"]),
        _object({"a": STRING}),
        ["REQUIRED_ATTRIBUTE_REMOVED /required/a"],
    ),
    (
        _object({"a": STRING}),
        _object({"a": {**STRING, "default": ""}}, required=["a"]),
        ["DEFAULT_CHANGED /properties/a", "REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED /required/a"],
    ),
    (
        _object(),
        _object({"a": {}}),
        ["PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (_object({"a": STRING}), _object(), ["PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL /properties/a"]),
    (
        _object(additionalProperties=False),
        _object({"a": STRING}, additionalProperties=False),
        ["OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        _object(additionalProperties=STRING),
        _object({"a": STRING}, additionalProperties=STRING),
        [
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/a",
            "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/a",
        ],
    ),
    (
        _object({"x-a": STRING}, additionalProperties=False),
        _object(patternProperties={"^x-": STRING}, additionalProperties=False),
        ["PROPERTY_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/x-a"],
    ),
    (
        _object(additionalProperties=False),
        _object(),
        ["ADDITIONAL_PROPERTIES_ADDED /additionalProperties"],
    ),
    (STRING, {"oneOf": [NUMBER, STRING]}, ["SUM_TYPE_EXTENDED"]),
    (STRING, {"type": ["string", "null"]}, ["SUM_TYPE_EXTENDED"]),
    ({"allOf": [STRING, {"maxLength": 2}]}, STRING, ["PRODUCT_TYPE_NARROWED"]),
    (
        {"oneOf": [STRING]},
        {"anyOf": [STRING, NUMBER]},
        ["COMBINED_TYPE_EXTENDED", "SUM_TYPE_EXTENDED"],
    ),
    ({"not": STRING}, {"not": {**STRING, "maxLength": 3}}, ["NOT_TYPE_NARROWED /not"]),
    (
        {"type": "array", "items": INTEGER},
        {"type": "array", "items": NUMBER},
        ["TYPE_EXTENDED /items"],
    ),
    (
        {"type": "array", "prefixItems": [STRING], "items": False},
        {"type": "array", "prefixItems": [STRING, NUMBER], "items": False},
        ["ITEM_ADDED_TO_CLOSED_CONTENT_MODEL /items/1"],
    ),
    (False, STRING, []),
    (STRING, True, []),
]

BREAKING: list[tuple[Schema, Schema, list[str]]] = [
    (STRING, NUMBER, ["TYPE_CHANGED"]),
    (NUMBER, INTEGER, ["TYPE_NARROWED"]),
    (STRING, {**STRING, "maxLength": 4}, ["MAX_LENGTH_ADDED /maxLength"]),
    ({**STRING, "pattern": "a"}, {**STRING, "pattern": "b"}, ["PATTERN_CHANGED /pattern"]),
    (
        {**NUMBER, "multipleOf": 2},
        {**NUMBER, "multipleOf": 4},
        ["MULTIPLE_OF_EXPANDED /multipleOf"],
    ),
    (
        {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "maximum": 3},
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "number",
            "maximum": 3,
            "exclusiveMaximum": True,
        },
        ["EXCLUSIVE_MAXIMUM_ADDED /exclusiveMaximum"],
    ),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, ["ENUM_ARRAY_NARROWED /enum"]),
    ({"const": 1}, {"const": 2}, ["ENUM_ARRAY_CHANGED /const"]),
    (
        _object({"a": STRING}),
        _object({"a": STRING}, required=["a"]),
        ["REQUIRED_ATTRIBUTE_ADDED /required/a"],
    ),
    (
        _object(),
        _object({"a": STRING}),
        ["OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        _object(),
        _object({"a": STRING}, required=["a"]),
        ["REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        _object({"a/b": STRING}, additionalProperties=False),
        _object(additionalProperties=False),
        ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL /properties/a~1b"],
    ),
    (
        _object(additionalProperties=STRING),
        _object({"a": NUMBER}, additionalProperties=STRING),
        [
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/a",
            "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/a",
            "TYPE_CHANGED /properties/a",
        ],
    ),
    (
        _object(),
        _object(additionalProperties=False),
        ["ADDITIONAL_PROPERTIES_REMOVED /additionalProperties"],
    ),
    (
        _object(dependentRequired={"a": ["b"]}),
        _object(dependentRequired={"a": ["b", "c"]}),
        ["DEPENDENCY_ARRAY_EXTENDED /dependencies/a"],
    ),
    ({"oneOf": [STRING, NUMBER]}, {"oneOf": [STRING]}, ["SUM_TYPE_NARROWED"]),
    ({"anyOf": [STRING, NUMBER]}, {"oneOf": [STRING, NUMBER]}, ["COMBINED_TYPE_CHANGED"]),
    ({"allOf": [STRING]}, {"allOf": [STRING, {"maxLength": 3}]}, ["PRODUCT_TYPE_EXTENDED"]),
    (
        {"oneOf": [STRING, NUMBER]},
        {"oneOf": [STRING, {"type": "boolean"}]},
        ["COMBINED_TYPE_SUBSCHEMAS_CHANGED"],
    ),
    ({"type": "array"}, {"type": "array", "items": STRING}, ["SCHEMA_ADDED /items"]),
    (
        {"type": "array"},
        {"type": "array", "uniqueItems": True},
        ["UNIQUE_ITEMS_ADDED /uniqueItems"],
    ),
    (
        {"type": "array", "items": [STRING], "additionalItems": False},
        {"type": "array", "items": [], "additionalItems": False},
        ["ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL /items/0"],
    ),
    (True, STRING, ["TYPE_CHANGED"]),
]


@pytest.mark.parametrize(("older", "newer", "expected"), COMPATIBLE)
def test_a_change_after_which_old_data_is_still_read(older, newer, expected):
    assert changes(older, newer) == expected
    assert is_compatible(older, newer)


@pytest.mark.parametrize(("older", "newer", "expected"), BREAKING)
def test_a_change_that_breaks_reading_old_data_is_named_with_its_place(older, newer, expected):
    assert changes(older, newer) == expected
    assert not is_compatible(older, newer)


def _tree(leaf: Schema) -> dict[str, Any]:
    return {
        "$defs": {
            "node": _object(
                {"leaf": leaf, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}
            )
        },
        "$ref": "#/$defs/node",
    }


def test_recursive_schemas_are_compared_to_the_end():
    assert changes(_tree(STRING), _tree(STRING)) == []
    assert "TYPE_CHANGED /properties/leaf" in changes(_tree(STRING), _tree(NUMBER))


def test_a_difference_behind_a_cycle_is_not_hidden_by_it():
    def linked(last: Schema) -> dict[str, Any]:
        return {
            "$defs": {
                "a": {"oneOf": [_object({"next": {"$ref": "#/$defs/b"}}), {"type": "null"}]},
                "b": {
                    "oneOf": [
                        _object({"back": {"$ref": "#/$defs/a"}, "end": last}),
                        {"type": "null"},
                    ]
                },
            },
            **_object({"one": {"$ref": "#/$defs/a"}, "two": {"$ref": "#/$defs/b"}}),
        }

    assert is_compatible(linked(STRING), linked(STRING))
    assert not is_compatible(linked(STRING), linked(NUMBER))


def test_a_schema_that_only_refers_to_itself_takes_anything():
    assert changes({"$ref": "#"}, {"$ref": "#"}) == []


def test_ids_and_anchors_are_found_within_the_schema():
    older = {
        "$id": "https://example.com/order",
        "$defs": {
            "money": {"$id": "money", "type": "number"},
            "name": {"$anchor": "name", "type": "string"},
        },
        **_object({"total": {"$ref": "https://example.com/money"}, "by": {"$ref": "#name"}}),
    }
    newer = {**older, **_object({"total": {"$ref": "money"}, "by": {"type": "integer"}})}
    assert changes(older, newer) == ["TYPE_CHANGED /properties/by"]


def test_id_without_a_dollar_is_an_identifier_in_draft_4_alone():
    def named(draft: str, end: Schema) -> dict[str, Any]:
        return {
            "$schema": draft,
            "definitions": {"text": end},
            **_object({"a": {"id": "here", "allOf": [{"$ref": "#/definitions/text"}]}}),
        }

    new = "http://json-schema.org/draft-07/schema#"
    assert not is_compatible(named(new, STRING), named(new, NUMBER))
    with pytest.raises(SchemaError, match="leads nowhere"):
        compare(
            *(
                Document(named("http://json-schema.org/draft-04/schema#", each))
                for each in (STRING, NUMBER)
            )
        )


def test_before_draft_2019_what_stands_beside_a_ref_does_not_count():
    def beside(draft: str) -> dict[str, Any]:
        return {
            "$schema": draft,
            "$defs": {"text": STRING},
            **_object({"a": {"$ref": "#/$defs/text", "maxLength": 3}}),
        }

    old, new = (
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2020-12/schema",
    )
    assert changes(beside(old), {**beside(old), **_object({"a": STRING})}) == []
    assert changes(beside(new), {**beside(new), **_object({"a": STRING})}) == [
        "PRODUCT_TYPE_NARROWED /properties/a"
    ]


def test_what_is_referred_to_is_compared():
    def order(address: Schema) -> Document:
        return Document(
            _object({"to": {"$ref": "address.json#"}}), {"address.json": Document(address)}
        )

    found = compare(order(_object({"zip": STRING})), order(_object({"zip": NUMBER})))
    assert [(d.rule, d.pointer) for d in found] == [
        ("TYPE_CHANGED", "/properties/to/properties/zip")
    ]


def test_a_ref_that_leads_nowhere_is_an_error_that_names_it():
    with pytest.raises(SchemaError, match=r"the \$ref https://example\.com/x leads nowhere"):
        compare(
            Document(_object({"a": {"$ref": "https://example.com/x"}})),
            Document(_object({"a": STRING})),
        )


def test_schemas_that_fan_out_are_compared_without_going_through_every_path():
    def fan(leaf: Schema) -> dict[str, Any]:
        layers = {
            f"l{n}": _object({side: {"$ref": f"#/$defs/l{n + 1}"} for side in "ab"})
            for n in range(40)
        }
        return {"$defs": {**layers, "l40": leaf}, "$ref": "#/$defs/l0"}

    assert is_compatible(fan(INTEGER), fan(NUMBER))
    assert not is_compatible(fan(NUMBER), fan(INTEGER))


def test_schemas_that_are_too_deep_are_refused_and_not_run_into():
    def chain(leaf: Schema) -> dict[str, Any]:
        links = {f"l{n}": _object({"next": {"$ref": f"#/$defs/l{n + 1}"}}) for n in range(5000)}
        return {"$defs": {**links, "l5000": leaf}, "$ref": "#/$defs/l0"}

    with pytest.raises(SchemaError, match="too deep or too entangled"):
        compare(Document(chain(STRING)), Document(chain(NUMBER)))
