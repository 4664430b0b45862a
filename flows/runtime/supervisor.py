"""The supervisor: starts a flow's workers, starts them again when they die, and drains them.

One process, one thread, one selector: workers' reports and log lines come in over pipes, signals
over a wake-up socket. SIGTERM and SIGINT drain (stop intake, finish what is in flight, settle,
checkpoint); a second one kills.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

from connectors.errors import FatalError
from flows.plan import FlowPlan
from flows.runtime import exits
from flows.runtime.assemble import make_source, sinks_of
from flows.runtime.happenings import Happening
from flows.runtime.logs import Level
from flows.runtime.measures import Measures
from flows.runtime.orders import DRAIN_TIMEOUT, WorkerOrder
from flows.runtime.reports import (
    ErrorReport,
    Failure,
    PipelineCounts,
    Report,
    decode_happenings,
)

FIRST_DELAY, LONGEST_DELAY, HEALTHY_AFTER = 0.2, 30.0, 60.0
"""Seconds: backoff before a dead worker is started again, and when it counts as well again.
One that had settled something counts as well at once: only a worker that dies without getting
anywhere waits longer each time."""

OVERDUE = 1.5
"""Seconds that a worker has beyond that to end by itself, before it is killed: code in C may hold it."""

TICK = 0.25
"""Seconds between looks at the clock."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a flow."""

    workers: int = 1
    until_caught_up: bool = False
    log_format: Literal["console", "json"] = "json"
    log_level: Level | None = None
    """Instead of the flow file's."""
    only_replays: frozenset[str] = frozenset()
    """Sources whose replays of dead letters are run to their end; nothing else is, nothing is read."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds a drain may take before workers give up what is in flight; it comes again."""


@dataclass(slots=True)
class WorkerView:
    """One worker as the supervisor sees it, across its restarts."""

    source: str
    index: int
    of: int
    report: Report = field(default_factory=lambda: Report("starting"))
    restarts: int = 0
    reported: float = field(default_factory=time.monotonic)
    """When it last reported, or was started; on the monotonic clock."""
    pid: int | None = None
    """None while no process runs."""
    done: bool = False
    """It has ended and is not started again."""
    _before: dict[str, PipelineCounts] = field(default_factory=dict)
    _measured_before: Measures = field(default_factory=Measures)

    def counts(self) -> dict[str, PipelineCounts]:
        """Return the counts per pipeline since the supervisor started."""
        total = dict(self._before)
        for name, counts in self.report.pipelines.items():
            total[name] = total.get(name, PipelineCounts()) + counts
        return total

    def measures(self) -> Measures:
        """Return what was measured since the supervisor started."""
        return self._measured_before + self.report.measures

    def restarted(self) -> None:
        """Keep the counts of the process that ended."""
        self._before = self.counts()
        self._measured_before = self.measures()
        self.report = Report("starting")
        self.restarts += 1


class Watcher:
    """What a supervisor tells whoever looks on. Override what is of interest."""

    def tick(self, workers: Sequence[WorkerView]) -> None:
        """See the workers as they are; a few times a second."""

    def failed(self, failure: Failure) -> None:
        """See an execution that became a dead letter (a few of them when there are many)."""

    def restarting(self, worker: WorkerView, code: int, delay: float) -> None:
        """See a worker that died with exit code `code`; it starts again in `delay` seconds."""

    def stopping(self, signal_name: str) -> None:
        """See the signal that asks for a drain."""

    def log_line(self, line: bytes) -> None:
        """Pass on a line that a worker wrote to stderr, given without its line end."""
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.buffer.flush()

    def error(self, error: ErrorReport) -> None:
        """See the error that ends the run."""


@dataclass(slots=True)
class _Slot:
    order: WorkerOrder
    view: WorkerView
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float | None = 0.0
    """When to start it (monotonic); None while it runs or when it is done."""
    failures: int = 0
    ran: bool = False
    """It has been running (past connecting) at least once."""

    @property
    def cluster(self) -> str | None:
        """The source whose cluster it is a process of: all of them live and die together."""
        return self.order.source if self.order.addresses else None


