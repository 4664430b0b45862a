"""Redis Streams: `source.redis_stream`; `sink.redis_stream` and `sink.redis`, its other name.

settings    what a flow file may write
source      opens a reader of a consumer group       → reader
reader      batches out of what was read             → fetching (reads, claims), keeping (acknowledges)
decoding    entries as a batch's columns (what is settled of them: connectors.progress)
windows     reading by time, without the group
buffer      what was read and not handed over yet
group       questions to a server about streams and groups
sink        batches as pipelined XADDs
connection  one connection to the server, or to the master that Sentinels name
cluster     which node of a cluster has a stream, and connections to those
link_thread a thread that goes on when its server was away
failures    what the server's errors mean
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.redis_stream.settings import RedisStreamSink, RedisStreamSource

if TYPE_CHECKING:
    from connectors.redis_stream.sink import RedisSink
    from connectors.redis_stream.source import RedisSource


def _source(name: str, settings: RedisStreamSource) -> RedisSource:
    from connectors.redis_stream.source import RedisSource  # noqa: PLC0415 - a flow is read without it

    return RedisSource(name, settings)


def _sink(name: str, settings: RedisStreamSink) -> RedisSink:
    from connectors.redis_stream.sink import RedisSink  # noqa: PLC0415 - a flow is read without it

    return RedisSink(name, settings)


SOURCE_REDIS_STREAM = ConnectorType(
    "source.redis_stream",
    RedisStreamSource,
    "Read Redis Streams through a consumer group.",
    source=_source,
    roles=frozenset({"source"}),
    by_time=True,
)
SINK_REDIS_STREAM = ConnectorType(
    "sink.redis_stream",
    RedisStreamSink,
    "Add events to Redis Streams.",
    sink=_sink,
    roles=frozenset({"sink"}),
)
SINK_REDIS = ConnectorType(
    "sink.redis",
    RedisStreamSink,
    "Add events to Redis Streams (another name of sink.redis_stream).",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_REDIS", "SINK_REDIS_STREAM", "SOURCE_REDIS_STREAM"]
