"""What a worker asks of Python, the C library and the kernel for its process."""

from __future__ import annotations

import ctypes
import gc
import signal
from contextlib import suppress


def spare_the_collector() -> None:
    """Keep the garbage collector off a batch in flight, and off what lives as long as the worker.

    A batch of decoded events is tens of thousands of containers that reference counting frees when
    the batch is through; with the default thresholds the collector walks them again and again
    (measured: up to half of a flow's CPU). Cycles that a user's code makes are still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what reading the flow has left behind


def die_with_supervisor() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies (prctl(2))."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)


def tune_memory() -> None:
    """Have glibc keep what a batch frees for the next one, in one arena (mallopt(3)).

    A history chunk's buffers, and an answer to a fetch from Kafka (1 MB), are large enough to be mapped and
    unmapped anew each time, or to be given back from the end of the heap. Measured, for history: 200 page
    faults a batch, which are a quarter of what it costs; for fetches: 100 a batch of events of 440 bytes.
    And a dozen threads, most of them librdkafka's, would each grow an arena of their own. Another libc has
    no mallopt, and does without.
    """
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 1536 << 10)
        mallopt(m_trim_threshold, 6 << 20)
        mallopt(m_arena_max, 1)
