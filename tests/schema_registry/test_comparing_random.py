"""Random pairs of schemas, compared in both directions: there is always an answer."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from schema_registry.comparing import compare
from schema_registry.documents import Document
from schema_registry.validation import SchemaError

PAIRS = int(os.environ.get("PENSTOCK_SCHEMA_PAIRS", "1000"))
"""`make fuzz-schemas` compares 10,000."""

_DRAFTS = (
    None,
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)
_TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")
_VALUES = (None, True, 0, 1.5, "a", "", [], {}, [1, "x"], {"a": 1}, 10**30)
_LIMITS = (
    *("maxLength", "minLength", "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"),
    *("multipleOf", "maxProperties", "minProperties", "maxItems", "minItems", "maxContains"),
)


class _Dice:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def schema(self, depth: int = 4) -> Any:
        dice = self.random
        if dice.random() < 0.1:
            return dice.random() < 0.7
        found: dict[str, Any] = {}
        if dice.random() < 0.8:
            kinds = dice.sample(_TYPES, dice.choice((1, 1, 1, 2, 3)))
            found["type"] = kinds[0] if len(kinds) == 1 else kinds
        for keyword in dice.sample(_LIMITS, dice.randrange(3)):
            found[keyword] = dice.choice((0, 1, 2, 2.5, 10, True, 10**30, "wrong"))
        if dice.random() < 0.15:
            found["enum"] = dice.sample(_VALUES, dice.randrange(1, 5))
        if dice.random() < 0.1:
            found["const"] = dice.choice(_VALUES)
        if dice.random() < 0.1:
            found["pattern"] = dice.choice(("^a", "[", "b$"))
        if dice.random() < 0.2:
            found["default"] = dice.choice(_VALUES)
        if dice.random() < 0.15:
            found["$ref"] = dice.choice(
                ("#", "#/$defs/a", "#/$defs/b", "#/definitions/a", "#anchor", "other#", "nowhere")
            )
        if depth:
            self._inner(found, depth - 1)
        return found

    def _inner(self, found: dict[str, Any], depth: int) -> None:
        dice = self.random
        for keyword in ("additionalProperties", "unevaluatedProperties", "additionalItems", "not"):
            if dice.random() < 0.12:
                found[keyword] = self.schema(depth)
        for keyword in ("unevaluatedItems", "contains", "propertyNames", "if", "then"):
            if dice.random() < 0.05:
                found[keyword] = self.schema(depth)
        for keyword in ("properties", "patternProperties", "dependentSchemas", "dependencies"):
            if dice.random() < (0.6 if keyword == "properties" else 0.1):
                names = dice.sample(("a", "b", "c", "^x", "a/b", "("), dice.randrange(4))
                found[keyword] = {name: self.schema(depth) for name in names}
        if dice.random() < 0.4:
            found["required"] = dice.sample(("a", "b", "c", "z"), dice.randrange(4))
        for keyword in ("items", "prefixItems", "allOf", "anyOf", "oneOf"):
            if dice.random() < 0.15:
                found[keyword] = [self.schema(depth) for _ in range(dice.randrange(4))]
        if dice.random() < 0.1:
            found["items"] = self.schema(depth)

    def document(self) -> Document:
        value = self.schema()
        if isinstance(value, dict):
            draft = self.random.choice(_DRAFTS)
            value |= {"$schema": draft} if draft else {}
            value["$defs"] = {name: self.schema(2) for name in "ab"}
            value["definitions"] = {"a": {"$anchor": "anchor", "type": "string"}}
        return Document(value, {"other": Document(self.schema(2))})

    def changed(self, value: Any) -> Any:
        """Return a schema that is much like another, which random ones never are."""
        dice = self.random
        if isinstance(value, dict):
            found = {k: self.changed(v) for k, v in value.items() if dice.random() > 0.04}
            return found if dice.random() > 0.04 else found | {"maxLength": dice.randrange(5)}
        if isinstance(value, list):
            return [self.changed(each) for each in value if dice.random() > 0.04]
        return value


def _answer(older: Document, newer: Document) -> tuple[bool, str]:
    try:
        return all(each.compatible for each in compare(older, newer)), ""
    except SchemaError as error:
        return False, error.message


@pytest.mark.slow
def test_every_pair_of_schemas_has_an_answer_in_both_directions():
    yes = errors = 0
    for seed in range(PAIRS):
        dice = _Dice(seed)
        older = dice.document()
        newer = dice.document() if seed % 2 else Document(dice.changed(older.value), older.referred)
        for one, other in ((older, newer), (newer, older)):
            compatible, error = _answer(one, other)
            yes += compatible
            errors += bool(error)
            assert not error or "leads nowhere" in error or "expected a schema" in error
            assert _answer(one, other) == (compatible, error)
    assert PAIRS / 20 < yes < PAIRS * 2
    assert errors < PAIRS


def test_a_schema_is_compatible_with_itself():
    for seed in range(PAIRS // 4):
        document = _Dice(seed).document()
        copy = Document(document.value, document.referred)
        compatible, error = _answer(document, copy)
        assert compatible or error
