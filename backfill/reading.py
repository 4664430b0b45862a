"""The reader of a job: a window of a source, filtered, at a rate, counted.

How many events were read stands among the positions, as that of a partition of its own: so it is
stored with what they have come to, in whichever mode, and a job that is killed counts none twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from backfill.conditions import Keep
from connectors.batch import Batch, Position
from connectors.contracts import Lag, Reader
from flows.runtime.halt import Halt

READ, LEFT_OUT = "~read", "~left-out"
"""The partitions whose positions are counts. No source's begins so."""


@dataclass(slots=True)
class Counts:
    """How many events were read, and how many of them the filter left out."""

    read: int = 0
    left_out: int = 0

    @classmethod
    def of(cls, positions: Mapping[str, Position]) -> Counts:
        """Return what positions say."""
        return cls(int(positions.get(READ, 0)), int(positions.get(LEFT_OUT, 0)))

    def positions(self) -> dict[str, Position]:
        """Return them as positions; as text they sort as numbers do."""
        return {READ: f"{self.read:020}", LEFT_OUT: f"{self.left_out:020}"}


def without_counts(positions: Mapping[str, Position]) -> dict[str, Position]:
    """Return the positions of the source's own partitions."""
    return {name: at for name, at in positions.items() if not name.startswith("~")}


class JobReader:
    """A `connectors.contracts.Reader` around another, which nothing is acknowledged to."""

    def __init__(
        self,
        reader: Reader,
        counts: Counts,
        halt: Halt,
        *,
        keep: Keep | None = None,
        rate: float | None = None,
    ) -> None:
        """`rate`: events per second that are read at the most."""
        self.counts = counts
        self._reader = reader
        self._halt = halt
        self._keep = keep
        self._rate = rate
        self._left = 0.0
        self._filled = time.monotonic()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what there is, as `Reader.poll` does; what is left out moves the position alone."""
        if self._rate is not None:
            limit = min(limit, self._allowed(self._rate, timeout))
            if not limit:
                return None
        batch = self._reader.poll(limit, timeout)
        if batch is None:
            return None
        self._left -= batch.size
        counts = self.counts
        counts.read += batch.size
        kept = None if self._keep is None or not batch.size else self._keep(batch)
        after = batch.after
        if kept is not None:
            counts.left_out += batch.size - len(kept)
            weight = batch.weight
            batch = batch.pick(kept) if kept else Batch(0, {}, after={})
            batch.weight = weight
        batch.after = {**after, **counts.positions()}
        return batch

    def _allowed(self, rate: float, timeout: float) -> int:
        """Return how many events may be read now; waits for the first of them, within `timeout`."""
        now = time.monotonic()
        # A second's worth at once, at the most: a job that was held up does not make up for it.
        self._left = min(self._left + (now - self._filled) * rate, max(rate, 1.0))
        self._filled = now
        if self._left < 1.0:
            self._halt.wait(min(timeout, (1.0 - self._left) / rate))
            return 0
        return int(self._left)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Tell nobody: what live reading goes by is not the job's."""

    def owns(self, partition: str) -> bool:
        """Whether the job runs what waits of a partition: of whichever."""
        del partition
        return True

    def lag(self) -> Mapping[str, Lag]:
        """Return nothing: a job's progress is told by its counts."""
        return {}

    def status(self) -> str:
        """Return what the source waits for, or ""."""
        return self._reader.status()

    def close(self) -> None:
        """Close the source."""
        self._reader.close()
