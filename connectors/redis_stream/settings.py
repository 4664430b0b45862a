"""What a flow file may write for Redis Streams."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.addresses import RedisUrl
from connectors.settings import Duration, Secret, Settings, Template

_ENTRY_ID = re.compile(r"\$|\d+(-\d+)?")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@]+):\d{1,5}")


def _check_start(value: str) -> str:
    if _ENTRY_ID.fullmatch(value):
        return value
    try:
        _parsed_time(value)
    except ValueError:
        raise ValueError(
            '"0" (the beginning), "$" (what comes from now on), an entry id, or a time such as'
            " 2026-11-01T00:00:00Z"
        ) from None
    return value


def _parsed_time(value: str) -> datetime:
    at = datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in {"Z", "z"} else value)
    if "T" not in value.upper() or at.tzinfo is None:
        raise ValueError
    return at.astimezone(timezone.utc)


def start_id(start: str) -> str:
    """Return the entry id behind which a group starts; a time's own entries are read."""
    if _ENTRY_ID.fullmatch(start):
        return start
    milliseconds = int(_parsed_time(start).timestamp() * 1000)
    return f"{milliseconds - 1}-18446744073709551615" if milliseconds > 0 else "0"


def _check_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("host:port")
    return value


Address = Annotated[str, AfterValidator(_check_address)]


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of an Address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class SentinelSettings(Settings):
    """Sentinels that tell which server is the master."""

    service: Annotated[str, MinLen(1)]
    """Name that the Sentinels know the master by."""
    addresses: Annotated[list[Address], MinLen(1)]
    """Addresses of Sentinels, `host:port`."""
    username: str | None = None
    """User at the Sentinels, where they ask for one."""
    password: Secret | None = None
    """Password at the Sentinels; the servers' own is in `url`."""


class ClusterSettings(Settings):
    """A Redis Cluster, whose nodes tell which of them has a stream."""

    addresses: list[Address] = Field(default_factory=list)
    """Addresses of more nodes to ask, `host:port`, beside that of `url`; the others are found by them."""


class RedisServer(Settings):
    """Where Redis or Valkey is."""

    url: RedisUrl
    """Where Redis or Valkey is; `rediss://` for TLS. With `sentinel`, host and port are not used; with
    `cluster`, they are a node's."""
    sentinel: SentinelSettings | None = None
    """Ask Sentinels for the master, at each connection anew."""
    cluster: ClusterSettings | None = None
    """The server is a Redis Cluster: ask its nodes where streams are. `cluster: {}` takes the node of `url`."""

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> Self:
        if self.sentinel is not None and self.cluster is not None:
            raise ValueError("sentinel or cluster, not both: a cluster has no Sentinels")
        return self


class RedisStreamSource(RedisServer):
    """Configuration of `source.redis_stream`."""

    streams: Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)]
    """Streams to read."""
    group: Annotated[str, MinLen(1)]
    """Consumer group; made when missing."""
    consumer: str | None = None
    """Name of this consumer in the group; default: host, module and worker number."""
    claim_after: Annotated[Duration, Ge(1)] = 45.0
    """Entries of a consumer that has shown no sign of them for so long are taken over."""
    start: Annotated[str, AfterValidator(_check_start)] = "0"
    """Where a group that has to be made starts: `0`, `$`, an entry id or a time."""
    max_in_flight: Annotated[int, Ge(1)] = 10000
    """Entries read and not yet acknowledged; no more are read beyond."""
    format: Literal["auto", "cloudevents", "json", "fields"] = "auto"
    """What an entry holds: `fields` makes its fields the data, the others read `data_field`."""
    data_field: Annotated[str, MinLen(1)] = "data"
    """Field of an entry that holds the JSON data or CloudEvent."""
    key_field: Annotated[str, MinLen(1)] | None = None
    """Field whose value is the event's partition key; events of a key stay in order."""
    type: Annotated[str, MinLen(1)] = "redis.stream.entry"
    """CloudEvents type of an entry that is not a CloudEvent itself."""


class RedisStreamSink(RedisServer):
    """Configuration of `sink.redis_stream`."""

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
