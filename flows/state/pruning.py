"""Forgetting what is past its retention, in transactions too small for a commit to wait on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Delete, and_, delete, func, select, tuple_

from flows.state.database import Database, transaction
from flows.state.signals import old_signals
from flows.state.tables import (
    dead_letters,
    history_chunks,
    idempotency_keys,
    replay_entries,
    replays,
    sagas,
    server_now,
    trigger_keys,
)

ROWS = 200
"""Deleted in one transaction: a few milliseconds."""

FREE_FOR = 3600.0
"""Seconds that an idempotency key must be free: its holder may be slow and finish it yet."""


def prune(
    database: Database,
    flow: str,
    *,
    dead_letters_before: Mapping[str, float],
    history_before: float | None,
    history_max_bytes: int | None,
) -> int:
    """Delete a flow's old rows; return how many. `dead_letters_before`: pipeline → time.

    Sagas are kept as long as the dead letters they belong to; those that somebody has to see to, always.
    """
    deleted = delete_all(database, _free_keys(flow))
    deleted += delete_all(database, _old_trigger_keys(flow))
    for pipeline, before in dead_letters_before.items():
        deleted += delete_all(database, _old_letters(flow, pipeline, before))
        deleted += delete_all(database, _old_sagas(flow, pipeline, before))
    if dead_letters_before:
        deleted += _delete_replays(database, flow, min(dead_letters_before.values()))
    if history_before is not None:
        deleted += delete_all(database, _old_chunks(flow, history_before))
        deleted += delete_all(database, old_signals(flow, history_before))
    if history_max_bytes is not None:
        deleted += _shrink(database, flow, history_max_bytes)
    return deleted


def _old_letters(flow: str, pipeline: str, before: float) -> Delete:
    table = dead_letters.c
    old = (
        select(table.id)
        .where(
            table.flow == flow,
            table.pipeline == pipeline,
            table.last_failed_at < before,
            table.status == "waiting",
        )
        .limit(ROWS)
    )
    # Time and status again: one that fails anew or is replayed between the two stays.
    return delete(dead_letters).where(
        table.flow == flow,
        table.id.in_(old.scalar_subquery()),
        table.last_failed_at < before,
        table.status == "waiting",
    )


def _old_sagas(flow: str, pipeline: str, before: float) -> Delete:
    table = sagas.c
    old = and_(
        table.flow == flow,
        table.pipeline == pipeline,
        table.status.in_(("compensated", "resolved")),
        table.updated_at < before,
    )
    some = select(table.id).where(old).limit(ROWS)
    return delete(sagas).where(old, table.id.in_(some.scalar_subquery()))


def _free_keys(flow: str) -> Delete:
    table = idempotency_keys.c
    expired = and_(table.flow == flow, table.expires_at < server_now() - FREE_FOR)
    some = select(table.digest).where(expired).limit(ROWS)
    # The time again: one that is taken between the two stays.
    return delete(idempotency_keys).where(expired, table.digest.in_(some.scalar_subquery()))


def _old_trigger_keys(flow: str) -> Delete:
    table = trigger_keys.c
    expired = and_(table.flow == flow, table.expires_at < server_now() - FREE_FOR)
    some = select(table.pipeline, table.key).where(expired).limit(ROWS)
    return delete(trigger_keys).where(expired, tuple_(table.pipeline, table.key).in_(some))


def _delete_replays(database: Database, flow: str, before: float) -> int:
    """Delete what is known of replays that ended before; the replay itself when nothing is left.

    Not of those that a key stands for, which is answered with them.
    """
    table = replays.c
    named = select(trigger_keys.c.replay).where(trigger_keys.c.flow == flow)
    old = select(table.id).where(
        table.flow == flow, table.finished_at < before, table.id.not_in(named)
    )
    total = 0
    for number in database.run(lambda connection: list(connection.execute(old).scalars())):
        entries = replay_entries.c
        some = select(entries.letter).where(entries.replay == number).limit(ROWS)
        total += delete_all(
            database,
            delete(replay_entries).where(
                entries.replay == number, entries.letter.in_(some.scalar_subquery())
            ),
        )
        gone = delete(replays).where(table.id == number)
        total += database.run(lambda connection, gone=gone: _execute(connection, gone))  # type: ignore[misc]
    return total


def _old_chunks(flow: str, before: float) -> Delete:
    table = history_chunks.c
    old = select(table.id).where(table.flow == flow, table.recorded_at < before).limit(ROWS)
    return delete(history_chunks).where(table.id.in_(old.scalar_subquery()))


def delete_all(database: Database, some: Delete) -> int:
    """Delete ROWS after ROWS, each in its own transaction, until nothing is left."""
    total = 0
    while True:
        deleted = database.run(lambda connection: _execute(connection, some))
        total += deleted
        if deleted < ROWS:
            return total


def _execute(connection: Connection, statement: Any) -> int:
    with transaction(connection):
        count: int = connection.execute(statement).rowcount
    return count


def _shrink(database: Database, flow: str, max_bytes: int) -> int:
    """Delete the oldest chunks until the flow's history fits."""
    table = history_chunks.c
    held = select(func.coalesce(func.sum(table.bytes), 0)).where(table.flow == flow)
    oldest = (
        select(table.id, table.bytes)
        .where(table.flow == flow)
        .order_by(table.recorded_at, table.id)
        .limit(ROWS)
    )
    excess = int(database.run(lambda connection: connection.execute(held).scalar_one())) - max_bytes
    total = 0
    while excess > 0:
        ids: list[int] = []
        for chunk, size in database.run(lambda connection: connection.execute(oldest).all()):
            if excess <= 0:
                break
            ids.append(chunk)
            excess -= size
        if not ids:
            break
        gone = delete(history_chunks).where(table.id.in_(ids))
        total += database.run(lambda connection, gone=gone: _execute(connection, gone))  # type: ignore[misc]
    return total
