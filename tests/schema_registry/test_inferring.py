"""Drafts of schemas from values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema_registry.inferring import MANY_NAMES, infer
from schema_registry.validation import compile_schema

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["2026-11-01T12:00:00Z", "a@example.com", "https://example.com/a"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=15,
)


def draft(*values):
    found, count = infer(values)
    assert count == len(values)
    assert found.pop("$schema").endswith("2020-12/schema")
    return found


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=8))
def test_a_draft_takes_all_that_it_was_made_from(values):
    compiled = compile_schema(infer(values)[0])
    assert all(map(compiled.is_valid, values))


def test_what_every_object_has_is_required_and_types_are_put_together():
    assert draft({"id": 1, "note": "x"}, {"id": 2.5, "tags": ["a", None]}) == {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "number"},
            "note": {"type": "string"},
            "tags": {"type": "array", "items": {"type": ["null", "string"]}},
        },
    }


def test_a_format_is_told_when_all_texts_have_it_and_there_are_some():
    ids = ["9f8a1f6e-3f1c-4f5e-9b1d-2d1b7c0c9a11", "0b0e7a52-65a3-4a3e-8e4e-3b8a3f9c1d20"]
    assert draft(*ids) == {"type": "string", "format": "uuid"}
    assert draft(ids[0]) == {"type": "string"}
    assert draft(*ids, "plain") == {"type": "string"}


def test_an_object_with_very_many_names_holds_entries_and_not_fields():
    many = {f"k{n}": {"n": n} for n in range(MANY_NAMES + 5)}
    assert draft(many, {"more": {"n": 1.5, "x": None}}) == {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "number"}, "x": {"type": "null"}},
        },
    }
