"""Keeps what senders send, many requests in one transaction, and brings them what came of it.

One thread with a connection of its own. While a transaction is being written, requests gather for the
next: an fsync is paid once for all of them. Nobody is answered before it has returned.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from connectors.errors import PenstockError, RetryableError
from flows.state.contracts import StateStore
from flows.state.inbox import Incoming, Kept, Outcome

MOST, HEAVIEST = 500, 16 << 20
"""Events, and bytes of them, in one transaction (one request is, however large)."""

MOST_QUEUED, HEAVIEST_QUEUED = 5000, 128 << 20
"""Events, and bytes of them, that may wait for a transaction; more are refused."""

LOOK_EVERY = 0.01
"""Seconds between looks for outcomes while somebody waits for one."""

COUNT_EVERY, PRUNE_EVERY = 1.0, 60.0
"""Seconds between counts of what waits for pipelines, and between looks for what is old."""

REMEMBER = 24 * 3600.0
"""Seconds for which a delivery that comes again is told, and gets the answer of the first."""

log = structlog.get_logger("penstock.api")


@dataclass(slots=True, eq=False)
class _Job:
    source: str
    events: Sequence[Incoming]
    weight: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Kept]]


@dataclass(slots=True, eq=False)
class _Waiter:
    source: str
    number: int
    pipelines: Collection[str]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Mapping[str, Outcome]]


@dataclass(slots=True)
class _Desk:
    """What the event loop and the thread share; under the condition's lock."""

    jobs: list[_Job] = field(default_factory=list)
    events: int = 0
    weight: int = 0
    waiters: dict[tuple[str, int], list[_Waiter]] = field(default_factory=lambda: defaultdict(list))
    closing: bool = False


