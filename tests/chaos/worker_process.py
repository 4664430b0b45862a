"""A worker process that a test starts, arms with a fail point, kills and waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from flows.runtime.orders import WorkerOrder
from flows.runtime.reports import Report


class WorkerProcess:
    """`python -m flows.runtime.process`, its reports read and its log kept for a failing test."""

    def __init__(
        self,
        flow: Path,
        source: str,
        *,
        until_caught_up: bool = False,
        fail_point: str = "",
        holder: str = "test",
        environ: dict[str, str] | None = None,
    ) -> None:
        read_end, write_end = os.pipe()
        order = WorkerOrder(
            files=[str(flow)],
            source=source,
            holder=holder,
            report_fd=write_end,
            until_caught_up=until_caught_up,
            drain_timeout=30.0,
        )
        self.log = flow.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.runtime.process", order.encode()],
                pass_fds=[write_end],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **(environ or {}), "PENSTOCK_FAIL_POINT": fail_point},
            )
        os.close(write_end)
        self.report = Report("starting")
        self._thread = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._thread.start()

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, "rb") as lines:
            for line in lines:
                try:
                    self.report = Report.decode(line)
                except ValueError:
                    return

    def wait_until(self, state: str, timeout: float = 30.0) -> None:
        """Wait until it reports `state`; fail with its log when it ends before."""
        deadline = time.monotonic() + timeout
        while self.report.state != state:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, f"still {self.report.state}: {self.text()}"
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def drain(self) -> int:
        self.process.terminate()
        return self.wait()

    def wait(self, timeout: float = 60.0) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end: {self.report}\n{self.text()}") from None
        finally:
            self._thread.join(5)

    def text(self) -> str:
        """Its last report's error and the end of its log."""
        return f"{self.report.error}\n{self.log.read_text()[-4000:]}"
