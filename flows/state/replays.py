"""Replays of dead letters in the state store: what was asked for, who has it, what came of it.

A replay is *selecting* while its dead letters are being marked, *running* until each has an outcome,
then *done*. Its entries are the inbox of the flow's workers:

    waiting ── taken by a worker ── running (parked) ──┬── done, skipped   the dead letter is gone
       └────────────── returned ◄──────────────────────┴── failed          it waits again

A dead letter that is being replayed has the replay's number, set by one compare-and-set: of two
people who replay it at once, one gets it. An outcome is written in the transaction that settles the
execution (`record_outcomes`), so a crash leaves an entry either where it was or ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from flows.state.database import Database, transaction
from flows.state.records import DeadLetter
from flows.state.replay_outcomes import ACTIVE, REQUESTED, finishing
from flows.state.rows import LETTER_FIELDS, Row, letter_of
from flows.state.tables import dead_letters, leases, replay_entries, replays, sagas, server_now

Status = Literal["selecting", "running", "done", "cancelling", "cancelled"]

TOGETHER = 500
"""Entries that one transaction marks, takes or returns: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: who asked for what, and how far it is. Times are seconds since the epoch."""

    id: int
    flow: str
    created_at: float
    created_by: str
    selection: str
    """What was asked for, as JSON."""
    edit: str | None
    """jq that each event's data went through."""
    rate: float | None
    """Executions per second at most, all workers together."""
    from_step: int
    """1: each goes on at the step it failed at, else 0."""
    status: Status
    cursor: str | None
    """Where the selection goes on, when it was interrupted."""
    total: int
    done: int
    failed: int
    skipped: int
    returned: int
    finished_at: float | None

    @property
    def ended(self) -> int:
        """How many have an outcome."""
        return self.done + self.failed + self.skipped + self.returned

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in {"done", "cancelled"}


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """One dead letter of a replay, and what came of it."""

    replay: int
    letter: str
    pipeline: str
    source: str
    partition: str
    position: str
    event_id: str
    edited: str | None
    """The data that was replayed, as JSON, where it was edited."""
    original: str | None
    """The CloudEvent as it was before the edit."""
    status: Literal["waiting", "running", "done", "failed", "skipped", "returned"]
    execution: str | None
    """The id of the execution that replays it."""
    step: str | None
    error_code: str
    error_message: str
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A dead letter that a replay wants, and its data as JSON where that was edited."""

    letter: DeadLetter
    edited: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """An entry that a worker has taken out of the inbox."""

    replay: int
    letter: DeadLetter
    edited: str | None
    from_step: bool
    cancelled: bool
    """It is to be returned instead."""
    by: str


_REPLAY_FIELDS = tuple(field.name for field in fields(Replay))
_ENTRY_FIELDS = tuple(field.name for field in fields(ReplayEntry))
_of_replay = select(*(replays.c[name] for name in _REPLAY_FIELDS))
_of_entry = select(*(replay_entries.c[name] for name in _ENTRY_FIELDS))
_OPEN = ("waiting", "running")
_HALF_UNDONE = ("compensating", "compensation_failed", "retrying")


class Replays:
    """The replays of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- asking -------------------------------------------------------------------------------

    def begin(
        self,
        flow: str,
        *,
        by: str,
        selection: str,
        edit: str | None = None,
        rate: float | None = None,
        from_step: bool = False,
    ) -> int:
        """Record a new replay, its selection still open; return its number."""
        values = {
            "flow": flow,
            "created_at": time.time(),
            "created_by": by,
            "selection": selection,
            "edit": edit,
            "rate": rate,
            "from_step": int(from_step),
            "status": "selecting",
            "paced_until": 0.0,
            "total": 0,
            "done": 0,
            "failed": 0,
            "skipped": 0,
            "returned": 0,
        }
        statement = insert(replays).values(values).returning(replays.c.id)

        def work(connection: Connection) -> int:
            with transaction(connection):
                return int(connection.execute(statement).scalar_one())

        return self._database.run(work)

    def add(self, replay: Replay, chosen: Sequence[Chosen], cursor: str | None) -> int | None:
        """Take these dead letters for the replay, and note where its selection goes on.

        Returns how many: what another replay has, or what is gone, is left out. None when its
        selection is no longer open.
        """

        def work(connection: Connection) -> int | None:
            with transaction(connection):
                if _lock(connection, replay.id).status != "selecting":
                    return None
                got = _claim_letters(connection, replay, [each.letter.id for each in chosen])
                rows = [_entry_row(replay, each) for each in chosen if each.letter.id in got]
                if rows:
                    connection.execute(insert(replay_entries), rows)
                connection.execute(
                    update(replays)
                    .where(replays.c.id == replay.id)
                    .values(total=replays.c.total + len(rows), cursor=cursor)
                )
            return len(rows)

        return self._database.run(work)

    def start(self, replay: int) -> None:
        """Let workers begin: the selection is complete."""
        self._write(
            update(replays)
            .where(replays.c.id == replay, replays.c.status == "selecting")
            .values(status="running"),
            finishing([replay]),
        )

    def cancel(self, replay: int) -> None:
        """Return the dead letters that no worker has taken; those that run come to their end."""
        self._write(
            update(replays)
            .where(replays.c.id == replay, replays.c.status.in_(("selecting", "running")))
            .values(status="cancelling")
        )
        waiting = (
            select(replay_entries.c.letter)
            .where(
                replay_entries.c.replay == replay,
                replay_entries.c.status == "waiting",
                replay_entries.c.taken_by.is_(None),
            )
            .limit(TOGETHER)
        )
        while letters := self._column(waiting):
            self.give_back(replay, letters, "replay_cancelled", "The replay was cancelled.")
        self._write(finishing([replay]))

    def give_back(self, replay: int, letters: Sequence[str], code: str, why: str) -> None:
        """End entries that were not run: their dead letters wait as before."""
        entries = replay_entries.c
        ending = (
            update(replay_entries)
            .where(
                entries.replay == replay, entries.letter.in_(letters), entries.status == "waiting"
            )
            .values(status="returned", error_code=code, error_message=why, ended_at=server_now())
            .returning(entries.letter)
        )

        def work(connection: Connection) -> None:
            with transaction(connection):
                _lock(connection, replay)
                ended = list(connection.execute(ending).scalars())
                returned = and_(dead_letters.c.id.in_(ended), dead_letters.c.replay == replay)
                connection.execute(
                    delete(dead_letters).where(returned, dead_letters.c.error_code.in_(REQUESTED))
                )
                connection.execute(
                    update(dead_letters).where(returned).values(status="waiting", replay=None)
                )
                connection.execute(
                    update(replays)
                    .where(replays.c.id == replay)
                    .values(returned=replays.c.returned + len(ended))
                )
                connection.execute(finishing([replay]))

        self._database.run(work)

    def give_back_source(self, replay: int, source: str, code: str, why: str) -> None:
        """End the entries of a source that nobody will run, `TOGETHER` at a time."""
        entries = replay_entries.c
        waiting = (
            select(entries.letter)
            .where(entries.replay == replay, entries.source == source, entries.status == "waiting")
            .limit(TOGETHER)
        )
        while letters := self._column(waiting):
            self.give_back(replay, letters, code, why)

    # --- reading ------------------------------------------------------------------------------

    def get(self, replay: int) -> Replay | None:
        """Return a replay; None when there is none of this number."""
        rows = self._rows(_of_replay.where(replays.c.id == replay))
        return Replay(*rows[0]) if rows else None

    def newest(self, flow: str | None, limit: int, before: int | None = None) -> list[Replay]:
        """Return replays, the newest first; those older than number `before`."""
        query = _of_replay.order_by(replays.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(replays.c.id < before)
        if flow is not None:
            query = query.where(replays.c.flow == flow)
        return [Replay(*row) for row in self._rows(query)]

    def entries(self, replay: int, limit: int, after: str = "") -> list[ReplayEntry]:
        """Return a replay's entries by the ids of their dead letters, from behind `after`."""
        query = (
            _of_entry.where(replay_entries.c.replay == replay, replay_entries.c.letter > after)
            .order_by(replay_entries.c.letter)
            .limit(limit)
        )
        return [ReplayEntry(*row) for row in self._rows(query)]

    def reasons(self, replay: int, limit: int = 20) -> list[tuple[Any, ...]]:
        """Return why entries failed or were returned, the commonest first.

        Each as (status, step, code, count, the id and the message of one of them).
        """
        entries = replay_entries.c
        count = func.count()
        query = (
            select(
                entries.status,
                entries.step,
                entries.error_code,
                count,
                func.min(entries.letter),
                func.min(entries.error_message),
            )
            .where(entries.replay == replay, entries.status.in_(("failed", "returned")))
            .group_by(entries.status, entries.step, entries.error_code)
            .order_by(count.desc(), entries.error_code)
            .limit(limit)
        )
        return [tuple(row) for row in self._rows(query)]

    def open_sources(self, replay: int) -> list[str]:
        """Return the sources that have entries without an outcome."""
        found: list[str] = []
        entries = replay_entries.c
        source = ""
        while True:  # from one to the next by the index: there may be a million entries
            after = select(func.min(entries.source)).where(
                entries.replay == replay, entries.source > source
            )
            (following,) = self._column(after)
            if following is None:
                return found
            source = following
            of_source = select(entries.letter).where(
                entries.replay == replay, entries.source == source
            )
            if any(self._column(of_source.where(entries.status == s).limit(1)) for s in _OPEN):
                found.append(source)

    def served_sources(self, flow: str) -> set[str]:
        """Return the sources of the flow that a worker has the lease of just now."""
        query = select(leases.c.shard).where(
            leases.c.flow == flow, leases.c.expires_at > server_now()
        )
        return {shard.rpartition("/")[0] for shard in self._column(query)}

    def has_open(self, flow: str, source: str) -> bool:
        """Whether any replay of the flow has entries of this source without an outcome."""
        return any(source in self.open_sources(replay) for replay in self._column(_active(flow)))

    def any_active(self, flow: str) -> bool:
        """Whether a replay of the flow runs, or is being cancelled."""
        return bool(self._column(_active(flow).limit(1)))

    def has_waiting(self, flow: str, source: str) -> bool:
        """Whether any entry of the source waits to be taken, now or once a rate allows it."""
        return any(self._partitions(replay, source) for replay in self._column(_active(flow)))

    # --- taking -------------------------------------------------------------------------------

    def release(self, flow: str, source: str, owns: Callable[[str], bool]) -> None:
        """Put back what a worker that is gone has taken and not parked; for whoever follows it."""
        entries = replay_entries.c
        for replay in self._column(_active(flow)):
            for partition in self._partitions(replay, source):
                if owns(partition):
                    self._write(
                        update(replay_entries)
                        .where(
                            entries.replay == replay,
                            entries.source == source,
                            entries.status == "waiting",
                            entries.partition == partition,
                            entries.taken_by.is_not(None),
                        )
                        .values(taken_by=None)
                    )

    def take(
        self, flow: str, source: str, by: str, owns: Callable[[str], bool], limit: int
    ) -> list[Taken]:
        """Take waiting entries of the partitions that `owns` names, each partition's in order."""
        found: list[Taken] = []
        for replay in self._column(_active(flow)):
            for partition in self._partitions(replay, source):
                if len(found) == limit:
                    return found
                if not owns(partition):
                    continue
                taken = self._take(replay, source, partition, by, limit - len(found))
                if taken is None:
                    break  # of this replay, none may begin just now
                found += taken
        return found

    def half_undone(self, flow: str, letters: Sequence[str]) -> set[str]:
        """Return those of these dead letters whose saga has not been undone to its end.

        To run them again would do twice what of the first run still stands.
        """
        if not letters:
            return set()
        table = sagas.c
        query = select(table.id, table.letter).where(
            table.flow == flow,
            table.status.in_(_HALF_UNDONE),
            or_(table.id.in_(letters), table.letter.in_(letters)),
        )
        return {letter or saga for saga, letter in self._rows(query)}

    def _partitions(self, replay: int, source: str) -> list[str]:
        """Return the partitions that have waiting entries: one seek in the index for each."""
        entries = replay_entries.c
        found: list[str] = []
        while True:
            query = select(func.min(entries.partition)).where(
                entries.replay == replay, entries.source == source, entries.status == "waiting"
            )
            if found:
                query = query.where(entries.partition > found[-1])
            (partition,) = self._column(query)
            if partition is None:
                return found
            found.append(partition)

    def _take(
        self, replay: int, source: str, partition: str, by: str, limit: int
    ) -> list[Taken] | None:
        """Take entries of one partition; None when the replay's rate allows none just now."""
        entries = replay_entries.c
        # Ours are those that were taken before an answer was lost: what we have, we have parked.
        free = and_(
            entries.replay == replay,
            entries.status == "waiting",
            or_(entries.taken_by.is_(None), entries.taken_by == by),
        )
        first = (
            select(entries.letter)
            .where(free, entries.source == source, entries.partition == partition)
            .order_by(entries.position, entries.letter)
        )

        def work(connection: Connection) -> tuple[list[Row], bool, bool] | None:
            with transaction(connection):
                rate, until, now, status, from_step = _lock(connection, replay)
                cancelled = status == "cancelling"
                allowed, until = (limit, until) if cancelled else _allowed(rate, until, now, limit)
                if not allowed:
                    return None
                letters = list(connection.execute(first.limit(allowed)).scalars())
                taking = (
                    update(replay_entries)
                    .where(free, entries.letter.in_(letters))
                    .values(taken_by=by)
                    .returning(entries.letter, entries.edited)
                )
                got = {row.letter: row.edited for row in connection.execute(taking)}
                if rate and got and not cancelled:
                    connection.execute(
                        update(replays)
                        .where(replays.c.id == replay)
                        .values(paced_until=until + len(got) / rate)
                    )
            return (
                [{"letter": each, "edited": got[each]} for each in letters if each in got],
                bool(from_step),
                cancelled,
            )

        worked = self._database.run(work)
        if worked is None:
            return None
        rows, from_step, cancelled = worked
        bodies = self._letters(replay, [row["letter"] for row in rows])
        gone = [row["letter"] for row in rows if row["letter"] not in bodies]
        if gone:
            self.give_back(replay, gone, "dead_letter_gone", "The dead letter was discarded.")
        return [
            Taken(replay, bodies[row["letter"]], row["edited"], from_step, cancelled, by)
            for row in rows
            if row["letter"] in bodies
        ]

    def _letters(self, replay: int, ids: Sequence[str]) -> dict[str, DeadLetter]:
        if not ids:
            return {}
        query = select(*(dead_letters.c[name] for name in LETTER_FIELDS)).where(
            dead_letters.c.flow
            == select(replays.c.flow).where(replays.c.id == replay).scalar_subquery(),
            dead_letters.c.id.in_(ids),
            dead_letters.c.replay == replay,
        )
        return {letter.id: letter for letter in map(letter_of, self._rows(query))}

    # --- the connection -----------------------------------------------------------------------

    def _rows(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query)))

    def _column(self, query: Any) -> list[Any]:
        return [row[0] for row in self._rows(query)]

    def _write(self, *statements: Any) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                for statement in statements:
                    connection.execute(statement)

        self._database.run(work)


