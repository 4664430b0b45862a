"""Executions that are started by hand: one transaction makes the entry, its replay, and what a key stands for.

So a start is there whole or not at all, and of several that come at once with the same key one is first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, insert, select, update

from connectors.errors import RetryableError
from flows.state.database import Database, transaction
from flows.state.queries import upsert_of
from flows.state.records import DeadLetter
from flows.state.rows import letter_row
from flows.state.tables import (
    dead_letters,
    pipeline_totals,
    replay_entries,
    replays,
    server_now,
    trigger_keys,
)


class Started(NamedTuple):
    """The execution that a start has, or had when its key was used before."""

    replay: int
    execution: str
    again: bool
    """Its key was used before: this is what was started then, and nothing was started now."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be started."""

    letter: DeadLetter
    by: str
    selection: str
    """What the replay is of, as JSON."""
    execution_of: Callable[[int], str]
    """The number of the replay → the id that its execution will have."""
    key: str | None = None
    """The same key again starts nothing, within its pipeline."""
    ttl: float = 86400.0
    """Seconds for which the key is remembered."""


class Triggers:
    """What is started by hand, in a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        upsert = upsert_of(database.dialect)
        claim = upsert(trigger_keys)
        of_key = ["flow", "pipeline", "key"]
        self._claim = claim.on_conflict_do_update(
            index_elements=of_key,
            set_={
                name: claim.excluded[name]
                for name in ("replay", "execution", "created_at", "expires_at")
            },
            where=trigger_keys.c.expires_at <= server_now(),
        ).returning(trigger_keys.c.key)
        self._add_letter = (
            upsert(dead_letters).on_conflict_do_nothing().returning(dead_letters.c.id)
        )
        self._know = upsert(pipeline_totals).on_conflict_do_nothing()

    def start(self, start: Start) -> Started:
        """Store a start; durable when it returns. Raises RetryableError, FatalError.

        After a RetryableError it may be stored or not: with its key, it is safe to ask once more.
        """
        committing = False

        def work(connection: Connection) -> Started:
            nonlocal committing
            if committing and start.key is None:
                raise RetryableError(
                    "the connection was lost while a start was being stored.",
                    code="trigger_unknown",
                    hint="It may be stored or not: `penstock dlq replays` tells. With an idempotency key"
                    " it is safe to ask again.",
                )
            with transaction(connection):
                if start.key is not None:
                    first = self._claimed(connection, start)
                    if first is not None:
                        return first
                started = self._stored(connection, start)
                committing = True
            return started

        return self._database.run(work)

    def _claimed(self, connection: Connection, start: Start) -> Started | None:
        """Take the key; return what was started with it before, if anything."""
        letter = start.letter
        now = float(connection.execute(select(server_now())).scalar_one())
        row = {
            "flow": letter.flow,
            "pipeline": letter.pipeline,
            "key": start.key,
            "replay": 0,
            "execution": "",
            "created_at": now,
            "expires_at": now + start.ttl,
        }
        if connection.execute(self._claim, row).first() is not None:
            return None
        found = select(trigger_keys.c.replay, trigger_keys.c.execution).where(_of_key(start))
        replay, execution = connection.execute(found).one()
        return Started(int(replay), execution, again=True)

    def _stored(self, connection: Connection, start: Start) -> Started:
        letter = start.letter
        number = int(
            connection.execute(
                insert(replays)
                .values(
                    flow=letter.flow,
                    created_at=time.time(),
                    created_by=start.by,
                    selection=start.selection,
                    from_step=0,
                    status="running",
                    paced_until=0.0,
                    total=1,
                    done=0,
                    failed=0,
                    skipped=0,
                    returned=0,
                )
                .returning(replays.c.id)
            ).scalar_one()
        )
        row = letter_row(letter) | {"status": "replaying", "replay": number}
        if connection.execute(self._add_letter, row).first() is None:
            raise RetryableError(
                f"an execution of event {letter.event_id} is being started this very moment.",
                code="trigger_busy",
                hint="Start it again, or leave the event's id out.",
            )
        connection.execute(
            insert(replay_entries),
            {
                "replay": number,
                "letter": letter.id,
                "pipeline": letter.pipeline,
                "source": letter.source,
                "partition": letter.partition,
                "position": letter.position,
                "event_id": letter.event_id,
                "status": "waiting",
            },
        )
        known = {"flow": letter.flow, "pipeline": letter.pipeline, "shard": "imported"}
        connection.execute(self._know, known | {"done": 0, "failed": 0, "skipped": 0})
        execution = start.execution_of(number)
        if start.key is not None:
            connection.execute(
                update(trigger_keys)
                .where(_of_key(start))
                .values(replay=number, execution=execution)
            )
        return Started(number, execution, again=False)


def _of_key(start: Start) -> Any:
    table, letter = trigger_keys.c, start.letter
    return and_(
        table.flow == letter.flow, table.pipeline == letter.pipeline, table.key == start.key
    )
