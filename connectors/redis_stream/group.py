"""Questions to a server about its streams and groups, and making a group. Blocking, bounded.

Redis before 7 knows neither a group's lag nor how many entries a stream ever had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import ResponseError

from connectors.errors import FatalError
from connectors.redis_stream.connection import Link
from connectors.redis_stream.entries import EntryId, order_of
from connectors.redis_stream.failures import said_by

log = structlog.get_logger("penstock.redis")


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a server says of a stream."""

    length: int
    last: EntryId
    added: int | None
    """Entries it ever had; None where the server does not count."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What a server says of a group on a stream."""

    last_delivered: EntryId
    pending: int
    lag: int | None
    """Entries not delivered yet; None where the server can't tell."""
    read: int | None
    """How many entries of the stream, from its first ever, are behind `last_delivered`."""


def stream_facts(link: Link, stream: str) -> StreamFacts | None:
    """Return what is known of a stream; None where there is none. Raises RedisError."""
    try:
        found = _pairs(link.call("XINFO", "STREAM", stream))
    except ResponseError as error:
        if "no such key" in said_by(error):
            return None
        raise
    return StreamFacts(found["length"], found["last-generated-id"], found.get("entries-added"))


def group_facts(link: Link, stream: str, group: str) -> GroupFacts | None:
    """Return what is known of a group; None where it, or its stream, is missing. Raises RedisError."""
    try:
        rows = link.call("XINFO", "GROUPS", stream)
    except ResponseError as error:
        if "no such key" in said_by(error):
            return None
        raise
    for row in rows:
        found = _pairs(row)
        if found["name"] == group.encode():
            return GroupFacts(
                found["last-delivered-id"],
                found["pending"],
                found.get("lag"),
                found.get("entries-read"),
            )
    return None


def _pairs(flat: list[Any]) -> Mapping[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def ensure_group(
    link: Link, stream: str, group: str, *, start: str, known: EntryId | None = None
) -> bool:
    """Make the group, and the stream, where they are missing; return whether it was made.

    `known` is the last entry that is known to be settled or on its way: a group that was there and
    is gone goes on behind it, unless the stream was made anew. Raises RedisError.
    """
    if group_facts(link, stream, group) is not None:
        return False
    begin: str | bytes = start
    if known is not None:
        facts = stream_facts(link, stream)
        anew = facts is None or order_of(facts.last) < order_of(known)
        begin = "0" if anew else known
        log.warning(
            "redis_group_gone",
            stream=stream,
            group=group,
            goes_on_behind="the beginning: the stream was made anew" if anew else known.decode(),
            hint="Somebody removed the group, or the stream; what was pending for others is lost"
            " with it, and comes again from there on.",
        )
    try:
        link.call("XGROUP", "CREATE", stream, group, begin, "MKSTREAM")
    except ResponseError as error:
        if "BUSYGROUP" in said_by(error):  # another worker was quicker
            return False
        raise
    return True


def missed(stream: StreamFacts, group: GroupFacts) -> int:
    """Return how many entries were removed before the group has read them; at least so many.

    Of all that were ever added, those that are gone and more than the group has read: where entries
    in mid-stream were deleted, too, there may be more.
    """
    if stream.added is None or group.read is None:
        return 0
    return max(0, stream.added - stream.length - group.read)


def refuse_cluster(link: Link) -> None:
    """Raise FatalError where the server is a node of a cluster. Raises RedisError."""
    try:
        answer = link.call("INFO", "cluster")
    except ResponseError:  # this user may not ask
        return
    if b"cluster_enabled:1" in answer:
        raise FatalError(
            f"Redis {link.label} is a node of a cluster.",
            code="redis_cluster",
            hint="Set `cluster`, so that the node is asked for that has the stream.",
        )
