"""toxiproxy: TCP proxies that cut, stall and delay what goes through them, on command."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any, final
from uuid import uuid4

import httpx

from penstock.embedded.processes import GuardedProcess, free_port, last_lines
from tests.services.installed import service_folder

_START_SECONDS = 20


class Proxy:
    """One proxied server. Its troubles last until `restore`."""

    def __init__(self, api: httpx.Client, name: str, address: str, upstream: str) -> None:
        self._api = api
        self._name = name
        self.address = address
        """host:port for clients"""
        self.upstream = upstream
        self._toxics: list[str] = []

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._ask("POST", "", {"enabled": False})

    def stall(self) -> None:
        """Hold everything back, both ways, with connections open; `restore` lets it pass.

        Not toxiproxy's `timeout` toxic: that one throws away what it holds.
        """
        for stream in ("upstream", "downstream"):
            self._poison("bandwidth", stream, {"rate": 0})

    def latency(self, milliseconds: int) -> None:
        """Delay what the server sends by that much."""
        self._poison("latency", "downstream", {"latency": milliseconds, "jitter": 0})

    def limit(self, kilobytes: int) -> None:
        """Let each connection have so many kilobytes a second of what the server sends."""
        self._poison("bandwidth", "downstream", {"rate": kilobytes})

    def restore(self) -> None:
        """Be a plain proxy again: what was held back passes, new connections are accepted."""
        for toxic in self._toxics:
            self._ask("DELETE", f"/toxics/{toxic}")
        self._toxics.clear()
        self._ask("POST", "", {"enabled": True})

    def close(self) -> None:
        """Take the proxy down."""
        self._ask("DELETE", "")

    def _poison(self, kind: str, stream: str, attributes: dict[str, Any]) -> None:
        name = f"{kind}-{stream}-{len(self._toxics)}"
        body = {"name": name, "type": kind, "stream": stream, "attributes": attributes}
        self._ask("POST", "/toxics", body)
        self._toxics.append(name)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        self._api.request(method, f"/proxies/{self._name}{path}", json=body).raise_for_status()


@final
class Toxiproxy:
    """A toxiproxy server on 127.0.0.1; made by `start`, usable as a context manager."""

    def __init__(self, process: GuardedProcess, api: httpx.Client) -> None:
        self._process = process
        self._api = api

    @classmethod
    def start(cls, folder: Path) -> Toxiproxy:
        """Start it, with its log in `folder`."""
        program = service_folder("toxiproxy-2.5.0") / "server"
        log = folder / "toxiproxy.log"
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            port = free_port()
            command = [str(program), "-host", "127.0.0.1", "-port", str(port)]
            process = GuardedProcess(command, log=log)
            api = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10)
            while process.running() and time.monotonic() < deadline:
                try:
                    api.get("/version").raise_for_status()
                except httpx.HTTPError:
                    time.sleep(0.01)
                else:
                    return cls(process, api)
            api.close()
            process.end(signal.SIGKILL)
        raise RuntimeError(f"toxiproxy does not answer; its log ends:\n{last_lines(log)}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def proxy(self, upstream: str, listen: str | None = None) -> Proxy:
        """Open a proxy before `upstream` (host:port), at `listen` or at an address of its own."""
        name = f"proxy-{uuid4().hex[:8]}"
        body = {"name": name, "listen": listen or "127.0.0.1:0", "upstream": upstream}
        answer = self._api.post("/proxies", json={**body, "enabled": True})
        answer.raise_for_status()
        return Proxy(self._api, name, answer.json()["listen"], upstream)

    def stop(self) -> None:
        """Stop it; all its proxies end."""
        self._api.close()
        self._process.end()

    def __enter__(self) -> Toxiproxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
