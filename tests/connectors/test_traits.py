"""What sinks and sources say of the JSON they write and read, as they are configured."""

from __future__ import annotations

import pytest

from connectors.contracts import ConnectorType
from connectors.errors import FlowFileError
from connectors.registry import Registry, connector_type

_KAFKA = {"brokers": ["127.0.0.1:9092"], "topic": "t"}


def sink(kind, **config):
    found = connector_type(kind)
    return found.sink("out", found.settings.model_validate(config))


@pytest.mark.parametrize(
    ("kind", "config", "key", "embedding"),
    [
        ("sink.kafka", _KAFKA, "publish_format", "cloudevents_structured"),
        ("messaging.kafka", _KAFKA, "publish_format", "cloudevents_structured"),
        ("sink.file", {"path": "out.jsonl"}, "format", "cloudevents_json"),
        ("sink.stdout", {}, "format", "cloudevents_json"),
        ("sink.webhook", {"url": "http://127.0.0.1/"}, "format", "cloudevents_structured"),
    ],
)
def test_a_sink_embeds_data_where_its_format_has_an_envelope(kind, config, key, embedding):
    assert sink(kind, **config, **{key: embedding}).traits.embeds
    assert not sink(kind, **config, **{key: "json"}).traits.embeds


def test_rows_of_postgres_are_json_by_construction():
    found = connector_type("source.postgres_cdc")
    settings = found.settings.model_validate(
        {"connection": "host=127.0.0.1", "slot_name": "s", "tables": [{"table": "t"}]}
    )
    assert found.source("rows", settings).traits.json


class _EntryPoint:
    value = "some_package:NOWHERE"

    def load(self):
        raise AttributeError("module 'some_package' has no attribute 'NOWHERE'")


def test_an_entry_point_that_names_nothing_is_told_with_its_value(monkeypatch):
    kinds = Registry("penstock.nothing", ConnectorType, "connector", "the contract")
    monkeypatch.setattr(kinds, "_entry_points", lambda: {"source.odd": _EntryPoint()})
    with pytest.raises(FlowFileError, match="no attribute 'NOWHERE'") as caught:
        kinds.get("source.odd")
    assert caught.value.code == "type_import"
    assert "some_package:NOWHERE" in caught.value.hint
