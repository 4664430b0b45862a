"""Kafka: `source.kafka`, `sink.kafka`, and both in one, `messaging.kafka`.

settings    what a flow file may write, and librdkafka's properties
source      where each partition's reading begins    → reader
reader      batches out of librdkafka's queue        → decoding; beside it, watch
sink        batches into an idempotent producer       → publishing, or transactions
windows     reading by time
confluent   values behind the id of their schema     → schema_ids asks a registry for it
positions   partitions, turns, offsets (pure)
topic_ids   whether a topic is still the one that it was
cluster     questions to a cluster                   → preflight
failures    what librdkafka's errors mean
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.kafka.settings import KafkaSettings, KafkaSinkSettings, KafkaSourceSettings

if TYPE_CHECKING:
    from connectors.kafka.sink import KafkaSink
    from connectors.kafka.source import KafkaSource


def _source(name: str, settings: KafkaSourceSettings | KafkaSettings) -> KafkaSource:
    from connectors.kafka.source import KafkaSource  # noqa: PLC0415 - a flow is read without it

    return KafkaSource(name, settings)


def _sink(_name: str, settings: KafkaSinkSettings | KafkaSettings) -> KafkaSink:
    from connectors.kafka.sink import KafkaSink  # noqa: PLC0415 - a flow is read without it

    return KafkaSink(settings)


def _cluster(settings: KafkaSourceSettings | KafkaSinkSettings | KafkaSettings) -> str:
    return ", ".join(sorted(settings.brokers))


SOURCE_KAFKA = ConnectorType(
    "source.kafka",
    KafkaSourceSettings,
    "Read topics of a Kafka cluster.",
    source=_source,
    by_time=True,
    cluster=_cluster,
)
SINK_KAFKA = ConnectorType(
    "sink.kafka",
    KafkaSinkSettings,
    "Publish to topics of a Kafka cluster.",
    sink=_sink,
    cluster=_cluster,
)
MESSAGING_KAFKA = ConnectorType(
    "messaging.kafka",
    KafkaSettings,
    "Read and publish topics of a Kafka cluster.",
    source=_source,
    by_time=True,
    sink=_sink,
    cluster=_cluster,
)

__all__ = ["MESSAGING_KAFKA", "SINK_KAFKA", "SOURCE_KAFKA"]
