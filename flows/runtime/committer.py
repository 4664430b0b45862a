"""Makes outcomes durable: settlements and checkpoint in one transaction, on a thread of its own.

The dataflow's thread gives a batch's settlements to `settle` and, when the epoch gate says that
every branch is through, its positions to `checkpoint`. What belongs together is committed
together, so one fsync pays for a batch, the next batch runs while it is written, and several
small batches share one (group commit). Only what is durable is ever handed out as acknowledgeable.

    effects durable → settlements + checkpoint durable → acknowledged upstream
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from connectors.batch import Batch, Position, is_of_another
from connectors.contracts import Lag
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.failpoints import fail_point
from connectors.threads import watched
from flows.runtime.backoff import Backoff
from flows.runtime.halt import Halt
from flows.state.archive_bodies import HeldBatch, archive_chunk, hold
from flows.state.contracts import StateStore
from flows.state.history import compress_history
from flows.state.records import Counts, Lease, Settlement

if TYPE_CHECKING:  # it loads Bytewax, which `penstock test` has no use for
    from flows.runtime.exchange import Marks

OUTSTANDING_BATCHES, OUTSTANDING_EVENTS, OUTSTANDING_BYTES = 300, 3000, 16 << 20
"""What may wait for the transaction before the dataflow does: three full batches, or
many small ones, so that an fsync of most of a second delays nobody while little is going on (a
thousand events a second come in some 400 batches). More would only let more be repeated after a crash. The
bytes are of events that are to be archived."""

ENOUGH, ENOUGH_WITH_HISTORY = 1.0, 2 / 3
"""The part of it at which a transaction begins, whenever the last one did. All of it saves a tenth of the CPU
of passing events on (3.02 for 3.36 µs). What history holds is compressed first: the dataflow would wait for
that too (measured: a seventh fewer events a second)."""

GATHERING = 0.02
"""Seconds between the beginnings of two transactions while nobody waits for the second: what is settled
meanwhile shares it. One costs about a millisecond of CPU and an fsync, whatever is in it."""

LEASE_TTL = 10.0
"""Seconds after which a silent holder's shard may be taken over."""

FIRST_DELAY, LONGEST_DELAY = 0.05, 5.0
"""Backoff in seconds while the state store is away."""

LONGEST_UNPRUNED = 1.5
"""Times `prune_every` after which it prunes though there is something to store: a flow may never idle."""

PATIENCE = 20.0
"""Seconds that a drain waits for a state store that is away, before its events are left to come again."""


