"""Runs a process and reads what it costs, between 10 % and 100 % of its work.

The figure is CPU seconds (user + system, all threads of the process) per million events: steady on
a noisy machine. A process says how far it is on a pipe or on stdout; at each word its CPU time is
read from /proc, so start-up is left out and the broker is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """What one run cost."""

    cpu_per_million: float
    """Seconds."""
    rate: float
    """Events per second over the same span."""
    rss_mb: float
    """The most resident memory it had."""


@dataclass(frozen=True)
class Sample:
    """How far a process was, and what it had cost by then."""

    count: int
    cpu: float
    at: float
    rss_mb: float


def cpu_seconds(pid: int) -> float:
    """Return user + system CPU of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    """Return the high-water mark of a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(
    command: list[str],
    total: int,
    progress: Callable[[bytes], int],
    *,
    report_fd: bool = False,
    timeout: float = 300.0,
) -> Figure:
    """Run `command` until it has done `total` events; end it and return what it cost.

    `progress` turns a line into the events done so far. With `report_fd` the word `REPORT_FD` in
    the command is replaced by a pipe's number and lines are read there, else from stdout.
    """
    read_end, write_end = os.pipe()
    words = [word.replace("REPORT_FD", str(write_end)) for word in command]
    process = subprocess.Popen(
        words,
        stdout=sys.stderr if report_fd else write_end,
        pass_fds=[write_end] if report_fd else [],
    )
    os.close(write_end)
    samples: list[Sample] = []
    deadline = time.monotonic() + timeout
    try:
        for line in _lines(read_end):
            now = time.monotonic()
            count = progress(line)
            samples.append(Sample(count, cpu_seconds(process.pid), now, rss_mb(process.pid)))
            if count >= total:
                break
            if now > deadline:
                raise SystemExit(f"{words[:4]} did {count} of {total} events in {timeout} s")
        else:
            raise SystemExit(f"{words[:4]} ended after {samples[-1:]} of {total} events")
    finally:
        process.terminate()
        process.wait(30)
        os.close(read_end)
    first = next(sample for sample in samples if sample.count >= total * 0.1)
    last = samples[-1]
    done = last.count - first.count
    return Figure(
        cpu_per_million=(last.cpu - first.cpu) / done * 1e6,
        rate=done / (last.at - first.at),
        rss_mb=last.rss_mb,
    )


def middle(figures: list[Figure]) -> Figure:
    """Return the median of each figure over several runs."""
    return Figure(
        median(f.cpu_per_million for f in figures),
        median(f.rate for f in figures),
        max(f.rss_mb for f in figures),
    )


def _lines(fd: int) -> Iterator[bytes]:
    rest = b""
    while chunk := os.read(fd, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
