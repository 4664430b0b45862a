"""An HTTP service that fails one call in five, in every way, and is itself killed and started again.

`python -m tests.chaos.failing_service PORT FILE SEED`. What it did is in FILE, a line per effect, which
outlives it: so it knows an `Idempotency-Key` that it has seen, as a payment service does.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from penstock.embedded.processes import free_port
from tests.transforms.steps.answering import Answer, Seen, Server, as_json

FAILURES = 0.2
KINDS = ("unavailable", "later", "reset", "lost", "hang", "hang after", "no http", "garbage")
"""`lost`, `hang after`, `no http` and `garbage` come after the effect: nobody was told of it."""


class Effect(NamedTuple):
    """What it did once: order `n` of a key, under the key of the call."""

    n: int
    key: str
    call: str


class FailingService:
    """The process, as a test has it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = folder / "effects.jsonl"
        self.file.touch()
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._starts += 1
        arguments = [str(self.port), str(self.file), str(self._starts)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.failing_service", *arguments],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/there", timeout=5).close()
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, "the service ended"
                assert time.monotonic() < deadline, "the service does not answer"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def effects(self) -> list[Effect]:
        """What it did, in order."""
        # A line that was cut off is the call's that it was killed in: nobody has been answered.
        lines = self.file.read_text().split("\n")[:-1]
        return [Effect(*json.loads(line)) for line in lines]


class _Service:
    def __init__(self, file: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lock = threading.Lock()
        self.never = threading.Event()
        whole = file.read_bytes().rpartition(b"\n")
        self.known = {json.loads(line)[2] for line in whole[0].splitlines()}
        self.out = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.truncate(self.out, len(whole[0] + whole[1]))

    def answer(self, seen: Seen) -> Answer:
        if seen.method == "GET":
            return Answer()
        body = json.loads(seen.body)
        call = seen.headers["idempotency-key"]
        with self.lock:
            kind = self.rng.choice(KINDS) if self.rng.random() < FAILURES else ""
            before = kind in {"unavailable", "later", "reset", "hang"}
            if not before and call not in self.known:
                os.write(self.out, json.dumps([body["n"], body["key"], call]).encode() + b"\n")
                self.known.add(call)
        if kind == "unavailable":
            return Answer(500)
        if kind == "later":
            return Answer(429, headers={"retry-after": "1"})
        if kind in {"reset", "lost"}:
            return Answer(reset=True)
        if kind in {"hang", "hang after"}:
            return Answer(reset=True, wait=self.never)
        if kind == "no http":
            return Answer(raw=b"\x00\xff nothing that HTTP has\r\n\r\n")
        if kind == "garbage":
            return Answer(200, b'{"receipt": ', {"content-type": "application/json"})
        return as_json({"n": body["n"]})


def main(port: int, file: Path, seed: int) -> None:
    """Serve until killed."""
    server = Server(port)
    server.answer = _Service(file, seed).answer
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
