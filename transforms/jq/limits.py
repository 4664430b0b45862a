"""Bounds on what a program may cost: time, memory, recursion, outputs.

A thread watches the runs that are armed and raises `Overdue` in the thread of one that takes too long,
or under which the process grows too much: nothing is counted per step of a program. The exception
reaches code between `begin` and `end` only: it is taken back under the lock when it came too late.

A finalizer, or a callback of the garbage collector, swallows whatever is raised in it. So the watch waits
for a moment at which the program itself is running, and raises again where that did not end the run.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from transforms.jq.errors import TooLarge

SECONDS = 1.0
"""Time of one program over one event, by the clock on the wall, if its thread computed for a good part of
it: a machine that stalls, or has no processor to spare, makes no program a runaway."""

PER_EVENT = 0.002
"""Wall time that each further event of a batch adds, before it is gone through one by one."""

MOST_OUTPUTS = 100_000
"""Outputs of one program over one event."""

_GROWTH = 256 * 1024 * 1024
_TICK = 0.02
_GRACE = 1.0
"""Seconds that a run which is over its bound has to come back to code of ours."""
_AGAIN = 1.0
"""Seconds after which a run that goes on is ended again."""
_OURS = ("<jq ", str(Path(__file__).parents[1]) + os.sep)
"""How the names begin of files whose code lets an exception through: generated ones, and the package's."""
_IDLE = 1.0
_BUSY = 0.3
"""Part of its time that a run has to have computed to be stopped."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

T = TypeVar("T")


class Overdue(BaseException):
    """Raised by the watch in the thread of a run. Not an Exception: nothing of a program catches it."""


class OverLimit(Exception):  # noqa: N818 - reads as what is wrong
    """A program exceeded a bound; the text says which."""


@dataclass(slots=True, eq=False)
class _Armed:
    thread: int
    deadline: float
    seconds: float
    memory: int | None = None
    """Bytes of the process when the watch first saw this run."""
    computed: float | None = None
    """Seconds of processor time that its thread had had by then."""
    over: str = ""
    """The bound that it exceeds."""
    next_look: float = 0.0
    """When to raise, wherever it is by then."""
    fired: bool = False


class Watch:
    """One thread per process, which sleeps while nothing is armed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._armed: list[_Armed] = []
        self._thread: threading.Thread | None = None
        self._asleep = False

    def begin(self, seconds: float) -> _Armed:
        """Arm the calling thread's run, which may take `seconds`."""
        armed = _Armed(threading.get_ident(), time.monotonic() + seconds, seconds)
        with self._lock:
            self._armed.append(armed)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jq-watch", daemon=True)
                self._thread.start()
            elif self._asleep:
                self._wake.notify()
        return armed

    def end(self, armed: _Armed) -> None:
        """Disarm a run; an exception that is still under way to it is taken back."""
        with self._lock:
            if armed in self._armed:
                self._armed.remove(armed)
                if armed.fired:
                    _raise_in(armed.thread, None)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            with self._lock:
                now = time.monotonic()
                if self._armed:
                    idle_since = now
                    self._look(now)
                elif now - idle_since > _IDLE:
                    self._asleep = True
                    self._wake.wait()
                    self._asleep = False
                    idle_since = time.monotonic()
            time.sleep(_TICK)

    def _look(self, now: float) -> None:
        memory = _memory()
        for armed in self._armed:
            if armed.memory is None:
                armed.memory, armed.computed = memory, _computed(armed.thread)
            if not armed.over:
                if now > armed.deadline and _is_busy(armed):
                    armed.over = "time"
                elif memory - armed.memory > _GROWTH:
                    armed.over = "memory"
                else:
                    continue
                armed.next_look = now + _GRACE
            if now < armed.next_look and (armed.fired or not _is_in_ours(armed.thread)):
                continue
            armed.fired, armed.next_look = True, now + _AGAIN
            _raise_in(armed.thread, Overdue)


def _is_in_ours(thread: int) -> bool:
    """Whether what a thread is running, now that it has stopped for the watch, is code of ours."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to see it
    return frame is not None and frame.f_code.co_filename.startswith(_OURS)


def _is_busy(armed: _Armed) -> bool:
    """Whether the run itself is to blame for the time that it has taken."""
    computed = _computed(armed.thread)
    if computed is None or armed.computed is None:
        return True
    return computed - armed.computed > armed.seconds * _BUSY


def _computed(thread: int) -> float | None:
    """Return the seconds of processor time of a thread that lives; None where the system can't tell."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    except (AttributeError, OSError):
        return None


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    what = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def _memory() -> int:
    """Return the bytes of this process; 0 where the system doesn't say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - opened fifty times a second
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


_watch = Watch()


def _renew() -> None:
    """Begin anew in a forked process, which has none of its parent's threads."""
    global _watch  # noqa: PLW0603 - one per process
    _watch = Watch()


os.register_at_fork(after_in_child=_renew)


def bounded(run: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what `run` returns. Raises OverLimit where it exceeds a bound, and whatever it raises."""
    watch = _watch
    armed = None
    try:
        try:
            armed = watch.begin(seconds)
            return run()
        finally:
            if armed is not None:
                watch.end(armed)
    except Overdue:
        over = _ended(watch, armed)
        if over == "memory":
            raise OverLimit("it takes more memory than 256 MB") from None
        raise OverLimit(f"it takes longer than {seconds:g} s") from None
    except RecursionError:
        raise OverLimit("it recurses too deeply") from None
    except MemoryError:
        raise OverLimit("it takes more memory than there is") from None
    except TooLarge as error:
        raise OverLimit(str(error)) from None


def _ended(watch: Watch, armed: _Armed | None) -> str:
    """Disarm a run that was ended, though it be ended once more meanwhile; return the bound it exceeded."""
    while armed is not None:
        try:
            watch.end(armed)
        except Overdue:
            continue
        return armed.over
    return ""
