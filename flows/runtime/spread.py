"""What waits of pipelines that are spread over a cluster: whose it is, what is due, how much it is.

    process 0:  input ─ pulse ──┬── exchange ── what is due here ── steps ── settle
    process 1:                  └── exchange ── what is due here ── steps ── settle

An execution is parked by the process that ran it, in the transaction that settles its part of the
batch, and waits in that process, since later events of its key come there. Nothing of that is kept
in the state store: at the start each process asks `partition_by` of what is parked, and takes what is
its own. So another number of processes, or another `partition_by`, shares out anew what waits.

The processes that read know of what waits elsewhere from the state store: whether it is too much to
read on, and at the end whether anything is left to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.batch import Batch
from connectors.errors import PenstockError, RetryableError
from flows.runtime.exchange import CARRIED, share_of
from flows.state.history import decode_chunk
from flows.state.records import Parked, ParkedPlace
from transforms.executions import Executions
from transforms.expressions import Program

if TYPE_CHECKING:
    from flows.runtime.committer import Committer
    from flows.runtime.halt import Halt
    from flows.runtime.resuming import Resumer
    from flows.state.contracts import StateStore

PULSE_EVERY = 0.05
"""Seconds between pulses."""

LOOK = 0.1
"""Seconds between looks at what waits, while nothing is read because of it."""

TOGETHER = 500
"""Parked executions whose bodies are read at once."""


class DueHere:
    """What is due in this process of one pipeline that is spread."""

    def __init__(self, resumer: Resumer, halt: Halt) -> None:
        """`resumer` has this pipeline alone."""
        self._resumer = resumer
        self._halt = halt

    def take(self) -> Executions | None:
        """Return what is due, or None; a state store that is away is asked again at the next pulse.

        Raises FatalError, after which Bytewax ends the process, and with it the cluster.
        """
        if self._halt.asked():
            return None
        try:
            return self._resumer.take()
        except RetryableError:
            return None  # the committer says what is wrong with it, and waits too
        except PenstockError as error:
            self._halt.fail(error)
            raise


class WaitingElsewhere:
    """What waits of a source's spread pipelines in all processes, as one that reads sees it."""

    def __init__(
        self,
        flow: str,
        source: str,
        most: Mapping[str, int],
        *,
        readers: int,
        committer: Committer,
        open_store: Callable[[], StateStore],
    ) -> None:
        """`most`: pipeline → how many may wait. `readers`: processes that read, and share that."""
        self._flow = flow
        self._source = source
        self._most = most
        self._readers = readers
        self._committer = committer
        self._open_store = open_store
        self._store: StateStore | None = None
        self._room = 0
        """Events that may be read before it is to be looked again: if all of them came to wait."""
        self._why = ""
        self._unfinished = True
        self._looked = self._beat = 0.0

    def is_due(self) -> bool:
        """Whether it is time for a pulse; if so, it is not before a while."""
        now = time.monotonic()
        if now - self._beat < PULSE_EVERY:
            return False
        self._beat = now
        return True

    def read(self, count: int) -> None:
        """Tell how many events were read."""
        self._room -= count

    def full(self) -> str:
        """Return why no new event may be read just now; "" when it may."""
        if self._room <= 0 and not (self._why and self._is_soon()):
            with suppress(RetryableError):  # as it was: the committer waits for the store, too
                self._count(self._opened().waiting.counts(self._flow))
        return self._why

    def _count(self, waiting: Mapping[str, int]) -> None:
        self._looked = time.monotonic()
        self._why = ""
        rooms = []
        for name, most in self._most.items():
            count = waiting.get(name, 0)
            rooms.append(-(-(most - count) // self._readers))
            if count >= most:
                self._why = f"pipeline {name}: {count:,} executions wait (max_parked: {most:,})"
        self._room = max(0, min(rooms))

    def unfinished(self) -> bool:
        """Whether any goes on without somebody who resumes it. Asked at the end of the source."""
        if self._committer.outstanding:
            return True  # what is parked with it is not in the store yet
        if not self._is_soon():
            with suppress(RetryableError):
                places = self._opened().parked_places(self._flow, self._source)
                self._looked = time.monotonic()
                self._unfinished = goes_on(each for each in places if each.pipeline in self._most)
        return self._unfinished

    def _is_soon(self) -> bool:
        return time.monotonic() - self._looked < LOOK

    def _opened(self) -> StateStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()


def goes_on(places: Iterable[ParkedPlace]) -> bool:
    """Return whether any of these, in the order of their turns, is neither paused nor behind one that is."""
    held: set[tuple[str, str]] = set()
    for place in places:
        lane = None if place.lane is None else (place.pipeline, place.lane)
        if place.paused_at is None and (lane is None or lane not in held):
            return True
        if lane is not None:
            held.add(lane)
    return False


@dataclass(frozen=True, slots=True)
class Share:
    """One process's share of a pipeline's executions."""

    program: Program
    """The pipeline's `partition_by`."""
    process: int
    of: int

    def of_places(
        self, places: Sequence[ParkedPlace], read: Callable[[list[str]], list[Parked]]
    ) -> list[ParkedPlace]:
        """Return those of the pipeline's parked executions that are in it, in their order.

        `read` returns parked executions by their ids.
        """
        mine: list[ParkedPlace] = []
        for start in range(0, len(places), TOGETHER):
            part = places[start : start + TOGETHER]
            found = read([place.id for place in part])
            ids = {each.place.id for each in found if self._has(each)}
            mine += [place for place in part if place.id in ids]
        return mine

    def _has(self, parked: Parked) -> bool:
        """Return whether it is in it. What the program fails for is the first one's.

        The program sees what it sees of a new event: no outputs. Of those for which it fails, no later
        event of their key comes to wait behind them: it fails before its first step.
        """
        chunk = decode_chunk(parked.body).executions
        columns = {name: chunk.events.column(name) for name in CARRIED}
        execution = Executions(
            events=Batch(1, columns, after={}),
            pipeline=parked.place.pipeline,
            base_meta=chunk.base_meta,
        )
        values, errors = self.program.column(execution, [0])
        return self.process == (0 if errors else share_of(values[0], self.of))
