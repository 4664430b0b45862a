"""Every statement of the state store, written once and compiled for either database.

The two differ in nothing but where SQLAlchemy keeps `INSERT … ON CONFLICT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import (
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from flows.state.direct import Direct
from flows.state.rows import CHUNK_COLUMNS, LETTER_FIELDS, PARKED_FIELDS, PLACE_FIELDS
from flows.state.tables import (
    checkpoints,
    dead_letters,
    history_chunks,
    leases,
    pipeline_totals,
    server_now,
    sink_states,
)
from flows.state.tables import parked as _parked
from flows.state.tries import joined

AMBIGUOUS = 20
"""Entries shown for a prefix that fits several."""

_UPSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def upsert_of(dialect: str) -> Any:
    """Return the dialect's `INSERT … ON CONFLICT`."""
    return _UPSERT[dialect]


class Queries:
    """The statements of one dialect. Attributes, since each is compiled once and used often."""

    def __init__(self, dialect: str) -> None:
        upsert = upsert_of(dialect)
        self.acquire = _acquire(upsert)
        self.save_checkpoint = Direct(replacing(upsert, checkpoints), _names(checkpoints))
        self.save_sink_state = replacing(upsert, sink_states)
        counts = ("done", "failed", "skipped")
        self.add_totals = Direct(_adding(upsert, pipeline_totals, counts), _names(pipeline_totals))
        self.save_dead_letter = _refailing(upsert)
        self.save_replayed_letter = _replayed(upsert)
        self.add_chunk = Direct(insert(history_chunks).inline(), CHUNK_COLUMNS)
        self.park = Direct(_parking(upsert), _names(_parked))

    lease = select(leases.c.fence, leases.c.holder, leases.c.last_commit).where(
        leases.c.flow == bindparam("of_flow"), leases.c.shard == bindparam("of_shard")
    )

    shards = select(leases.c.shard).where(leases.c.flow == bindparam("flow"))

    _held = and_(
        leases.c.flow == bindparam("of_flow"),
        leases.c.shard == bindparam("of_shard"),
        leases.c.fence == bindparam("of_fence"),
        leases.c.holder == bindparam("of_holder"),
    )

    # "last_commit <> token" is what makes a repeated commit find out that it was done: PostgreSQL
    # looks at it again after a wait for the first one's transaction.
    claim = Direct(
        update(leases)
        .where(_held, leases.c.last_commit != bindparam("token"))
        .values(last_commit=bindparam("token"))
    )

    # Locks the row, so that nobody takes the lease over before the transaction has ended.
    still_held = update(leases).where(_held).values(holder=leases.c.holder)

    renew = update(leases).where(_held).values(expires_at=server_now() + bindparam("ttl"))

    forget_former = update(leases).where(_held).values(taken_from="")
    release = update(leases).where(_held).values(holder="", expires_at=0.0)

    positions = select(checkpoints.c.partition, checkpoints.c.position).where(
        checkpoints.c.flow == bindparam("flow"), checkpoints.c.source == bindparam("source")
    )

    sink_writers = (
        select(sink_states.c.writer, sink_states.c.sink)
        .where(sink_states.c.flow == bindparam("flow"))
        .order_by(sink_states.c.writer, sink_states.c.sink)
    )

    forget_sink_state = delete(sink_states).where(
        sink_states.c.flow == bindparam("of_flow"),
        sink_states.c.writer == bindparam("of_writer"),
        sink_states.c.sink == bindparam("of_sink"),
    )

    sink_states = select(sink_states.c.sink, sink_states.c.state).where(
        sink_states.c.flow == bindparam("flow"), sink_states.c.writer == bindparam("writer")
    )

    partitions = (
        select(
            checkpoints.c.source,
            checkpoints.c.partition,
            checkpoints.c.position,
            checkpoints.c.updated_at,
            checkpoints.c.lag_events,
            checkpoints.c.lag_bytes,
            checkpoints.c.lag_seconds,
        )
        .where(checkpoints.c.flow == bindparam("flow"))
        .order_by(checkpoints.c.source, checkpoints.c.partition)
    )

    totals = (
        select(
            pipeline_totals.c.pipeline,
            func.sum(pipeline_totals.c.done),
            func.sum(pipeline_totals.c.failed),
            func.sum(pipeline_totals.c.skipped),
        )
        .where(pipeline_totals.c.flow == bindparam("flow"))
        .group_by(pipeline_totals.c.pipeline)
        .order_by(pipeline_totals.c.pipeline)
    )

    pipelines = (
        select(pipeline_totals.c.pipeline)
        .distinct()
        .where(pipeline_totals.c.flow == bindparam("flow"))
        .order_by(pipeline_totals.c.pipeline)
    )

    letters = select(*(dead_letters.c[name] for name in LETTER_FIELDS)).order_by(
        dead_letters.c.last_failed_at.desc(), dead_letters.c.id.desc()
    )

    # Names of parameters differ from those of columns: an executemany of a delete needs it.
    unpark = Direct(
        delete(_parked).where(
            _parked.c.flow == bindparam("of_flow"),
            _parked.c.pipeline == bindparam("of_pipeline"),
            _parked.c.id == bindparam("of_id"),
        )
    )

    parked_places = (
        select(*(_parked.c[name] for name in PLACE_FIELDS))
        .where(_parked.c.flow == bindparam("flow"), _parked.c.source == bindparam("source"))
        .order_by(_parked.c.turn)
    )

    parked = select(*(_parked.c[name] for name in (*PLACE_FIELDS, *PARKED_FIELDS))).where(
        _parked.c.flow == bindparam("flow"),
        _parked.c.pipeline == bindparam("pipeline"),
        _parked.c.id.in_(bindparam("ids", expanding=True)),
    )

    parked_next = (
        select(*(_parked.c[name] for name in (*PLACE_FIELDS, *PARKED_FIELDS)))
        .where(_parked.c.flow == bindparam("flow"))
        .order_by(_parked.c.due_at, _parked.c.turn)
        .limit(bindparam("most"))
    )

    last_turn = select(func.max(_parked.c.turn)).where(_parked.c.flow == bindparam("flow"))

    parked_counts = (
        select(_parked.c.pipeline, func.count())
        .where(_parked.c.flow == bindparam("flow"))
        .group_by(_parked.c.pipeline)
    )

    letter_counts = (
        select(dead_letters.c.pipeline, func.count())
        .where(dead_letters.c.flow == bindparam("flow"))
        .group_by(dead_letters.c.pipeline)
    )

    flows = union(
        select(leases.c.flow), select(checkpoints.c.flow), select(pipeline_totals.c.flow)
    ).order_by("flow")


