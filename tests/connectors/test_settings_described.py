"""Every connector that comes along is built, and says what its settings mean."""

from __future__ import annotations

import json

import pytest

from connectors.registry import connector_type, connector_types


@pytest.mark.parametrize("name", connector_types())
def test_a_connector_is_built_and_describes_its_settings(name):
    found = connector_type(name)
    assert found.name == name
    assert found.source is not None or found.sink is not None
    schema = found.settings.model_json_schema()
    undescribed = [
        key for key, value in schema["properties"].items() if not value.get("description")
    ]
    assert undescribed == []
    json.dumps(schema)
