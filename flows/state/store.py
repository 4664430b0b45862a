"""The state store over SQLAlchemy Core: one class, one set of queries, two databases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from connectors.batch import Position
from connectors.contracts import Lag
from connectors.failpoints import fail_point
from flows.state.archive_store import ArchiveStore
from flows.state.backfills import Backfills
from flows.state.chunk_store import Chunks
from flows.state.contracts import StateStore
from flows.state.copy_store import LetterCopies, copy_row
from flows.state.database import Database, reopen, transaction
from flows.state.direct import Direct
from flows.state.history import compress_history
from flows.state.idempotency import record_keys
from flows.state.inbox import InboxStore, answer_row
from flows.state.kept_keys import StateShelf
from flows.state.leases import lease_lost, of_lease, under
from flows.state.letter_store import Letters
from flows.state.marks import MarkStore, forget_marks, forgotten
from flows.state.migrations import prepare
from flows.state.prepared import PreparedOutcomes, forget_prepared
from flows.state.pruning import prune
from flows.state.queries import letters_by_prefix, letters_page, queries_of
from flows.state.records import (
    ArchiveChunk,
    DeadLetter,
    Lease,
    Parked,
    ParkedPlace,
    PartitionState,
    PipelineTotals,
    Settlement,
)
from flows.state.replay_outcomes import record_outcomes
from flows.state.replays import Replays
from flows.state.rows import (
    Row,
    checkpoint_row,
    chunk_row,
    letter_of,
    letter_row,
    parked_of,
    parked_row,
    read_cursor,
    replayed_letter_row,
    sink_state_row,
    totals_row,
)
from flows.state.saga_store import SagaStore, compensation_row, saga_row
from flows.state.schema_store import SchemaStore
from flows.state.signals import Signals, record_signals
from flows.state.snapshot_store import Snapshots
from flows.state.triggers import Triggers
from flows.state.waiting import Waiting

_NO_LAG = Lag()


def open_store(url: str, *, create: bool = True) -> StateStore:
    """Open the state at `url`, and make or migrate its tables; without `create`, neither.

    `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://…`. Raises FlowFileError for
    another URL, FatalError with `state_*` codes (`unreachable` where the server does not answer),
    RetryableError when another process keeps it locked.
    """
    database = Database(url, create=create)
    try:
        prepare(database, create=create)
    except BaseException:
        database.close()
        raise
    database.opened()
    return SqlStateStore(database)


def reopen_store(url: str) -> StateStore:
    """Return the state that this process has open, for another thread; see `flows.state.database.reopen`."""
    return SqlStateStore(reopen(url))


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit's arguments, and the name by which the database knows whether it happened."""

    lease: Lease
    source: str
    settlements: list[Settlement]
    checkpoint: dict[str, Position]
    prepared: str
    marks: dict[str, dict[str, Position]]
    gone_back: list[str]
    token: str