@cache
def queries_of(dialect: str) -> Queries:
    """Return the statements; a worker opens several stores, one of them while events flow."""
    return Queries(dialect)


def _acquire(upsert: Any) -> Any:
    """Take the lease in one statement: of two that try at once, one gets a row back."""
    expires = server_now() + bindparam("ttl")
    fresh = upsert(leases).values(
        flow=bindparam("flow"),
        shard=bindparam("shard"),
        holder=bindparam("holder"),
        fence=1,
        expires_at=expires,
        last_commit="",
    )
    return fresh.on_conflict_do_update(
        index_elements=[leases.c.flow, leases.c.shard],
        set_={
            "holder": fresh.excluded.holder,
            "fence": leases.c.fence + 1,
            "expires_at": fresh.excluded.expires_at,
            "last_commit": "",
            # Given back, or its own: whoever it was taken from before may still be there.
            "taken_from": case(
                (leases.c.holder.in_(["", bindparam("holder")]), leases.c.taken_from),
                else_=leases.c.holder,
            ),
        },
        where=(leases.c.expires_at <= server_now()) | (leases.c.holder == fresh.excluded.holder),
    ).returning(leases.c.fence, leases.c.taken_from)


def letters_page(
    flow: str | None, pipeline: str | None, limit: int, after: tuple[float, str] | None
) -> Select[Any]:
    """Return the query of a page of dead letters: newest failure first, ties by id."""
    query = Queries.letters.limit(limit)
    table = dead_letters.c
    if flow is not None:
        query = query.where(table.flow == flow)
    if pipeline is not None:
        query = query.where(table.pipeline == pipeline)
    if after is not None:
        at, letter = after
        query = query.where(
            table.last_failed_at <= at, or_(table.last_failed_at < at, table.id < letter)
        )
    return query


def letters_by_prefix(flow: str | None, prefix: str) -> Select[Any]:
    """Return the query of the dead letters whose id starts so; at most AMBIGUOUS of them."""
    table = dead_letters.c
    # "~" sorts behind every character of an id. A range uses the index, LIKE would not.
    query = Queries.letters.where(table.id >= prefix, table.id < prefix + "~").limit(AMBIGUOUS)
    return query if flow is None else query.where(table.flow == flow)


def _keys(table: Table) -> list[str]:
    return [column.name for column in table.primary_key]


def _others(table: Table, but: Iterable[str] = ()) -> list[str]:
    return [c.name for c in table.columns if not c.primary_key and c.name not in set(but)]


def replacing(upsert: Any, table: Table) -> Any:
    """Return what inserts a row, or puts it in the place of the one with its key."""
    new = upsert(table)
    return new.on_conflict_do_update(
        index_elements=_keys(table),
        set_={name: new.excluded[name] for name in _others(table)},
    )


def _adding(upsert: Any, table: Table, counts: Iterable[str]) -> Any:
    new = upsert(table)
    return new.on_conflict_do_update(
        index_elements=_keys(table),
        set_={name: table.c[name] + new.excluded[name] for name in counts},
    )


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _parking(upsert: Any) -> Any:
    """Let an execution that is set aside again keep its turn and the time it was first parked."""
    new = upsert(_parked)
    names = _others(_parked, ("parked_at",))
    return new.on_conflict_do_update(
        index_elements=_keys(_parked), set_={name: new.excluded[name] for name in names}
    )


def _refailing(upsert: Any) -> Any:
    """Let a second failure of an execution bring the newest error; the first time stays."""
    new = upsert(dead_letters)
    names = _others(dead_letters, ("first_failed_at", "attempts", "status", "replays", "replay"))
    newest: dict[str, Any] = {name: new.excluded[name] for name in names}
    newest["attempts"] = dead_letters.c.attempts + new.excluded.attempts
    newest["tries"] = joined(dead_letters.c.tries, new.excluded.tries)
    return new.on_conflict_do_update(index_elements=_keys(dead_letters), set_=newest)


_OF_THE_FAILURE = (
    "flow_version",
    "step",
    "error_code",
    "error_kind",
    "error_message",
    "error_hint",
    "context",
    "outputs",
    "compensation",
    "last_failed_at",
)


def _replayed(upsert: Any) -> Any:
    """Let a replay that failed bring its error; the event stays as it arrived, and waits again."""
    new = upsert(dead_letters)
    newest: dict[str, Any] = {name: new.excluded[name] for name in _OF_THE_FAILURE}
    newest["attempts"] = dead_letters.c.attempts + new.excluded.attempts
    newest["tries"] = joined(dead_letters.c.tries, new.excluded.tries)
    newest["replays"] = dead_letters.c.replays + new.excluded.replays
    newest |= {"status": new.excluded.status, "replay": new.excluded.replay}
    return new.on_conflict_do_update(index_elements=_keys(dead_letters), set_=newest)
