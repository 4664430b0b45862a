"""A job's process: `python -m backfill.process ORDER`, ORDER being a backfill.order.Order in JSON.

It yields to live traffic: it has a lower priority for the CPU, works through small batches, and asks the
state store for a transaction a second at the most (live: one a batch, as a live worker). It looks twice a
second whether somebody wants it paused or cancelled.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from backfill.order import Order
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.failpoints import fail_point
from flows.runtime import exits
from flows.runtime.halt import Halt

if TYPE_CHECKING:
    from backfill.planning import Prepared
    from flows.state.backfills import Backfill, Status
    from flows.state.contracts import StateStore
    from flows.state.records import Lease

NICENESS = 10
"""Of the process: with all CPUs busy, a live worker gets nine times as much."""

LOOK_EVERY = 0.5
"""Seconds between two signs of life, and looks at what is wanted."""

LEASE_TTL = 10.0
"""Seconds after which a silent process's job may be taken over."""


def main(argument: str) -> int:
    """Run the job that `argument` orders to its end; return the exit code."""
    from flows.runtime.logs import set_up_logging  # noqa: PLC0415 - after what `__main__` does
    from flows.runtime.tuning import spare_the_collector, tune_memory  # noqa: PLC0415

    if sys.platform == "linux":
        tune_memory()
    halt = Halt()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: halt.ask())
    set_up_logging("warning", "json", str)
    # Not before all of that is imported: under load it would take a minute to begin.
    be_nice()
    spare_the_collector()
    order = Order(**orjson.loads(argument))
    if not order.state:
        order = replace(order, state=os.environ["PENSTOCK_STATE_URL"])
    return run(order, halt)


def run(order: Order, halt: Halt) -> int:
    """Run a job in this process to its end, or until `halt` asks; return the exit code."""
    from flows.state.store import open_store  # noqa: PLC0415 - see main

    with closing(open_store(order.state)) as store:
        job = store.backfills.get(order.job)
        if job is None:
            return exits.USAGE
        if job.status in {"done", "cancelled"}:
            return exits.DONE  # one that is over has no positions: it would do all of it again
        try:
            prepared = _prepared(order, job)
            _Process(order, job, prepared, store, halt).run()
        except PenstockError as error:
            _tell(store, job, error)
            return exits.FATAL
    return exits.DONE


def _prepared(order: Order, job: Backfill) -> Prepared:
    from backfill.jobs import request_of  # noqa: PLC0415
    from backfill.planning import prepare  # noqa: PLC0415
    from flows.plan import load_flow  # noqa: PLC0415

    plan = load_flow([Path(name) for name in order.files])
    other = load_flow([Path(name) for name in order.with_files]) if order.with_files else None
    return prepare(plan, request_of(job), other)


def _tell(store: StateStore, job: Backfill, error: PenstockError) -> None:
    told = {"code": error.code, "message": error.message, "hint": error.hint}
    with suppress(PenstockError):  # then it is told as interrupted
        current = store.backfills.get(job.id)
        events = job.events if current is None else current.events
        if error.code != "backfill_running":
            store.backfills.end(job.id, "failed", events, told)