class Supervisor:
    """Runs a plan's sources to their end, to a signal, or to a fatal error."""

    def __init__(
        self,
        files: Sequence[Path],
        plan: FlowPlan,
        options: RunOptions,
        watcher: Watcher,
        observe: Callable[[Sequence[WorkerView]], None] | None = None,
        *,
        happened: Callable[[Sequence[Happening]], None] | None = None,
        watch_fd: int = -1,
    ) -> None:
        """`observe` sees the workers as `watcher.tick` does; it must not wait for anything.

        Nor must `happened`, which is told what steps do while somebody watches (`watch_fd`: a
        `WatchFlag`'s).
        """
        self._happened = happened
        self._watch_fd = watch_fd
        self._options = options
        self._watcher = watcher
        self._observe = observe
        self._selector = selectors.DefaultSelector()
        self._stopping_since: float | None = None
        self._interrupted = False
        self._code: int | None = None
        self._slots = [
            _Slot(order, WorkerView(order.source, max(order.index, order.process), order.of))
            for order in plan_workers(files, plan, options)
        ]

    def run(self) -> int:
        """Run until all workers have ended; return the exit code. Call from the main thread."""
        with ExitStack() as cleanup:
            cleanup.callback(self._selector.close)
            cleanup.callback(self._kill_all)
            self._handle_signals(cleanup)
            while self._unfinished():
                self._start_due()
                for key, _ in self._selector.select(TICK):
                    key.data()
                self._reap()
                self._enforce_drain()
                workers = [slot.view for slot in self._slots]
                self._watcher.tick(workers)
                if self._observe is not None:
                    self._observe(workers)
        if self._code is not None:
            return self._code
        return exits.INTERRUPTED if self._interrupted else exits.DONE

    @property
    def stopping(self) -> bool:
        """Whether it drains its workers, or is about to end; asked for by any thread."""
        return self._stopping_since is not None

    def _unfinished(self) -> bool:
        return any(slot.process or slot.start_at is not None for slot in self._slots)

    def _handle_signals(self, cleanup: ExitStack) -> None:
        """Turn signals into selector events, and put the old handlers back at the end."""
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
            cleanup.callback(end.close)

        def woken() -> None:
            for number in wake_read.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._asked_to_stop(signal.Signals(number))

        self._selector.register(wake_read, selectors.EVENT_READ, woken)
        cleanup.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_write.fileno()))
        for number in (signal.SIGTERM, signal.SIGINT):
            cleanup.callback(signal.signal, number, signal.signal(number, lambda *_: None))

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._stopping_since is not None:
            self._kill_all()
            return
        self._interrupted = number == signal.SIGINT
        self._watcher.stopping(number.name)
        self._drain()

    def _drain(self) -> None:
        self._stopping_since = time.monotonic()
        # A process that waits for its cluster to be complete hears no signal, and has read nothing.
        unheard = {
            slot.cluster
            for slot in self._slots
            if slot.process is None and slot.cluster and self._leads(slot.cluster)
        }
        for slot in self._slots:
            slot.start_at = None
            if slot.process is not None and slot.cluster in unheard:
                slot.process.kill()
            elif slot.process is not None:
                slot.process.terminate()

    def _enforce_drain(self) -> None:
        """Kill workers that should have ended by themselves long since."""
        since, limit = self._stopping_since, self._options.drain_timeout + OVERDUE
        if since is None or time.monotonic() - since <= limit:
            return
        late = [slot for slot in self._slots if slot.process is not None]
        self._kill_all()
        self._read_rest()
        for slot in late:
            report = slot.view.report
            if report.state != "stopped" and report.error is None and self._code is None:
                self._code = exits.UNREACHABLE
                self._watcher.error(_did_not_end(slot.view, limit))

    def _kill_all(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()
                slot.process.wait()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.start_at is None or slot.start_at > now:
                continue
            if slot.cluster and slot.order.process == 0:
                self._assign_addresses(slot.cluster)
            elif slot.cluster and not self._leads(slot.cluster):
                continue
            self._start(slot)

    def _leads(self, source: str) -> bool:
        """Whether the cluster's first process has its lease; the others start only then.

        So a standby is one process, and two clusters never hold a share each, waiting for the rest.
        """
        return any(
            slot.process is not None and slot.view.report.state == "running"
            for slot in self._slots
            if slot.cluster == source and slot.order.process == 0
        )

    def _assign_addresses(self, source: str) -> None:
        """Give all processes of a cluster ports that are free now."""
        slots = [slot for slot in self._slots if slot.cluster == source]
        addresses = free_addresses(len(slots))
        for slot in slots:
            slot.order = replace(slot.order, addresses=addresses)

    def _start(self, slot: _Slot) -> None:
        read_end, write_end = os.pipe()
        order = replace(slot.order, report_fd=write_end, watch_fd=self._watch_fd)
        # A terminal sends Ctrl-C to the workers too, and one that is still importing would die of
        # it with a traceback: it is blocked until the worker ignores it (process.py). The drain is our signal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, arguments of our own
                [sys.executable, "-m", "flows.runtime.process", order.encode()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[write_end, *([self._watch_fd] if self._watch_fd >= 0 else [])],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write_end)
        slot.process, slot.started, slot.start_at = process, time.monotonic(), None
        slot.view.pid, slot.view.reported = process.pid, slot.started
        assert process.stderr is not None  # noqa: S101 - asked for above
        self._read_lines(read_end, lambda line: self._report(slot, line), os.close)
        stderr = process.stderr
        self._read_lines(stderr.fileno(), self._log_line, lambda _fd: stderr.close())

    def _log_line(self, line: bytes) -> None:
        if not is_waiting_for_a_peer(line):
            self._watcher.log_line(line)

    def _read_lines(
        self, fd: int, handle: Callable[[bytes], None], close: Callable[[int], None]
    ) -> None:
        """Call `handle` with each line that comes in over `fd`, until its end."""
        rest = b""

        def readable() -> None:
            nonlocal rest
            chunk = os.read(fd, 65536)
            if not chunk:
                self._selector.unregister(fd)
                close(fd)
                if rest:
                    handle(rest)
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                handle(line)

        self._selector.register(fd, selectors.EVENT_READ, readable)

    def _report(self, slot: _Slot, line: bytes) -> None:
        try:
            happened = decode_happenings(line)
            if happened is not None:
                if self._happened is not None:
                    self._happened(happened)
                return
            report = Report.decode(line)
        except (ValueError, KeyError, TypeError):
            return  # torn by the death of its worker; the next process reports anew
        slot.view.report, slot.view.reported = report, time.monotonic()
        slot.ran = slot.ran or report.state == "running"
        for failure in report.failures:
            self._watcher.failed(failure)

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._read_rest()
                code = slot.process.returncode
                slot.process = slot.view.pid = None
                self._ended(slot, code)
                slot.view.done = slot.start_at is None

    def _read_rest(self) -> None:
        """Read what ended workers left in their pipes."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                key.data()

    def _ended(self, slot: _Slot, code: int) -> None:
        """Decide what the end of a worker means: done, start it again, or end the run."""
        error = slot.view.report.error
        first = not slot.ran
        if code == exits.DONE:
            return
        if self._stopping_since is not None:
            if error is not None and self._code is None:
                self._code = code if code > 0 else _code_of(error)
                self._watcher.error(error)
            return
        if code in (exits.USAGE, exits.FATAL) or (code == exits.UNREACHABLE and first):
            if self._code is None:
                self._code = code
                if error is not None:
                    self._watcher.error(error)
            self._drain()
            return
        got_on = any(counts.received for counts in slot.view.report.pipelines.values())
        if got_on or time.monotonic() - slot.started > HEALTHY_AFTER:
            slot.failures = 0
        delay = min(FIRST_DELAY * 2**slot.failures, LONGEST_DELAY)
        slot.failures += 1
        self._watcher.restarting(slot.view, code, delay)
        for other in self._slots:
            if other is slot or (slot.cluster and other.cluster == slot.cluster):
                if other.process is not None:
                    other.process.kill()
                    other.process.wait()
                    other.process = other.view.pid = None
                other.start_at = time.monotonic() + delay
                other.view.restarted()


_WAITING = re.compile(rb"\terror connecting to worker \d+: .*; retrying$")


def is_waiting_for_a_peer(line: bytes) -> bool:
    """Whether Bytewax says that another process of its cluster is not up yet, and tries again.

    All of them start at the same time, so that is no news and no error.
    """
    return _WAITING.search(line) is not None


def _code_of(error: ErrorReport) -> int:
    """Return the exit code of an error whose worker was ended by a signal when it had said so."""
    return exits.UNREACHABLE if error.unreachable else exits.FATAL


def _did_not_end(worker: WorkerView, seconds: float) -> ErrorReport:
    error = FatalError(
        f"worker {worker.index} of {worker.source} did not end within {seconds:g} s, and was killed.",
        code="drain_timeout",
        hint="What was in flight is not settled: its events come again at the next start."
        " `--drain-timeout` gives a stop more time.",
    )
    return ErrorReport(error.code, error.message, error.hint, unreachable=True)


def plan_workers(files: Sequence[Path], plan: FlowPlan, options: RunOptions) -> list[WorkerOrder]:
    """Return one order per worker: each source's partitions shared out over `options.workers`.

    A source that can't be shared out gets one worker, unless a pipeline of it is spread by key
    (`partition_by`): then all workers form a cluster. A sink that several workers write through is
    told apart by a label per worker ("" for the first), which another number of workers leaves to
    the same share of the same source.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    orders = []
    sources = [source for source in plan.sources if source.pipelines]
    used = {source.name: {s for p in source.pipelines for s in sinks_of(p)} for source in sources}
    users: dict[str, list[str]] = {}
    for source in sources:
        for sink in used[source.name]:
            users.setdefault(sink, []).append(source.name)
    for source in sources:
        partitioned = make_source(source).traits.partitioned
        spread = source.is_module and any(p.partition_by for p in source.pipelines)
        clustered = options.workers > 1 and spread
        for number in range(options.workers if partitioned or clustered else 1):
            writers = {}
            for name in used[source.name]:
                turn = number * len(users[name]) + users[name].index(source.name)
                writers[name] = str(turn) if turn else ""
            orders.append(
                WorkerOrder(
                    files=[str(path) for path in files],
                    source=source.name,
                    holder=holder,
                    report_fd=-1,
                    index=number if partitioned else 0,
                    of=options.workers if partitioned else 1,
                    writers=writers,
                    until_caught_up=options.until_caught_up,
                    log_format=options.log_format,
                    log_level=options.log_level,
                    drain_timeout=options.drain_timeout,
                    addresses=["127.0.0.1:0"] * options.workers if clustered else [],
                    process=number if clustered else 0,
                    reads=partitioned or number == 0,
                )
            )
    if options.only_replays:
        orders = [
            replace(order, index=0, of=1, only_replays=True)
            for order in orders
            if order.source in options.only_replays
        ]
    shards = [order.shard for order in orders]
    return [replace(order, shards=shards) for order in orders]


def free_addresses(count: int) -> list[str]:
    """Return `count` addresses on 127.0.0.1 whose ports are free now.

    Another process may take one before it is bound: then the cluster fails to start, and is
    started again with others.
    """
    with ExitStack() as held:
        addresses = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            addresses.append(f"127.0.0.1:{probe.getsockname()[1]}")
    return addresses