def _active(flow: str) -> Any:
    return (
        select(replays.c.id)
        .where(replays.c.flow == flow, replays.c.status.in_(ACTIVE))
        .order_by(replays.c.id)
    )


def _lock(connection: Connection, replay: int) -> Any:
    """Lock the replay's row first, as all do that change waiting entries; return what paces it."""
    paced = select(
        replays.c.rate, replays.c.paced_until, server_now(), replays.c.status, replays.c.from_step
    ).where(replays.c.id == replay)
    if connection.dialect.name == "postgresql":
        paced = paced.with_for_update()
    return connection.execute(paced).one()


def _claim_letters(connection: Connection, replay: Replay, ids: Sequence[str]) -> set[str]:
    """Mark the dead letters that wait as the replay's; return their ids."""
    table = dead_letters.c
    marking = (
        update(dead_letters)
        .where(table.flow == replay.flow, table.id.in_(ids), table.status == "waiting")
        .values(status="replaying", replay=replay.id)
        .returning(table.id)
    )
    return set(connection.execute(marking).scalars())


def _entry_row(replay: Replay, chosen: Chosen) -> Row:
    letter = chosen.letter
    return {
        "replay": replay.id,
        "letter": letter.id,
        "pipeline": letter.pipeline,
        "source": letter.source,
        "partition": letter.partition,
        "position": letter.position,
        "event_id": letter.event_id,
        "edited": chosen.edited,
        "original": None if chosen.edited is None else letter.event,
        "status": "waiting",
    }


def _allowed(rate: float | None, until: float, now: float, limit: int) -> tuple[int, float]:
    """Return how many may start now, and since when the time for them counts.

    What was not used up counts for a second at the most (or for one execution, where they are
    rarer): a pause is not made good by a burst.
    """
    if rate is None:
        return limit, until
    since = max(until, now - max(1.0, 1.0 / rate))
    return max(0, min(limit, int((now - since) * rate + 1e-6))), since
