"""The JSON Schema of a test file, for editors: draft-07, made from the models it is read into."""

from __future__ import annotations

from typing import Any

from flows.spec.json_schema import draft_07
from flows.testing.model import CasesFile


def cases_json_schema() -> dict[str, Any]:
    """Return the schema."""
    generated = CasesFile.model_json_schema(ref_template="#/definitions/{model}")
    definitions = generated.pop("$defs", {})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **draft_07(generated, literal=True),
        "title": "Penstock test file",
        "definitions": {
            name: draft_07(schema, literal=True) for name, schema in definitions.items()
        },
    }
