"""libjq in a process of its own: what jq itself answers, whatever that does to the process.

The process is started when first asked, kept, and started anew when it aborts, runs out of memory
or takes too long; that program's answer is then None.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

MOST_OUTPUTS = 2_000
_MEMORY = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What libjq made of a program and an input."""

    refused: str | None
    """What it said of a program that does not compile."""
    outputs: list[str]
    """Each as JSON text, with the digits jq writes; those before an error, too."""
    error: str | None
    """The error's value as JSON text; None when all went well."""
    complete: bool
    """False when it has more than MOST_OUTPUTS outputs."""


class Oracle:
    """A libjq process. Use as a context manager, from one thread."""

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self.deaths = 0
        """How often the process aborted, or was ended because it took too long."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, program: str, text: str) -> Answer | None:
        """Run a program over an input (JSON text); None when libjq aborts, hangs or grows."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([program, text]).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process)
        except BrokenPipeError:
            line = None
        if line is None:
            self.deaths += 1
            self._end()
            return None
        return Answer(**json.loads(line))

    def _line(self, process: subprocess.Popen[bytes]) -> bytes | None:
        assert process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([process.stdout], [], [], self._timeout)
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                return None
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
            )
            self._rest = b""
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _answer(program: str, text: str) -> dict[str, Any]:
    import jq  # noqa: PLC0415 - only the process needs it

    answer: dict[str, Any] = {"refused": None, "outputs": [], "error": None, "complete": True}
    try:
        jq.compile(program)
        # Asking libjq for more after an uncaught error aborts the process, so it catches all.
        # What `try` catches is what the program itself raises, since nothing follows it.
        wrapped = jq.compile(f'try (({program}\n) | ["v", tojson]) catch ["e", tojson]')
    except ValueError as error:
        return answer | {"refused": str(error)}
    for kind, found in wrapped.input_text(text):
        if kind == "e":
            answer["error"] = found
        elif len(answer["outputs"]) == MOST_OUTPUTS:
            answer["complete"] = False
            break
        else:
            answer["outputs"].append(found)
    return answer


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        program, text = json.loads(line)
        try:
            answer = _answer(program, text)
        except ValueError as error:  # an input that jq does not read
            answer = {"refused": f"input: {error}", "outputs": [], "error": None, "complete": True}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
