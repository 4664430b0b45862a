"""Child processes that never outlive us, however we end.

Linux's `prctl(PR_SET_PDEATHSIG)` looks made for this and has two traps: it fires when the
*thread* that started the child ends, and setting it needs Python code between fork and exec,
which may deadlock in a process with threads. A guard has neither: a shell of one line that
waits on a pipe whose other end only we hold. Should we be killed, the kernel closes the pipe and
the guard ends the child.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import final

_GUARD = 'read -r pid || exit 0; read -r released || kill -s "$0" "$pid"'


@final
class GuardedProcess:
    """A child process in a session of its own (so that Ctrl-C reaches us and not the child).

    Its standard output and error go to `log`, appended. `when_orphaned` is the signal it gets
    if we die without having ended it. Usable from any thread, by one at a time.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        account: tuple[int, int] | None = None,
        when_orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start `command`; `account` is the (uid, gid) it runs as, when that isn't ours."""
        user, group = account or (None, None)
        # The guard comes first: a child must not exist for an instant without one.
        self._guard = subprocess.Popen(  # noqa: S603 - a constant and a signal's name
            ["/bin/sh", "-c", _GUARD, when_orphaned.name.removeprefix("SIG")],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 - the caller's own command
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=None if environment is None else dict(environment),
                    start_new_session=True,
                    user=user,
                    group=group,
                    extra_groups=None if account is None else [],
                )
        except BaseException:
            self._close_guard()
            raise
        self.pid: int = self._process.pid
        self._tell_guard(f"{self.pid}\n".encode())

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def running(self) -> bool:
        """Whether the child is alive. Once it isn't, the guard is gone too."""
        alive = self._process.poll() is None
        if not alive:
            self._release()
        return alive

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the child has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the child's end; False if it is still there."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._release()
        return True

    def end(self, number: signal.Signals = signal.SIGTERM, grace: float = 10) -> bool:
        """Send `number`, wait `grace` seconds, then kill. Returns whether it ended by itself."""
        self.send(number)
        if self.wait(grace):
            return True
        self._process.kill()
        self._process.wait()
        self._release()
        return False

    def _tell_guard(self, line: bytes) -> None:
        # A broken pipe: somebody has ended the guard; the child is ours to end all the same.
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(line)
                self._guard.stdin.flush()

    def _release(self) -> None:
        """Send the guard home: its child has ended."""
        self._tell_guard(b"released\n")
        self._close_guard()

    def _close_guard(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that was free a moment ago; the caller retries when it was taken since.

    It is below the range that systems take for outgoing connections (32768 on Linux, 49152
    elsewhere), so that a server which stops and starts again finds its port still free.
    """
    for _ in range(200):
        port = random.randrange(15_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free TCP port between 15000 and 32000 on {host}")


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, for an error message; "" when there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:])


__all__ = ["GuardedProcess", "free_port", "last_lines"]
