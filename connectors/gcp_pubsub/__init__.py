"""Google Cloud Pub/Sub: `source.gcp_pubsub` and `sink.gcp_pubsub`.

settings    what a flow file may write
client      a gRPC channel and the calls we make
source      what is looked at, and sought          → reader
reader      batches out of the puller's buffer     → decoding; two threads: pulling, keeping
leases      messages held and settled (pure)
sink        batches into publish calls, in order per key
failures    what Pub/Sub's errors mean             ← preflight
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.extras import importing
from connectors.gcp_pubsub.settings import PubsubSink, PubsubSource

if TYPE_CHECKING:
    from connectors.gcp_pubsub.sink import PubsubSinkModule
    from connectors.gcp_pubsub.source import PubsubSourceModule

_PREVIEW = "not tested against Google's own servers, only against its fake of them"


def _source(_name: str, settings: PubsubSource) -> PubsubSourceModule:
    with importing("pubsub", "Pub/Sub"):
        from connectors.gcp_pubsub.source import PubsubSourceModule  # noqa: PLC0415 - an extra

    return PubsubSourceModule(settings)


def _sink(_name: str, settings: PubsubSink) -> PubsubSinkModule:
    with importing("pubsub", "Pub/Sub"):
        from connectors.gcp_pubsub.sink import PubsubSinkModule  # noqa: PLC0415 - an extra

    return PubsubSinkModule(settings)


SOURCE_GCP_PUBSUB = ConnectorType(
    "source.gcp_pubsub",
    PubsubSource,
    "Pull messages of a Pub/Sub subscription.",
    source=_source,
    preview=_PREVIEW,
)
SINK_GCP_PUBSUB = ConnectorType(
    "sink.gcp_pubsub",
    PubsubSink,
    "Publish events to Pub/Sub.",
    sink=_sink,
    preview=_PREVIEW,
)

__all__ = ["SINK_GCP_PUBSUB", "SOURCE_GCP_PUBSUB"]