class Keeper:
    """The one writer of a flow's inboxes in this process."""

    def __init__(self, open_store: Callable[[], StateStore], flow: str) -> None:
        self._open_store = open_store
        self._flow = flow
        self._desk = _Desk()
        self._condition = threading.Condition()
        self._waiting: dict[str, int] = {}
        self._thread: threading.Thread | None = None

    def is_full(self) -> bool:
        """Whether so much waits to be written that no more may be taken."""
        desk = self._desk
        return desk.events >= MOST_QUEUED or desk.weight >= HEAVIEST_QUEUED

    def waiting(self, source: str) -> int:
        """Return about how many events of a source wait for their pipelines."""
        return self._waiting.get(source, 0)

    async def keep(self, source: str, events: Sequence[Incoming]) -> list[Kept]:
        """Store the events of one request; durable when it returns. Raises RetryableError."""
        loop = asyncio.get_running_loop()
        weight = sum(len(each.head) + len(each.raw or b"") for each in events)
        job = _Job(source, events, weight, loop, loop.create_future())
        with self._condition:
            self._begin()
            self._desk.jobs.append(job)
            self._desk.events += len(events)
            self._desk.weight += weight
            self._condition.notify_all()
        return await job.future

    async def outcome(
        self, source: str, number: int, pipelines: Collection[str], timeout: float
    ) -> Mapping[str, Outcome] | None:
        """Return what each pipeline made of an event; None when that takes longer."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(source, number, pipelines, loop, loop.create_future())
        with self._condition:
            self._begin()
            self._desk.waiters[source, number].append(waiter)
            self._condition.notify_all()
        try:
            return await asyncio.wait_for(waiter.future, timeout)
        except asyncio.TimeoutError:
            return None
        finally:
            with self._condition:
                left = self._desk.waiters.get((source, number), [])
                if waiter in left:
                    left.remove(waiter)
                if not left:
                    self._desk.waiters.pop((source, number), None)

    def close(self, timeout: float = 4.0) -> None:
        """Write what has been taken, and end."""
        with self._condition:
            self._desk.closing = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        store: StateStore | None = None
        looked = counted = pruned = 0.0
        while True:
            jobs, waits, closing = self._take(looked)
            if closing and not jobs:
                break
            try:
                store = store or self._open_store()
                if jobs:
                    self._write(store, jobs)
                now = time.monotonic()
                if waits and now - looked >= LOOK_EVERY:
                    looked = now
                    self._bring(store)
                if now - counted >= COUNT_EVERY:
                    counted = now
                    self._waiting = store.inbox.waiting(self._flow)
                if not jobs and now - pruned >= PRUNE_EVERY:
                    pruned = now
                    store.inbox.prune(self._flow, time.time() - REMEMBER)
            except PenstockError as error:
                if jobs:
                    _refuse(jobs, error)
                else:
                    log.warning("inbox", code=error.code, error=error.message)
                    time.sleep(0.5)
            except Exception as error:  # whoever waits is told, and the next request is tried anew
                log.exception("the inbox broke")
                _refuse(jobs, RetryableError(f"the inbox broke: {error}.", code="internal_error"))
        if store is not None:
            store.close()

    def _take(self, looked: float) -> tuple[list[_Job], bool, bool]:
        """Wait for something to do; return what is to be written, and whether others wait."""
        with self._condition:
            desk = self._desk
            if not desk.jobs and not desk.closing:
                if desk.waiters:
                    pause = looked + LOOK_EVERY - time.monotonic()
                else:
                    pause = COUNT_EVERY if any(self._waiting.values()) else PRUNE_EVERY
                if pause > 0:
                    self._condition.wait(pause)
            count = events = weight = 0
            for job in desk.jobs:
                if count and (events + len(job.events) > MOST or weight + job.weight > HEAVIEST):
                    break
                count, events, weight = count + 1, events + len(job.events), weight + job.weight
            jobs, desk.jobs = desk.jobs[:count], desk.jobs[count:]
            desk.events -= events
            desk.weight -= weight
            return jobs, bool(desk.waiters), desk.closing

    def _write(self, store: StateStore, jobs: Sequence[_Job]) -> None:
        by_source: dict[str, list[Incoming]] = {}
        for job in jobs:
            by_source.setdefault(job.source, []).extend(job.events)
        kept = {
            source: iter(found) for source, found in store.inbox.keep(self._flow, by_source).items()
        }
        results = [[next(kept[job.source]) for _ in job.events] for job in jobs]
        for job, found in zip(jobs, results, strict=True):
            new = sum(not each.again for each in found)
            self._waiting[job.source] = self._waiting.get(job.source, 0) + new
        _tell(
            (job.loop, partial(_give, job.future, found))
            for job, found in zip(jobs, results, strict=True)
        )

    def _bring(self, store: StateStore) -> None:
        """Tell those that wait what came of their events."""
        with self._condition:
            waiters = [each for several in self._desk.waiters.values() for each in several]
        by_source: dict[str, list[int]] = {}
        for waiter in waiters:
            by_source.setdefault(waiter.source, []).append(waiter.number)
        ready: list[tuple[_Waiter, Mapping[str, Outcome]]] = []
        for source, numbers in by_source.items():
            found = store.inbox.outcomes(self._flow, source, sorted(set(numbers)))
            for waiter in waiters:
                outcomes = found.get(waiter.number) if waiter.source == source else None
                if outcomes and all(name in outcomes for name in waiter.pipelines):
                    ready.append((waiter, outcomes))
        _tell((waiter.loop, partial(_give, waiter.future, found)) for waiter, found in ready)


def _refuse(jobs: Sequence[_Job], error: PenstockError) -> None:
    _tell((job.loop, partial(_fail, job.future, error)) for job in jobs)


def _tell(news: Iterable[tuple[asyncio.AbstractEventLoop, Callable[[], None]]]) -> None:
    """Have each loop do what is for it, with one call for all of it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for loop, work in news:
        by_loop.setdefault(loop, []).append(work)
    for loop, works in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(_do, works)


def _do(works: Sequence[Callable[[], None]]) -> None:
    for work in works:
        work()


def _give(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: PenstockError) -> None:
    if not future.done():
        future.set_exception(error)
