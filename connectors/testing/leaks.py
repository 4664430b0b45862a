"""Threads and connections that outlive the connector that made them."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.testing.waiting import expect


@contextmanager
def no_leaks(*, seconds: float = 5.0) -> Iterator[None]:
    """Raise AssertionError when a thread, socket or open file of the block is still there after it.

    Native threads are counted too where /proc shows them (a C client's own). They have `seconds`
    to go: what a server or the operating system ends a moment later is no leak.
    """
    threads, native, files = set(threading.enumerate()), _native_threads(), _open_files()
    yield
    gc.collect()
    deadline = time.monotonic() + seconds
    while True:
        left = [thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()]
        more = _native_threads() - native
        # By count: the same file, /dev/null for one, may be open already.
        opened = sorted((_open_files() - files).elements())
        if not left and not more and not opened:
            return
        expect(
            time.monotonic() < deadline,
            f"left over {seconds:g} s after closing: threads {left}, {len(more)} native threads, "
            f"open files {opened}",
        )
        time.sleep(0.05)


def _native_threads() -> set[str]:
    tasks = Path("/proc/self/task")
    return {task.name for task in tasks.iterdir()} if tasks.is_dir() else set()


def _open_files() -> Counter[str]:
    """Count what the process has open; sockets are `socket:[inode]`. Empty without /proc."""
    found: Counter[str] = Counter()
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return found
    for entry in folder.iterdir():
        try:
            found[os.readlink(entry)] += 1  # noqa: PTH115 - `socket:[7]` is no path
        except OSError:  # the folder's own descriptor, gone by now
            continue
    return found
