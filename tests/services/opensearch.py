"""A real OpenSearch: one node on 127.0.0.1, from its jars; as `nobody` where we are root, whom it refuses."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from penstock.embedded.processes import GuardedProcess, free_port, last_lines
from tests.services.installed import service_folder

_VERSION = "2.19.1"
_START_SECONDS = 120
_DESCRIPTOR = f"""
description=The transport
version={_VERSION}
opensearch.version={_VERSION}
name=transport-netty4
classname=org.opensearch.transport.Netty4Plugin
java.version=11
extended.plugins=
has.native.controller=false
"""
_POLICY = "grant { permission java.security.AllPermission; };\n"
_LOGGING = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class OpenSearch:
    """The node; `url` is where it answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def create_index(self, properties: dict[str, Any] | None = None) -> str:
        name = f"test-{uuid4().hex[:12]}"
        body = {
            "settings": {"number_of_shards": 1, "number_of_replicas": 0},
            "mappings": {"properties": properties or {}},
        }
        self.client.put(f"/{name}", json=body).raise_for_status()
        return name

    def documents(self, index: str) -> dict[str, dict[str, Any]]:
        """Return id → document, in the order of their writing."""
        self.client.post(f"/{index}/_refresh").raise_for_status()
        query = {"size": 10_000, "sort": ["_seq_no"], "seq_no_primary_term": True}
        answer = self.client.post(f"/{index}/_search", json=query).raise_for_status()
        return {hit["_id"]: hit["_source"] for hit in answer.json()["hits"]["hits"]}

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[OpenSearch]:
        jars = service_folder(f"opensearch-{_VERSION}")
        server = cls(free_port())
        account = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            account = (nobody.pw_uid, nobody.pw_gid)
        home = folder / "home"
        _furnish(home, jars, server.port)
        # `nobody` may not read the cache folder of root.
        shutil.copytree(jars / "lib", home / "lib")
        if account is not None:
            for path in [home, *home.rglob("*")]:
                os.chown(path, *account)
        log = folder / "opensearch.log"
        process = GuardedProcess(
            [
                *("java", "-Xms64m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *("-Djava.security.manager=allow", "-Dlog4j2.disable.jmx=true"),
                *(f"-Dopensearch.path.home={home}", f"-Dopensearch.path.conf={home}/config"),
                *(f"-Djava.io.tmpdir={home}/logs", "-cp", "lib/*"),
                "org.opensearch.bootstrap.OpenSearch",
            ],
            log=log,
            cwd=home,
            account=account,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not server._answers():
                assert process.running(), last_lines(log)
                assert time.monotonic() < deadline, last_lines(log)
                time.sleep(0.1)
            yield server
        finally:
            server.client.close()
            process.end(signal.SIGKILL)  # its data is nobody's; a clean end takes ten seconds

    def _answers(self) -> bool:
        try:
            return self.client.get("/_cluster/health").status_code == 200
        except httpx.HTTPError:
            return False


def _furnish(home: Path, jars: Path, port: int) -> None:
    for name in ("config", "data", "logs", "plugins"):
        (home / name).mkdir(parents=True)
    module = home / "modules/transport-netty4"
    shutil.copytree(jars / "modules/transport-netty4", module)
    (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR)
    (module / "plugin-security.policy").write_text(_POLICY)
    (home / "config/log4j2.properties").write_text(_LOGGING)
    settings = {
        "network.host": "127.0.0.1",
        "http.port": port,
        "transport.port": free_port(),
        "discovery.type": "single-node",
        "path.data": home / "data",
        "path.logs": home / "logs",
        "http.max_content_length": "200kb",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    lines = [f"{name}: {value}\n" for name, value in settings.items()]
    (home / "config/opensearch.yml").write_text("".join(lines))
