"""A real Valkey cluster on 127.0.0.1: masters that share the slots, and replicas of the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from redis.crc import key_slot

from connectors.testing import wait_until
from penstock.embedded.processes import free_port
from tests.services.valkey import ValkeyServer

_SLOTS = 16384


class RoutedClient:
    """Asks for the owner of a stream each time: a slot may have moved. It has what the tests need.

    So no test goes by another client's view of the slots, and each connection is closed at once.
    """

    def __init__(self, cluster: ValkeyCluster) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        def call(stream: str, *arguments: Any) -> Any:
            with self._cluster.owner(stream).client() as client:
                return getattr(client, name)(stream, *arguments)

        return call

    def pipeline(self, *, transaction: bool) -> RoutedPipeline:
        return RoutedPipeline(self._cluster, transaction=transaction)


class RoutedPipeline:
    """Adds to one stream."""

    def __init__(self, cluster: ValkeyCluster, *, transaction: bool) -> None:
        self._cluster = cluster
        self._transaction = transaction
        self._added: list[tuple[str, dict[Any, Any]]] = []

    def xadd(self, stream: str, fields: dict[Any, Any]) -> None:
        self._added.append((stream, fields))

    def execute(self) -> Any:
        if not self._added:
            return []
        with (
            self._cluster.owner(self._added[0][0]).client() as client,
            client.pipeline(transaction=self._transaction) as pipe,
        ):
            for stream, fields in self._added:
                pipe.xadd(stream, fields)
            return pipe.execute()


class ValkeyCluster:
    """Masters, then replicas."""

    def __init__(self, nodes: list[ValkeyServer], ports: list[int], masters: int) -> None:
        self.nodes = nodes
        self.masters = nodes[:masters]
        self._bus = dict(zip(nodes, ports, strict=True))
        self._join()

    @classmethod
    @contextmanager
    def running(
        cls, folder: Path, *, masters: int = 3, replicas: int = 0
    ) -> Iterator[ValkeyCluster]:
        with ExitStack() as opened:
            nodes, ports = [], []
            for number in range(masters + replicas):
                own = folder / str(number)
                own.mkdir()
                ports.append(free_port())
                options = ("--cluster-enabled", "yes", "--cluster-port", str(ports[-1]))
                server = ValkeyServer.start(own, *options, "--cluster-node-timeout", "1000")
                nodes.append(opened.enter_context(server))
            yield cls(nodes, ports, masters)

    @property
    def url(self) -> str:
        return self.masters[0].url

    @contextmanager
    def client(self) -> Iterator[RoutedClient]:
        yield RoutedClient(self)

    def ask(self, node: ValkeyServer, *command: str | int) -> Any:
        with node.client() as client:
            return client.execute_command(*command)

    def stream_of(self, node: ValkeyServer) -> str:
        """Return a new name that is in a slot of this master."""
        while True:
            name = f"stream-{uuid4().hex[:12]}"
            if self.owner(name) is node:
                return name

    def owner(self, stream: str) -> ValkeyServer:
        """Return the master that has the stream's slot, as the nodes that answer say."""
        slot = key_slot(stream.encode())
        for asked in self.nodes:
            try:
                rows = self.ask(asked, "CLUSTER", "SLOTS")
            except redis.ConnectionError:
                continue
            port = next(row[2][1] for row in rows if row[0] <= slot <= row[1])
            return next(node for node in self.nodes if node.port == port)
        raise AssertionError("no node knows")

    def move(self, stream: str, target: ValkeyServer) -> None:
        """Move the stream's slot, with all that is in it, as `--cluster reshard` does."""
        self.begin_move(stream, target)
        self.end_move(stream, target)

    def begin_move(self, stream: str, target: ValkeyServer) -> None:
        """Move what is in the stream's slot; the slot itself is still where it was (ASK)."""
        slot, source = key_slot(stream.encode()), self.owner(stream)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))
        keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, stream: str, target: ValkeyServer) -> None:
        """Give the slot itself to the target (MOVED)."""
        slot = key_slot(stream.encode())
        for node in (target, *[node for node in self.masters if node is not target]):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def _id(self, node: ValkeyServer) -> str:
        return str(self.ask(node, "CLUSTER", "MYID"))

    def _join(self) -> None:
        share = -(-_SLOTS // len(self.masters))
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node in self.masters:
                first = number * share
                last = min(first + share, _SLOTS) - 1
                self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, self._bus[node])
        first_id = self._id(self.nodes[0])
        for node in self.nodes:
            wait_until(
                lambda node=node: self._knows_all(node), "the nodes know each other", seconds=60
            )
        for node in self.nodes[len(self.masters) :]:
            self.ask(node, "CLUSTER", "REPLICATE", first_id)
            wait_until(lambda node=node: self._follows(node), "the replica follows", seconds=60)
        for node in self.nodes:
            wait_until(lambda node=node: self._is_well(node), "the cluster is well", seconds=60)

    def _knows_all(self, node: ValkeyServer) -> bool:
        found = self.ask(node, "CLUSTER INFO")
        return int(found["cluster_known_nodes"]) == len(self.nodes)

    def _is_well(self, node: ValkeyServer) -> bool:
        return bool(self.ask(node, "CLUSTER INFO")["cluster_state"] == "ok")

    def _follows(self, node: ValkeyServer) -> bool:
        found = self.ask(node, "INFO", "replication")
        return bool(found.get("master_link_status") == "up")