@dataclass(slots=True, eq=False)
class _Unit:
    settlements: list[Settlement]
    positions: dict[str, Position] = field(default_factory=dict)
    marks: dict[str, dict[str, Position]] | None = None
    """Owner → how far it has settled its share, of what another process checkpoints: see `flush`."""
    gone_back: list[str] = field(default_factory=list)
    """Source partitions whose marks mean nothing any more: see `checkpoint`."""
    transaction: str = ""
    layout: str = ""
    is_prepared: bool = False
    """Its transaction is committed: see `prepare`."""
    to_archive: list[HeldBatch] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many executions it settles."""
        counts = [settlement.counts for settlement in self.settlements]
        return sum(count.done + count.failed + count.skipped for count in counts)

    @property
    def weight(self) -> int:
        """How many bytes wait to be archived."""
        return sum(held.weight for held in self.to_archive)


class Committer:
    """One shard's writer to the state store. `settle`, `checkpoint`, `take` are the dataflow's."""

    def __init__(
        self,
        open_store: Callable[[], StateStore],
        lease: Lease,
        source: str,
        halt: Halt,
        *,
        lags: Callable[[], Mapping[str, Lag]],
        prune: Callable[[StateStore], None],
        prune_every: float = 600.0,
        prune_after: float = float("inf"),
        archive_prune_after: float = float("inf"),
        look: Callable[[StateStore], None] = lambda _store: None,
        tell: Callable[[Sequence[Settlement]], None] | None = None,
        marks: Collection[Marks] = (),
        begins: Mapping[str, Position] | None = None,
        in_transactions: bool = False,
    ) -> None:
        """`tell` is called with what is stored, before any of it can be acknowledged.

        It may raise RetryableError, and is called again then. `prune` is called every so many seconds,
        a little later while there is always something to store, and after so many bytes of history or
        of archived events. `marks`: of each pipeline of a cluster. `begins`: the checkpoint that the source
        begins behind, where there are marks, these or others. `in_transactions`: many batches are settled
        before they are prepared, and are to take little memory until then.
        """
        self._open_store = open_store
        self._lease = lease
        self._source = source
        self._halt = halt
        self._lags = lags
        self._prune = prune
        self._prune_every = prune_every
        self._prune_after = prune_after
        self._archive_prune_after = archive_prune_after
        self._recorded = self._archived = 0
        self._look = look
        self._tell = tell
        self._marks = marks
        self._known = None if begins is None else dict(begins)
        self._in_transactions = in_transactions
        self._open = _Unit([])
        self._queue: list[_Unit] = []
        self._prepared: _Unit | None = None
        self._events = 0
        self._ticket = 1
        self._stored = 0
        self._durable: dict[str, Position] = {}
        self._status = ""
        self._closing = False
        self._last_commit = time.time()
        self._condition = threading.Condition()
        self._hurry = threading.Event()
        self._thread = threading.Thread(
            target=watched("storing what was settled", self._run, halt.fail),
            name="committer",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def status(self) -> str:
        """Return "" when all is well, else what it waits for."""
        return self._status

    @property
    def ticket(self) -> int:
        """The number of the batch in flight: what is settled now is durable once it is `stored`."""
        return self._ticket

    @property
    def stored(self) -> int:
        """The ticket of the last batch that is durable."""
        return self._stored

    @property
    def outstanding(self) -> bool:
        """Whether anything has been settled that is not durable yet."""
        return bool(self._queue or self._open.settlements)

    @property
    def last_commit(self) -> float:
        """Wall clock of the last durable checkpoint, seconds since the epoch."""
        return self._last_commit

    def settle(self, settlement: Settlement) -> None:
        """Add one pipeline's outcome of the batch in flight."""
        if self._in_transactions:
            compress_history(settlement)
        self._open.settlements.append(settlement)

    def archive(self, batch: Batch, *, with_arrivals: bool = False) -> None:
        """Have the batch in flight archived, in the transaction that its checkpoint is stored in.

        Its columns are made here; they are encoded on the committer's thread. `with_arrivals`: so are the
        messages that the events arrived as.
        """
        self._open.to_archive.append(hold(batch, with_arrivals=with_arrivals))

    def checkpoint(self, positions: Mapping[str, Position]) -> None:
        """Close the batch in flight: what was settled, and where the source stands after it.

        Blocks while too much waits (OUTSTANDING_…): a state store that is away holds the flow back.
        """
        unit, self._open = self._open, _Unit([])
        self._ticket += 1
        unit.positions.update(positions)
        if self._known is not None:
            self._mark(unit, self._known)
        with self._condition:
            while self._is_full() and not self._halt.error:
                self._condition.wait(0.1)
            self._queue.append(unit)
            self._events += unit.events
            self._condition.notify_all()
            if self._is_enough(unit) or any(settled.answers for settled in unit.settlements):
                self._hurry.set()
            if unit.gone_back:
                self._wait_for(unit)

    def _mark(self, unit: _Unit, known: dict[str, Position]) -> None:
        """Look whether the source has gone back on purpose: a topic, say, was made anew.

        What marks say of its partition is of other events then, and would hide new ones. They are forgotten
        before any process marks what comes next: `checkpoint` waits for it.
        """
        positions = unit.positions
        unit.gone_back = [
            each
            for each, at in positions.items()
            if at < known.get(each, "") or is_of_another(known.get(each, ""), at)
        ]
        known.update(positions)
        for marks in self._marks:
            marks.checkpointed(positions)

    def _is_enough(self, last: _Unit) -> bool:
        """Whether so much waits that a transaction should begin; `last` came last."""
        with_history = any(settled.history_pieces for settled in last.settlements)
        return self._is_full(ENOUGH_WITH_HISTORY if with_history else ENOUGH)

    def _is_full(self, part: float = 1.0) -> bool:
        """Whether as much waits as may, or a part of it."""
        return (
            len(self._queue) >= part * OUTSTANDING_BATCHES
            or self._events >= part * OUTSTANDING_EVENTS
            or sum(unit.weight for unit in self._queue) >= part * OUTSTANDING_BYTES
        )

    def flush(self) -> None:
        """Store what was settled so far, with the marks of each pipeline, and wait for it.

        For a batch that another process will checkpoint; nothing of it is acknowledged here. Of the batch in
        flight, which is checkpointed later, it stores what has been settled of it: a sink's state is of all
        pipelines that share it, so none of them may be stored without the others. Their marks tell what
        comes again. Returns early on a halt with an error.
        """
        marks = {each.owner: each.take() for each in self._marks if each.unsaved}
        unit = _Unit(self._open.settlements, marks=marks)
        self._open.settlements = []
        with self._condition:
            self._queue.append(unit)
            self._events += unit.events
            self._condition.notify_all()
            self._wait_for(unit)

    def _wait_for(self, unit: _Unit) -> None:
        self._hurry.set()
        while unit in self._queue and not self._halt.error:
            self._condition.wait(0.1)

    def prepare(self, positions: Mapping[str, Position], transaction: str, layout: str) -> bool:
        """Keep what was settled so far as the outcome of a transaction about to be committed.

        Waits until it is durable; False when there is an error, and nothing may be committed. It
        counts for nothing until `settle_prepared`.
        """
        unit, self._open = self._open, _Unit([])
        self._ticket += 1
        unit.positions.update(positions)
        unit.transaction, unit.layout = transaction, layout
        self._prepared = unit
        with self._condition:
            self._queue.append(unit)
            self._events += unit.events
            self._condition.notify_all()
            self._wait_for(unit)
        return not self._halt.error

    def settle_prepared(self) -> None:
        """Have what was prepared settled: its transaction is committed. Does not wait."""
        unit, self._prepared = self._prepared, None
        assert unit is not None  # noqa: S101 - `prepare` came before
        unit.is_prepared = True
        with self._condition:
            self._queue.append(unit)
            self._events += unit.events
            self._condition.notify_all()

    def take(self) -> dict[str, Position] | None:
        """Return the newest durable positions not yet taken, to be acknowledged; None if none."""
        if not self._durable:
            return None
        with self._condition:
            taken, self._durable = self._durable, {}
        return taken

    def close(self, timeout: float = PATIENCE) -> None:
        """Commit what is queued, give the lease back and stop, within `timeout` seconds.

        After an error in the dataflow nothing of the batch in flight is queued, so nothing of it
        is stored. A state store that stays away is given up on: its events come again.
        """
        with self._condition:
            self._closing = True
            self._hurry.set()
            self._condition.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        opened: list[StateStore] = []
        try:
            self._retrying(lambda: opened.append(self._open_store()))
        except PenstockError as error:
            self._halt.fail(error)
            return
        (store,) = opened
        try:
            self._work(store)
            store.release_lease(self._lease)
        except PenstockError as error:
            self._halt.fail(error)
        finally:
            store.close()
            with self._condition:
                self._condition.notify_all()

    def _work(self, store: StateStore) -> None:
        renewed = time.monotonic()
        pruned = time.monotonic() - self._prune_every + 5.0
        begun = -GATHERING
        while True:
            self._hurry.wait(max(0.0, begun + GATHERING - time.monotonic()))
            with self._condition:
                if not self._queue and not self._closing:
                    self._condition.wait(LEASE_TTL / 4)
                units = list(self._queue)
                if not units and self._closing:
                    return
                if not self._closing:
                    self._hurry.clear()
            if units:
                begun = time.monotonic()
                self._commit(store, units)
            now = time.monotonic()
            if now - renewed >= LEASE_TTL / 3:
                self._retrying(lambda: self._renew(store))
                renewed = now
            self._retrying(lambda: self._look(store))
            patience = LONGEST_UNPRUNED * self._prune_every if units else self._prune_every
            if now - pruned >= patience or self._is_much():
                self._retrying(lambda: self._prune(store))
                pruned, self._recorded, self._archived = time.monotonic(), 0, 0

    def _is_much(self) -> bool:
        """Whether so much was stored since the last time that it is to be looked whether it is too much."""
        return self._recorded >= self._prune_after or self._archived >= self._archive_prune_after

    def _commit(self, store: StateStore, units: list[_Unit]) -> None:
        """Store units in order, as many in one transaction as are of the same kind."""
        for (is_flush, transaction, is_prepared), group in groupby(units, key=_kind):
            together = list(group)
            for unit in together:
                for settled in unit.settlements:
                    compress_history(settled)  # lets the dataflow's thread run meanwhile
                if unit.to_archive:
                    self._encode_archived(unit)
            if transaction and not is_prepared:
                self._prepare(store, together[0])
                continue
            positions = self._store(store, together)
            with self._condition:
                del self._queue[: len(together)]
                self._events -= sum(unit.events for unit in together)
                if not is_flush:
                    self._stored += len(together)
                    self._durable.update(positions)
                self._last_commit = time.time()
                self._condition.notify_all()

    def _encode_archived(self, unit: _Unit) -> None:
        """Put what the unit archives into one of its settlements."""
        now = time.time()
        chunks = [archive_chunk(held, self._source, now) for held in unit.to_archive]
        if not unit.settlements:  # all of the batch went to other processes, which settle it
            unit.settlements.append(Settlement("", Counts()))
        unit.settlements[0].archived += chunks
        unit.to_archive = []

    def _store(self, store: StateStore, together: list[_Unit]) -> dict[str, Position]:
        """Store units of one kind; return where the source stands after them."""
        settlements = [each for unit in together for each in unit.settlements]
        positions: dict[str, Position] = {}
        marks: dict[str, dict[str, Position]] = {}
        gone_back: list[str] = []
        for unit in together:
            positions.update(unit.positions)
            gone_back += unit.gone_back
            for owner, marked in (unit.marks or {}).items():
                marks.setdefault(owner, {}).update(marked)
        lags = self._lags()
        self._retrying(
            lambda: store.commit(
                self._lease,
                self._source,
                settlements,
                positions,
                lags,
                prepared=together[0].transaction,
                marks=marks,
                gone_back=gone_back,
            )
        )
        for settled in settlements:
            if settled.history is not None:
                self._recorded += len(settled.history.body)
            self._archived += sum(len(chunk.body) for chunk in settled.archived)
        if self._tell is not None:
            self._tell_elsewhere(store, settlements, self._tell)
        fail_point("after_checkpoint_before_acknowledge")
        return positions

    def _prepare(self, store: StateStore, unit: _Unit) -> None:
        self._retrying(
            lambda: store.prepared.prepare(
                self._lease,
                self._source,
                unit.layout,
                name=unit.transaction,
                positions=unit.positions,
                settlements=unit.settlements,
            )
        )
        with self._condition:
            self._queue.remove(unit)
            self._events -= unit.events
            self._condition.notify_all()

    def _tell_elsewhere(
        self,
        store: StateStore,
        settlements: list[Settlement],
        tell: Callable[[Sequence[Settlement]], None],
    ) -> None:
        def attempt() -> None:
            try:
                tell(settlements)
            except RetryableError:
                self._renew(store)  # it may be away for longer than our lease lasts
                raise

        self._retrying(attempt, "")

    def _renew(self, store: StateStore) -> None:
        if not store.renew_lease(self._lease, LEASE_TTL):
            raise FatalError(
                f"another worker has taken over {self._lease.shard} of flow {self._lease.flow}.",
                code="lease_lost",
                hint="This one stops; nothing it did after the take-over was stored.",
            )

    def _retrying(self, call: Callable[[], None], what: str = "state store: ") -> None:
        """Call until it succeeds; a retryable error waits. Gives up when closing or long draining."""
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        draining_since: float | None = None
        while True:
            try:
                call()
            except RetryableError as error:
                self._status = f"{what}{error.message}"
                if self._halt.asked() and draining_since is None:
                    draining_since = time.monotonic()
                if self._closing or self._halt.error or _is_over(draining_since):
                    raise
                with self._condition:
                    self._condition.wait(backoff.longer())
            else:
                self._status = ""
                return


def _kind(unit: _Unit) -> tuple[bool, str, bool]:
    return unit.marks is not None, unit.transaction, unit.is_prepared


def _is_over(draining_since: float | None) -> bool:
    return draining_since is not None and time.monotonic() - draining_since >= PATIENCE