class SqlStateStore:
    """A StateStore (see flows.state.contracts) on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = queries_of(database.dialect)
        self.replays = Replays(database)
        self.sagas = SagaStore(database)
        self.prepared = PreparedOutcomes(database)
        self.letters = Letters(database)
        self.copies = LetterCopies(database)
        self.schemas = SchemaStore(database)
        self.chunks = Chunks(database)
        self.archive = ArchiveStore(database)
        self.waiting = Waiting(database)
        self.inbox = InboxStore(database)
        self.signals = Signals(database)
        self.backfills = Backfills(database)
        self.snapshots = Snapshots(database)
        self.triggers = Triggers(database)
        self.marks = MarkStore(database)
        self._unanswered: _Commit | None = None

    def kept_keys(self, flow: str | None) -> StateShelf:
        """Return the idempotency keys of a flow, or of all, to look at and to free."""
        return StateShelf(self._database, flow)

    # --- leases -------------------------------------------------------------------------------

    def acquire_lease(self, flow: str, shard: str, holder: str, ttl: float) -> Lease | None:
        """Take the lease if it is free, expired or ours; its fence grows each time."""
        values = {"flow": flow, "shard": shard, "holder": holder, "ttl": ttl}

        def acquire(connection: Connection) -> Lease | None:
            with transaction(connection):
                found = connection.execute(self._queries.acquire, values).first()
            return None if found is None else Lease(flow, shard, holder, *found)

        return self._database.run(acquire)

    def renew_lease(self, lease: Lease, ttl: float) -> bool:
        """Prolong it; False when another holder has a newer fence."""
        return self._change_lease(self._queries.renew, lease, ttl=ttl)

    def forget_former_holder(self, lease: Lease) -> None:
        """Forget whom it was taken from: that one has let go of all it had open."""
        self._change_lease(self._queries.forget_former, lease)

    def release_lease(self, lease: Lease) -> None:
        """Give it back, so that a standby takes over at once; nothing if it is another's."""
        self._change_lease(self._queries.release, lease)

    def shards(self, flow: str, source: str) -> list[str]:
        """Return the shards of a source that workers have ever had the lease of."""
        found = self._all(self._queries.shards, flow=flow)
        return sorted(shard for (shard,) in found if shard.rpartition("/")[0] == source)

    def _change_lease(self, statement: Any, lease: Lease, **more: Any) -> bool:
        values = {**of_lease(lease), **more}

        def change(connection: Connection) -> bool:
            with transaction(connection):
                changed: int = connection.execute(statement, values).rowcount
            return changed == 1

        return self._database.run(change)

    # --- the hot road -------------------------------------------------------------------------

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

        After a RetryableError it is unknown whether they are stored. Called again with the same
        settlements and checkpoint, it finds out and stores them if they are not: counts are never
        added twice. Raises FatalError `lease_lost` when another holder has taken over.
        """
        commit = self._named(
            _Commit(
                lease,
                source,
                list(settlements),
                dict(checkpoint),
                prepared,
                {owner: dict(positions) for owner, positions in marks.items()},
                list(gone_back),
                token=os.urandom(8).hex(),
            )
        )
        rows = self._rows(commit, lags)
        self._unanswered = commit
        stored = self._database.run(lambda connection: self._store(connection, commit, rows))
        self._unanswered = None
        if not stored:
            raise lease_lost(lease)

    def _named(self, commit: _Commit) -> _Commit:
        """Return the commit, under its old name if it is the one that got no answer."""
        before = self._unanswered
        if before is not None and before == replace(commit, token=before.token):
            return before
        return commit

    def _rows(self, commit: _Commit, lags: Mapping[str, Lag]) -> list[tuple[Any, list[Row]]]:
        """Return statements with their parameters, in the order in which they lock rows."""
        flow, shard, now = commit.lease.flow, commit.lease.shard, time.time()
        totals: list[Row] = []
        letters: list[Row] = []
        refailed: list[Row] = []
        copies: list[Row] = []
        states: dict[str, Row] = {}
        chunks: list[Row] = []
        parked: list[Row] = []
        resumed: list[Row] = []
        sagas: list[Row] = []
        completed: list[Row] = []
        compensated: list[Row] = []
        archived: list[ArchiveChunk] = []
        answers: list[Row] = []
        for settled in commit.settlements:
            archived += settled.archived
            if settled.pipeline:
                totals.append(totals_row(flow, shard, settled.pipeline, settled.counts))
            for letter in settled.dead_letters:
                if letter.replay is None:
                    letters.append(letter_row(letter))
                else:
                    refailed.append(replayed_letter_row(letter))
            copies.extend(copy_row(flow, shard, each) for each in settled.copies)
            answers.extend(answer_row(flow, each, now) for each in settled.answers)
            for sink, state in settled.sink_states.items():
                states[sink] = sink_state_row(flow, shard, sink, state)
            parked.extend(parked_row(flow, each) for each in settled.parked)
            sagas.extend(saga_row(flow, each) for each in settled.sagas)
            compensated.extend(compensation_row(flow, each) for each in settled.sagas)
            completed.extend(
                {"of_flow": flow, "of_pipeline": settled.pipeline, "of_id": each}
                for each in settled.sagas_completed
            )
            resumed.extend(
                {"of_flow": flow, "of_pipeline": settled.pipeline, "of_id": each}
                for each in settled.resumed
            )
            if settled.history is not None:
                compress_history(settled)
                chunks.append(chunk_row(settled.history))
        letters.sort(key=itemgetter("id"))
        refailed.sort(key=itemgetter("id"))
        queries = self._queries
        rows = [
            (forget_marks, forgotten(flow, commit.source, commit.gone_back)),
            (
                queries.save_checkpoint,
                [
                    checkpoint_row(
                        flow, commit.source, place, lag=lags.get(place[0], _NO_LAG), now=now
                    )
                    for place in commit.checkpoint.items()
                ]
                + [
                    checkpoint_row(flow, owner, place, lag=_NO_LAG, now=now)
                    for owner, positions in commit.marks.items()
                    for place in positions.items()
                ],
            ),
            (queries.add_totals, totals),
            (queries.save_dead_letter, letters),
            (queries.save_replayed_letter, refailed),
            (self.copies.save, copies),
            (queries.unpark, resumed),
            (queries.park, parked),
            (self.sagas.statements.settle, sagas),
            (self.sagas.statements.forget, completed),
            (self.sagas.statements.tell_letter, compensated),
            (queries.save_sink_state, list(states.values())),
            (queries.add_chunk, chunks),
            *(self.archive.rows(flow, shard, archived) if archived else ()),
            (self.inbox.save_answer, answers),
            (forget_prepared, _name_of(commit)),
        ]
        return [(statement, values) for statement, values in rows if values]

    def _store(
        self,
        connection: Connection,
        commit: _Commit,
        rows: list[tuple[Any, list[Row]]],
    ) -> bool:
        """Store it, unless it is stored already; False when the lease is another's."""
        lease = of_lease(commit.lease)
        with transaction(connection):
            if self._queries.claim.execute(connection, [{**lease, "token": commit.token}]):
                for statement, values in rows:
                    if isinstance(statement, Direct):
                        statement.execute(connection, values)
                    else:
                        connection.execute(statement, values)
                replayed = [each for settled in commit.settlements for each in settled.replayed]
                if replayed:
                    record_outcomes(connection, commit.lease.flow, replayed)
                if any(settled.keys or settled.keys_elsewhere for settled in commit.settlements):
                    record_keys(
                        connection, commit.lease.flow, commit.lease.shard, commit.settlements
                    )
                signals = [each for settled in commit.settlements for each in settled.signals]
                if signals:
                    record_signals(connection, commit.lease.flow, signals)
                fail_point("after_settle_before_checkpoint")
                return True
            found = connection.execute(self._queries.lease, lease).first()
        return found is not None and tuple(found) == (
            commit.lease.fence,
            commit.lease.holder,
            commit.token,
        )

    def save_sink_states(self, lease: Lease, states: Mapping[str, Mapping[str, str]]) -> None:
        """Keep what sinks say of a writer that has settled nothing yet."""
        rows = [sink_state_row(lease.flow, lease.shard, *each) for each in states.items()]
        self._under(lease, self._queries.save_sink_state, rows)

    def forget_sink_states(self, lease: Lease, sinks: Sequence[str]) -> None:
        """Forget what is kept of these sinks for the lease's writer."""
        of = {"of_flow": lease.flow, "of_writer": lease.shard}
        self._under(lease, self._queries.forget_sink_state, [{**of, "of_sink": s} for s in sinks])

    def _under(self, lease: Lease, statement: Any, rows: list[Row]) -> None:
        """Execute the statement for each row, as the lease's holder or not at all."""

        def execute(connection: Connection) -> None:
            if rows:
                connection.execute(statement, rows)

        under(self._database, lease, execute)

    # --- reading ------------------------------------------------------------------------------

    def checkpoints(self, flow: str, source: str) -> dict[str, Position]:
        """Return source partition → position after the last settled event."""
        return dict(self._all(self._queries.positions, flow=flow, source=source))

    def sink_states(self, flow: str, writer: str) -> dict[str, dict[str, str]]:
        """Return sink module → what it kept with the last settled batch of this writer."""
        rows = self._all(self._queries.sink_states, flow=flow, writer=writer)
        return {sink: json.loads(state) for sink, state in rows}

    def sink_writers(self, flow: str) -> dict[str, list[str]]:
        """Return writer → the sink modules of which something is kept for it."""
        writers: dict[str, list[str]] = {}
        for writer, sink in self._all(self._queries.sink_writers, flow=flow):
            writers.setdefault(writer, []).append(sink)
        return writers

    def parked_places(self, flow: str, source: str) -> list[ParkedPlace]:
        """Return what waits of a source's executions, in the order in which it was parked."""
        rows = self._all(self._queries.parked_places, flow=flow, source=source)
        return [ParkedPlace(*row) for row in rows]

    def parked(self, flow: str, pipeline: str, ids: Sequence[str]) -> list[Parked]:
        """Return parked executions; those that are no longer there are left out."""
        rows = self._all(self._queries.parked, flow=flow, pipeline=pipeline, ids=list(ids))
        return list(map(parked_of, rows))

    def parked_next(self, flow: str, limit: int) -> list[Parked]:
        """Return parked executions, those that are due first first."""
        rows = self._all(self._queries.parked_next, flow=flow, most=limit)
        return list(map(parked_of, rows))

    def last_turn(self, flow: str) -> int:
        """Return the greatest turn of a parked execution of the flow; 0 when none is parked."""
        return int(self._all(self._queries.last_turn, flow=flow)[0][0] or 0)

    def dead_letters(
        self, flow: str | None, *, pipeline: str | None, limit: int, after: str | None
    ) -> list[DeadLetter]:
        """Return dead letters, newest failure first; `after` is `flows.state.rows.cursor`'s."""
        place = None if after is None else read_cursor(after)
        return list(map(letter_of, self._all(letters_page(flow, pipeline, limit, place))))

    def dead_letter(self, flow: str | None, id_prefix: str) -> list[DeadLetter]:
        """Return the entries whose id starts so: one, none, or several when it is ambiguous."""
        return list(map(letter_of, self._all(letters_by_prefix(flow, id_prefix.strip().lower()))))

    def partitions(self, flow: str) -> list[PartitionState]:
        """Return positions and lags of every source partition of the flow."""
        return [PartitionState(*row) for row in self._all(self._queries.partitions, flow=flow)]

    def totals(self, flow: str) -> list[PipelineTotals]:
        """Return the counts of every pipeline of the flow."""
        letters = dict(self._all(self._queries.letter_counts, flow=flow))
        parked = dict(self._all(self._queries.parked_counts, flow=flow))
        return [
            PipelineTotals(
                pipeline,
                int(done),
                int(failed),
                int(skipped),
                letters.get(pipeline, 0),
                parked.get(pipeline, 0),
            )
            for pipeline, done, failed, skipped in self._all(self._queries.totals, flow=flow)
        ]

    def pipelines(self, flow: str) -> list[str]:
        """Return the names of the flow's pipelines that have settled anything."""
        return [pipeline for (pipeline,) in self._all(self._queries.pipelines, flow=flow)]

    def flows(self) -> list[str]:
        """Return the names of the flows this store knows."""
        return [flow for (flow,) in self._all(self._queries.flows)]

    def _all(self, query: Any, **values: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query, values)))

    # --- housekeeping -------------------------------------------------------------------------

    def prune(
        self,
        flow: str,
        *,
        dead_letters_before: Mapping[str, float],
        history_before: float | None,
        history_max_bytes: int | None,
    ) -> int:
        """Delete what is past its retention, in small transactions; return the rows deleted."""
        return prune(
            self._database,
            flow,
            dead_letters_before=dead_letters_before,
            history_before=history_before,
            history_max_bytes=history_max_bytes,
        )

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def _name_of(commit: _Commit) -> list[Row]:
    """Return what finds the prepared outcome that a commit settles, if it settles one."""
    if not commit.prepared:
        return []
    lease = commit.lease
    return [{"of_flow": lease.flow, "of_shard": lease.shard, "of_name": commit.prepared}]
