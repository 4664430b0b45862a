"""Redis Cluster: which node has a stream, and links to those nodes.

A stream is one key, so it is in one slot, and that is at one master. The nodes are asked for it (CLUSTER SLOTS)
whenever a link connects; a node that has given the slot away says so (MOVED), and its link connects anew.
redis-py's own cluster client is left out like its others, see connection.py; and it tries again by itself, while
nobody could stop it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import BusyLoadingError, ClusterDownError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from connectors.errors import FatalError
from connectors.redis_stream.connection import Link
from connectors.redis_stream.failures import said_by
from connectors.redis_stream.settings import RedisServer, host_and_port

Node = tuple[str, int]
"""Host and port."""

_AWAY = (BusyLoadingError, RedisConnectionError, RedisTimeoutError, OSError)


def slot_of(stream: str) -> int:
    """Return the slot of a stream; `{…}` in its name decides, where it has such."""
    slot: int = key_slot(stream.encode())
    return slot


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which master has which slots, as a node told."""

    ranges: tuple[tuple[int, int, Node], ...]
    nodes: tuple[Node, ...]
    """All that were named, replicas too."""

    def master_of(self, slot: int) -> Node | None:
        """Return a slot's master; None where it has none."""
        return next((node for first, last, node in self.ranges if first <= slot <= last), None)

    @property
    def masters(self) -> set[Node]:
        """Return the nodes that have slots."""
        return {node for _, _, node in self.ranges}

    @property
    def uncovered(self) -> int:
        """Return how many slots have no master."""
        return REDIS_CLUSTER_HASH_SLOTS - sum(last - first + 1 for first, last, _ in self.ranges)


class Cluster:
    """Asks nodes for the slots; for one thread."""

    def __init__(self, settings: RedisServer, *, name: str) -> None:
        assert settings.cluster is not None  # noqa: S101 - its callers have looked
        self._settings = settings
        self._name = name
        parts = urlsplit(settings.url)
        first = (parts.hostname or "", parts.port or 6379)
        given = [first, *map(host_and_port, settings.cluster.addresses)]
        self._given = self._known = list(dict.fromkeys(given))

    def slots(self) -> SlotMap:
        """Ask one node after the other until one tells. Raises RedisError, FatalError."""
        error: BaseException | None = None
        for node in self._known:
            try:
                found = self._asked(node)
            except _AWAY as away:
                error = away
                continue
            # Another one is asked first the next time: this one may be cut off from the others.
            known = dict.fromkeys([*found.nodes, *self._given])
            known.pop(node, None)
            self._known = [*known, node]
            return found
        self._known = [*self._known[1:], self._known[0]]
        raise RedisConnectionError(f"no node of the cluster answers: {error}") from error

    def master_of(self, slot: int) -> Node:
        """Return the node that has a slot now. Raises RedisError, FatalError."""
        node = self.slots().master_of(slot)
        if node is None:
            raise ClusterDownError(f"CLUSTERDOWN no node has the slot {slot}")
        return node

    def _asked(self, node: Node) -> SlotMap:
        link = Link(self._settings, name=self._name, find=lambda: node)
        try:
            return _read(link.call("CLUSTER", "SLOTS"), node)
        except ResponseError as error:
            if "cluster support disabled" in said_by(error):
                raise FatalError(
                    f"Redis {link.label} is in no cluster.",
                    code="redis_cluster",
                    hint="Take `cluster` away, or name a node of a cluster.",
                ) from None
            raise
        finally:
            link.close()


def _read(rows: Any, asked: Node) -> SlotMap:
    """Return the answer of CLUSTER SLOTS; a node without an address of its own is where we asked."""

    def node_of(entry: Any) -> Node:
        host = b"" if entry[0] is None else bytes(entry[0])
        return (asked[0] if host in {b"", b"?"} else host.decode(), int(entry[1]))

    ranges = tuple((int(row[0]), int(row[1]), node_of(row[2])) for row in rows)
    return SlotMap(ranges, tuple(node_of(entry) for row in rows for entry in row[2:]))


def link_to(settings: RedisServer, stream: str, *, name: str) -> Link:
    """Return a link to wherever a stream is."""
    if settings.cluster is None:
        return Link(settings, name=name)
    cluster, slot = Cluster(settings, name=name), slot_of(stream)
    return Link(settings, name=name, find=lambda: cluster.master_of(slot))


def together(settings: RedisServer, streams: list[str]) -> list[list[str]]:
    """Return which streams one command can read: all of a server, those of a slot in a cluster."""
    if settings.cluster is None:
        return [streams]
    slots: dict[int, list[str]] = {}
    for stream in streams:
        slots.setdefault(slot_of(stream), []).append(stream)
    return list(slots.values())


class Links:
    """A sink's links: to its server, or to each master of a cluster that it adds to."""

    def __init__(self, settings: RedisServer, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._cluster = None if settings.cluster is None else Cluster(settings, name=name)
        self._slots: SlotMap | None = None
        self._links: dict[Node | None, Link] = {}
        if self._cluster is None:
            self._links[None] = Link(settings, name=name)

    def to(self, stream: str) -> Link:
        """Return the link to wherever a stream is. Raises RedisError, FatalError."""
        if self._cluster is None:
            return self._links[None]
        if self._slots is None:
            self._slots = self._cluster.slots()
            for gone in [node for node in self._links if node not in self._slots.masters]:
                self._links.pop(gone).close()
        node = self._slots.master_of(slot_of(stream))
        if node is None:
            self._slots = None
            raise ClusterDownError(f"CLUSTERDOWN no node has the slot of {stream}")
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(self._settings, name=self._name, find=lambda: node)
        return link

    def ask_again(self) -> None:
        """Ask for the slots anew before the next command: a node is away, or has given one away."""
        self._slots = None

    def close(self) -> None:
        """Disconnect from all."""
        for link in self._links.values():
            link.close()
        self._links = {}


__all__ = ["Cluster", "Links", "SlotMap", "link_to", "slot_of", "together"]
