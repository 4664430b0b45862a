"""What reading and adding to streams need, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis.exceptions import RedisError

from connectors.contracts import Check
from connectors.errors import PenstockError
from connectors.redis_stream.cluster import Cluster, link_to
from connectors.redis_stream.connection import Link
from connectors.redis_stream.failures import label_of, translated
from connectors.redis_stream.group import group_facts, refuse_cluster, stream_facts
from connectors.redis_stream.settings import RedisServer, RedisStreamSink, RedisStreamSource

_OLDEST = (6, 2)
"""XAUTOCLAIM, and XADD's and XTRIM's MINID, came with 6.2."""


def reading(settings: RedisStreamSource) -> Iterator[Check]:
    """Check the server, each stream and its group."""
    try:
        yield from _server(settings)
        for stream in settings.streams:
            with _linked(settings, stream) as link:
                yield _read_stream(link, stream, settings.group)
    except PenstockError as error:
        yield _failed(f"Redis {label_of(settings.url)}", error)


def adding(settings: RedisStreamSink, streams: Sequence[str]) -> Iterator[Check]:
    """Check the server, and that what is there under the streams' names are streams."""
    try:
        yield from _server(settings)
        for stream in streams:
            if "{{" in stream:
                yield Check("stream", ok=True, found=f"not looked at: {stream} is a template")
                continue
            with _linked(settings, stream) as link:
                yield _written_stream(link, stream)
    except PenstockError as error:
        yield _failed(f"Redis {label_of(settings.url)}", error)


@contextmanager
def _linked(settings: RedisServer, stream: str) -> Iterator[Link]:
    link = link_to(settings, stream, name="preflight")
    try:
        yield link
    finally:
        link.close()


def _server(settings: RedisServer) -> Iterator[Check]:
    """Check the server, or the cluster and one of its nodes."""
    found = "answers"
    link = Link(settings, name="preflight")
    try:
        if settings.cluster is not None:
            slots = Cluster(settings, name="preflight").slots()
            found = f"a cluster of {len(slots.masters)} masters"
            if slots.uncovered:
                yield Check(
                    f"Redis {link.label}",
                    ok=False,
                    found=f"{found}; {slots.uncovered} slots have none",
                    hint="Start the nodes that are away, or give their slots to others.",
                )
                return
            link = Link(settings, name="preflight", find=lambda: slots.ranges[0][2])
        link.call("PING")
        if settings.cluster is None:
            refuse_cluster(link)
        version = _version(link)
    except RedisError as error:
        raise translated(error, link.label) from None
    finally:
        link.close()
    name = f"Redis {link.label}"
    if version is not None and version < _OLDEST:
        text = ".".join(map(str, version))
        yield Check(name, ok=False, found=f"version {text}", hint="It needs 6.2 or newer.")
    else:
        yield Check(name, ok=True, found=found)


def _version(link: Link) -> tuple[int, ...] | None:
    try:
        lines = link.call("INFO", "server").decode("utf-8", "replace").splitlines()
    except RedisError:
        return None
    for line in lines:
        if line.startswith("redis_version:"):
            numbers = line.partition(":")[2].split(".")
            return tuple(int(number) for number in numbers if number.isdigit())
    return None


def _read_stream(link: Link, stream: str, group: str) -> Check:
    name = f"stream {stream}"
    try:
        facts = stream_facts(link, stream)
        found = None if facts is None else group_facts(link, stream, group)
    except RedisError as error:
        return _failed(name, translated(error, link.label, stream=stream))
    if facts is None:
        return Check(name, ok=True, found="missing; `run` makes it, with the group")
    if found is None:
        return Check(name, ok=True, found=f"{facts.length} entries; `run` makes the group {group}")
    lag = "an unknown number" if found.lag is None else str(found.lag)
    return Check(name, ok=True, found=f"group {group}: {lag} to read, {found.pending} pending")


def _written_stream(link: Link, stream: str) -> Check:
    name = f"stream {stream}"
    try:
        facts = stream_facts(link, stream)
    except RedisError as error:
        return _failed(name, translated(error, link.label, stream=stream))
    return Check(
        name,
        ok=True,
        found="missing; adding makes it" if facts is None else f"{facts.length} entries",
    )


def _failed(name: str, error: PenstockError) -> Check:
    away = error.code == "redis_unavailable"
    hint = "Check `url`, that the server runs and lets this machine in." if away else error.hint
    return Check(name, ok=False, found=error.message, hint=hint, unreachable=away)