class _Process:
    def __init__(
        self, order: Order, job: Backfill, prepared: Prepared, store: StateStore, halt: Halt
    ) -> None:
        self._order = order
        self._job = job
        self._prepared = prepared
        self._store = store
        self._halt = halt
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    def run(self) -> None:
        """Run the job, and tell how it ended. Raises PenstockError."""
        store, job = self._store, self._job
        if job.mode == "live":
            at_end, events = self._run_live()
            if at_end:
                return  # as it has told
        else:
            at_end, events = self._run_dry()
        wanted = store.backfills.wanted(job.id)
        status: Status = "done" if at_end else "cancelled" if wanted == "cancel" else "paused"
        store.backfills.end(job.id, status, events, None)

    def _run_dry(self) -> tuple[bool, int]:
        from backfill.dry import DryRun  # noqa: PLC0415 - the mode's own

        store, job = self._store, self._job
        lease = self._lease()
        if lease is None:
            return False, job.events
        try:
            store.backfills.begin(job.id)
            run = DryRun(self._prepared, job, store, lease, self._halt)
            with _Pulse(self._order, job, self._halt, lambda: run.counts.read, lease):
                return run.run(), run.counts.read
        finally:
            store.release_lease(lease)

    def _lease(self) -> Lease | None:
        """Wait until the job is ours; None when asked to stop before.

        A process that was killed still has it for some seconds. Raises FatalError `backfill_running` when
        another one goes on.
        """
        store, job = self._store, self._job
        deadline = time.monotonic() + LEASE_TTL + 1.0
        while True:
            lease = store.acquire_lease(job.flow, f"{job.owner}/0", self._holder, LEASE_TTL)
            if lease is not None:
                return lease
            if time.monotonic() > deadline:
                raise _runs_elsewhere(job)
            if self._halt.wait(0.1):
                return None

    def _run_live(self) -> tuple[bool, int]:
        from backfill.live import LiveJob, live_plan, live_report  # noqa: PLC0415 - the mode's own
        from flows.runtime.orders import WorkerOrder  # noqa: PLC0415
        from flows.runtime.reporter import Reporter  # noqa: PLC0415
        from flows.runtime.worker import run_worker  # noqa: PLC0415

        store, job, prepared = self._store, self._job, self._prepared
        store.backfills.begin(job.id)
        live = LiveJob(prepared, job, store)
        sinks = [sink.name for sink in prepared.plan.sinks]
        order = WorkerOrder(
            files=self._order.files,
            source=job.owner,
            holder=self._holder,
            report_fd=-1,
            writers=dict.fromkeys(sinks, job.run),
        )
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a file descriptor is asked for
            reporter = Reporter(nowhere.fileno(), self._halt)
            with _Pulse(self._order, job, self._halt, lambda: live.read):
                run_worker(order, live_plan(prepared, job), self._halt, reporter, job=live)
            reporter.close(self._halt.error)
        if self._halt.error is not None:
            raise self._halt.error
        at_end = not self._halt.asked()
        report = live_report(store, job)
        if at_end:
            fail_point("backfill_before_end")
            store.backfills.finish(job, report.read, report.document())
            fail_point("backfill_after_end")
        else:
            store.backfills.keep_report(job.id, report.document())
        return at_end, report.read


class _Pulse:
    """A thread that tells the store that the job's process lives, and stops it when somebody wants that."""

    def __init__(
        self,
        order: Order,
        job: Backfill,
        halt: Halt,
        events: Callable[[], int],
        lease: Lease | None = None,
    ) -> None:
        """`lease` is prolonged; None: somebody else does."""
        self._order = order
        self._job = job
        self._halt = halt
        self._events = events
        self._lease = lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        from flows.state.store import reopen_store  # noqa: PLC0415 - see main

        told = time.monotonic()
        store = reopen_store(self._order.state)
        while not self._over.wait(LOOK_EVERY):
            try:
                now = time.monotonic()
                store.backfills.alive(self._job.id, now - told, self._events())
                told = now
                if self._lease is not None and not store.renew_lease(self._lease, LEASE_TTL):
                    self._halt.fail(_runs_elsewhere(self._job))
                if store.backfills.wanted(self._job.id) != "run":
                    self._halt.ask()
            except RetryableError:
                continue
            except PenstockError as error:
                self._halt.fail(error)
                break
        store.close()


def _runs_elsewhere(job: Backfill) -> FatalError:
    return FatalError(
        f"another process runs backfill {job.id}.",
        code="backfill_running",
        hint=f"`penstock backfill status {job.id}` says how far it is.",
    )


def be_nice() -> None:
    """Leave the CPU to others.

    Linux may weigh sessions against each other first (sched(7), autogroups): then a session's own
    niceness is what counts.
    """
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="ascii")


if __name__ == "__main__":
    sys.modules["rich"] = None  # type: ignore[assignment]  # as in flows.runtime.process
    sys.exit(main(sys.argv[1]))
