"""Redis Streams: `source.redis_stream`, `sink.redis_stream`; modelled and validated, not built yet."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator

from connectors.addresses import RedisUrl
from connectors.contracts import ConnectorType
from connectors.settings import Duration, Settings, Template

_ENTRY_ID = re.compile(r"\$|\d+(-\d+)?")


def _check_start(value: str) -> str:
    if not _ENTRY_ID.fullmatch(value):
        raise ValueError('"0" (the beginning), "$" (what comes from now on) or an entry id')
    return value


class RedisStreamSource(Settings):
    """Configuration of `source.redis_stream`."""

    url: RedisUrl
    """Where Redis or Valkey is; `rediss://` for TLS."""
    streams: Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)]
    """Streams to read."""
    group: Annotated[str, MinLen(1)]
    """Consumer group; made when missing."""
    consumer: str | None = None
    """Name of this consumer in the group; default: host name and worker number."""
    claim_after: Annotated[Duration, Ge(1)] = 60.0
    """Entries that another consumer has not acknowledged for so long are taken over."""
    start: Annotated[str, AfterValidator(_check_start)] = "0"
    """Where a group that has to be made starts: `0`, `$` or an entry id."""
    max_in_flight: Annotated[int, Ge(1)] = 10000
    """Entries read and not yet acknowledged; no more are read beyond."""
    format: Literal["auto", "cloudevents", "json", "fields"] = "auto"
    """What an entry holds: `fields` makes its fields the data, the others read `data_field`."""
    data_field: str = "data"
    """Field of an entry that holds the JSON data or CloudEvent."""
    key_field: str | None = None
    """Field whose value is the event's partition key; events of a key stay in order."""
    type: str = "redis.stream.entry"
    """CloudEvents type of an entry that is not a CloudEvent itself."""


class RedisStreamSink(Settings):
    """Configuration of `sink.redis_stream`."""

    url: RedisUrl
    """Where Redis or Valkey is; `rediss://` for TLS."""
    stream: Template | None = None
    """Stream to add to, where a publish step names no `topic`."""
    format: Literal["json", "cloudevents_binary", "cloudevents_structured"] = (
        "cloudevents_structured"
    )
    """What is added: the data, or a CloudEvent as fields or as one document."""
    data_field: Annotated[str, MinLen(1)] = "data"
    """Field that holds the JSON data or CloudEvent."""
    max_length: Annotated[int, Ge(1)] | None = None
    """Trim each stream to about so many entries; default: streams are not trimmed."""
    max_age: Annotated[Duration, Ge(1)] | None = None
    """Trim entries older than this."""
    pipeline_size: Annotated[int, Ge(1), Le(10000)] = 500
    """Commands sent before their answers are read."""


SOURCE_REDIS_STREAM = ConnectorType(
    "source.redis_stream",
    RedisStreamSource,
    "Read Redis Streams through a consumer group.",
    roles=frozenset({"source"}),
)
SINK_REDIS_STREAM = ConnectorType(
    "sink.redis_stream",
    RedisStreamSink,
    "Add events to Redis Streams.",
    roles=frozenset({"sink"}),
)
SINK_REDIS = ConnectorType(
    "sink.redis",
    RedisStreamSink,
    "Add events to Redis Streams (another name of sink.redis_stream).",
    roles=frozenset({"sink"}),
)
