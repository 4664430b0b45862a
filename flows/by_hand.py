"""Pipelines without a source: what stands where their source would.

They are started by hand or over the API. What starts one is kept in the state store as an entry of a replay
(`dlq/trigger.py`), and every worker's inbox brings that in; so all they need is a worker, whose reader
has nothing to read. One worker runs all such pipelines of a flow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from connectors.batch import Batch
from connectors.contracts import Check, Opening, Reader, SourceTraits
from flows.runtime.unread import Unread

BY_HAND = "@by-hand"
"""What stands for their source: a name that no module can have."""

BY_HAND_TYPE = "by_hand"
"""Its type, which no flow file can name."""


class ByHand:
    """A `connectors.contracts.Source` of which nothing is read."""

    traits = SourceTraits(
        ordered=True, replayable=True, seek_by_time=False, partitioned=False, json=True
    )

    def preflight(self) -> Iterable[Check]:
        """Connect to nothing: there is nothing to check."""
        return ()

    def open(self, opening: Opening) -> Reader:  # noqa: ARG002 - the contract's
        """Return a reader to which nothing comes."""
        return _Quiet()


class _Quiet(Unread):
    """A `connectors.contracts.Reader` to which nothing comes; it never ends. There is one worker for it."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def poll(self, limit: int, timeout: float) -> Batch | None:  # noqa: ARG002 - the contract's
        """Wait for as long as a source would: the intake has other duties in between."""
        self._closed.wait(timeout)
        return None

    def close(self) -> None:
        """Let a waiting `poll` return."""
        self._closed.set()
