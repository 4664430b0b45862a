"""What the runtime asks of a state store: SQLite in one file, or PostgreSQL.

Every write is one transaction, durable when the call returns. A store object belongs to one
thread, but for `open` and `close`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from connectors.batch import Position
from connectors.contracts import Lag
from flows.state.records import (
    DeadLetter,
    Lease,
    Parked,
    ParkedPlace,
    PartitionState,
    PipelineTotals,
    Settlement,
)

if TYPE_CHECKING:
    # `penstock test` asks a store for nothing, and starts without SQLAlchemy.
    from flows.state.archive_store import ArchiveStore
    from flows.state.backfills import Backfills
    from flows.state.chunk_store import Chunks
    from flows.state.copy_store import LetterCopies
    from flows.state.inbox import InboxStore
    from flows.state.kept_keys import StateShelf
    from flows.state.letter_store import Letters
    from flows.state.marks import MarkStore
    from flows.state.prepared import PreparedOutcomes
    from flows.state.replays import Replays
    from flows.state.saga_store import SagaStore
    from flows.state.schema_store import SchemaStore
    from flows.state.signals import Signals
    from flows.state.snapshot_store import Snapshots
    from flows.state.triggers import Triggers
    from flows.state.waiting import Waiting


class StateStore(Protocol):
    """The runtime's durable memory; errors are FatalError or RetryableError (`state_*` codes)."""

    letters: Letters
    """Dead letters, by filter."""
    copies: LetterCopies
    """Copies of dead letters that are on their way to a sink."""
    archive: ArchiveStore
    """The event archives of sources."""
    chunks: Chunks
    """Recorded executions, chunk by chunk."""
    waiting: Waiting
    """Parked executions, to look at."""
    backfills: Backfills
    """Jobs over past events: what is asked for, and how far each is."""
    replays: Replays
    """Replays of dead letters: asking for them, taking them, their outcome."""
    sagas: SagaStore
    """Sagas: their progress, and what operators ask of them."""
    signals: Signals
    """What operators ask of single executions: pause, resume, retry, skip, cancel."""
    schemas: SchemaStore
    """The rows of the schema registry."""
    snapshots: Snapshots
    """Snapshots that were asked for of sources that run."""
    marks: MarkStore
    """How far processes of clusters have settled their shares."""
    triggers: Triggers
    """What is started by hand, and the keys by which it is started once."""
    inbox: InboxStore
    """What a server has taken in for sources, and what came of it."""

    def kept_keys(self, flow: str | None) -> StateShelf:
        """Return the idempotency keys of a flow, or of all, to look at and to free."""

    prepared: PreparedOutcomes
    """Outcomes of transactions that are about to be committed."""

    def acquire_lease(self, flow: str, shard: str, holder: str, ttl: float) -> Lease | None:
        """Take the lease if it is free, expired (for `ttl` seconds) or ours; None when held."""

    def renew_lease(self, lease: Lease, ttl: float) -> bool:
        """Prolong it; False when another holder has a newer fence."""

    def forget_former_holder(self, lease: Lease) -> None:
        """Forget whom it was taken from: that one has let go of all it had open."""

    def release_lease(self, lease: Lease) -> None:
        """Give it back, so that a standby takes over at once."""

    def shards(self, flow: str, source: str) -> list[str]:
        """Return the shards of a source that workers have ever had the lease of."""

    def checkpoints(self, flow: str, source: str) -> dict[str, Position]:
        """Return source partition → position after the last settled event."""

    def sink_states(self, flow: str, writer: str) -> dict[str, dict[str, str]]:
        """Return sink module → what it kept with the last settled batch of this writer."""

    def sink_writers(self, flow: str) -> dict[str, list[str]]:
        """Return writer → the sink modules of which something is kept for it."""

    def save_sink_states(self, lease: Lease, states: Mapping[str, Mapping[str, str]]) -> None:
        """Keep what sinks say of a writer that has settled nothing yet. Raises as `commit` does."""

    def forget_sink_states(self, lease: Lease, sinks: Sequence[str]) -> None:
        """Forget what is kept of these sinks for the lease's writer. Raises as `commit` does."""

    def commit(
        self,
        lease: Lease,
        source: str,
        settlements: Sequence[Settlement],
        checkpoint: Mapping[str, Position],
        lags: Mapping[str, Lag],
        *,
        prepared: str = "",
        marks: Mapping[str, Mapping[str, Position]] = MappingProxyType({}),
        gone_back: Sequence[str] = (),
    ) -> None:
        """Store settlements and checkpoint in one transaction.

        `prepared`: what was prepared under that name is forgotten: this is it. `marks`: owner → how far
        its share is settled now. `gone_back`: source partitions of which all marks are forgotten.

        Raises FatalError `lease_lost` (and stores nothing) when `lease.fence` is not the newest:
        another worker has taken over. After a RetryableError it may or may not be stored: call
        again with the same settlements and checkpoint, and it is stored once.
        """

    def parked_places(self, flow: str, source: str) -> list[ParkedPlace]:
        """Return what waits of a source's executions, in the order in which it was parked."""

    def parked(self, flow: str, pipeline: str, ids: Sequence[str]) -> list[Parked]:
        """Return parked executions; those that are no longer there are left out."""

    def parked_next(self, flow: str, limit: int) -> list[Parked]:
        """Return parked executions, those that are due first first."""

    def last_turn(self, flow: str) -> int:
        """Return the greatest turn of a parked execution of the flow; 0 when none is parked."""

    def dead_letters(
        self, flow: str | None, *, pipeline: str | None, limit: int, after: str | None
    ) -> list[DeadLetter]:
        """Return dead letters, newest failure first, from behind `after`: flows.state.rows.cursor."""

    def dead_letter(self, flow: str | None, id_prefix: str) -> list[DeadLetter]:
        """Return the entries whose id starts so: one, none, or several when it is ambiguous."""

    def partitions(self, flow: str) -> list[PartitionState]:
        """Return positions and lags of every source partition of the flow."""

    def totals(self, flow: str) -> list[PipelineTotals]:
        """Return the counts of every pipeline of the flow."""

    def pipelines(self, flow: str) -> list[str]:
        """Return the names of the flow's pipelines that have settled anything."""

    def flows(self) -> list[str]:
        """Return the names of the flows this store knows."""

    def prune(
        self,
        flow: str,
        *,
        dead_letters_before: Mapping[str, float],
        history_before: float | None,
        history_max_bytes: int | None,
    ) -> int:
        """Delete what is past its retention, in small transactions; return the rows deleted.

        `dead_letters_before`: pipeline → time.
        """

    def close(self) -> None:
        """Close the connections."""
