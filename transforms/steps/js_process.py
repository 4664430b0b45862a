"""Starts, asks and replaces the process that runs a step's JavaScript (js_sandbox.py)."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from connectors.errors import FatalError

_PROGRAM = Path(__file__).with_name("js_sandbox.py")
_STARTING = 60.0
"""Seconds that the process has to start, on a machine however busy."""
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""What Python itself may need to start; no secret of the worker's goes along."""


class SandboxEndedError(Exception):
    """The process ended or hung instead of answering; `hung` says which."""

    def __init__(self, *, hung: bool, status: int | None) -> None:
        super().__init__()
        self.hung = hung
        self.status = status


class SandboxProcess:
    """One process with one step's code. Started when first asked, and again after it has ended.

    Belongs to one thread at a time.
    """

    def __init__(self, code: str, timeout: float, memory_limit: int) -> None:
        self._setup = {"code": code, "timeout": timeout, "memory_limit": memory_limit}
        # It keeps the time itself, by the processor's clock; this is for when it can't.
        self._patience = 4 * timeout + 10
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, given: bytes, integers: bytes) -> bytes:
        """Return the answer to one event. Raises SandboxEndedError."""
        process = self._process or self._start()
        request = b"".join(
            (len(given).to_bytes(4, "big"), given, len(integers).to_bytes(4, "big"), integers)
        )
        return self._exchange(process, request, self._patience)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            bufsize=0,
        )
        self._process = process
        setup = orjson.dumps(self._setup)
        try:
            answer = self._exchange(process, len(setup).to_bytes(4, "big") + setup, _STARTING)
        except SandboxEndedError as error:
            raise FatalError(
                f"the process for JavaScript did not start (status {error.status}).",
                code="js_sandbox",
                hint="It needs the package quickjs-ng, and to be allowed to start a process.",
            ) from None
        if answer[:1] != b"=":
            told: dict[str, Any] = orjson.loads(answer[1:])
            self.close()
            raise FatalError(
                f"the step's JavaScript can't be compiled: {told['message']}.",
                code="js_code",
                hint="Correct the code.",
                line=told["line"],
            )
        return process

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes:
        assert process.stdin is not None  # noqa: S101 - it was made with pipes
        assert process.stdout is not None  # noqa: S101 - as above
        deadline = time.monotonic() + seconds
        try:
            # It reads all of a request before it answers: neither waits for the other.
            left = memoryview(request)
            while left:
                left = left[process.stdin.write(left) :]
            head = self._read(process, 4, deadline)
            return self._read(process, int.from_bytes(head, "big"), deadline)
        except (TimeoutError, OSError, EOFError) as error:
            hung = isinstance(error, TimeoutError)
            self._end(process)
            raise SandboxEndedError(hung=hung, status=process.returncode) from None

    @staticmethod
    def _read(process: subprocess.Popen[bytes], length: int, deadline: float) -> bytes:
        assert process.stdout is not None  # noqa: S101 - it was made with pipes
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while length:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(process.stdout.fileno(), min(length, 1 << 20))
                if not part:
                    raise EOFError
                parts.append(part)
                length -= len(part)
        return b"".join(parts)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        if process.poll() is None:
            # It ends by itself when its input does, unless it hangs.
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        if process.poll() is None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end(self._process)
