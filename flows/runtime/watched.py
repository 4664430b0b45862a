"""Whether anybody watches, for a flow's workers to see: eight bytes that they share with their supervisor.

They hold the time, on the machine's monotonic clock, until which somebody does. So nothing is sent to
workers, and one looks when it has something else to do anyway.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_SIZE = 8
_UNTIL = struct.Struct("d")

LASTS = 3.0
"""Seconds for which `WatchFlag.watch` holds; who goes on watching calls it again."""


class WatchFlag:
    """The supervisor's side; `fileno` is what workers inherit."""

    def __init__(self) -> None:
        self._fd = _nameless_file()
        os.ftruncate(self._fd, _SIZE)
        self._shared = mmap.mmap(self._fd, _SIZE)

    def fileno(self) -> int:
        """Return the descriptor to pass on."""
        return self._fd

    def watch(self) -> None:
        """Tell the workers that somebody watches. For any thread."""
        _UNTIL.pack_into(self._shared, 0, time.monotonic() + LASTS)


def _nameless_file() -> int:
    """Return the descriptor of a file without a name: it is there for as long as somebody has it open."""
    if hasattr(os, "memfd_create"):  # Linux: it needs no folder that can be written to
        return os.memfd_create("penstock")
    fd, name = tempfile.mkstemp(prefix="penstock-")
    Path(name).unlink()
    return fd


def is_watched(fd: int) -> Callable[[], bool]:
    """Return what tells whether somebody watches; of a negative descriptor, nobody does."""
    if fd < 0:
        return lambda: False
    shared = mmap.mmap(fd, _SIZE, access=mmap.ACCESS_READ)
    return lambda: bool(_UNTIL.unpack_from(shared)[0] > time.monotonic())
