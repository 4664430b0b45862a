"""Documents in Elasticsearch or OpenSearch: `sink.elasticsearch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.elasticsearch.settings import ElasticsearchSink as ElasticsearchSinkSettings

if TYPE_CHECKING:
    from connectors.elasticsearch.sink import ElasticsearchSink


def _sink(name: str, settings: ElasticsearchSinkSettings) -> ElasticsearchSink:
    from connectors.elasticsearch.sink import (  # noqa: PLC0415 - a flow is read without it
        ElasticsearchSink,
    )

    return ElasticsearchSink(name, settings)


SINK_ELASTICSEARCH = ConnectorType(
    "sink.elasticsearch",
    ElasticsearchSinkSettings,
    "Index events in Elasticsearch or OpenSearch.",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_ELASTICSEARCH"]
