"""Decide where to start: what the flow remembers against what the server has. Pure: no I/O.

Since PostgreSQL 15 a walsender that is asked to start behind the slot's confirmed position starts
at that position without a word, so the comparison has to be made here, before it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.errors import FatalError
from connectors.postgres_cdc.catalog import ServerFacts, SlotFacts
from connectors.postgres_cdc.position import (
    LAST_GENERATION,
    SnapshotPosition,
    StreamPosition,
    format_lsn,
)
from connectors.postgres_cdc.progress import Progress
from connectors.postgres_cdc.settings import PostgresCdcSettings

DROP_HINT = (
    "Raise max_slot_wal_keep_size, and keep the flow running. To go on, set snapshot: when_needed "
    "(all rows are read again) or on_slot_missing: create (go on from now); either makes the slot "
    "anew, as does dropping it: pg_drop_replication_slot('{slot}')."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start. With `progress` there are rows to read first; the stream follows."""

    generation: int
    """Of the stream; the snapshot's is one less."""
    create_slot: bool = False
    drop_slot: bool = False
    """The slot is lost and its policy is to make it anew."""
    skip: tuple[int, int] = (0, 0)
    """Changes up to this commit LSN and ordinal were settled before."""
    progress: Progress | None = None
    rows: int = 0
    """Rows of the snapshot that were settled before."""
    read: dict[str, Any] = field(default_factory=dict)
    """What a resumed snapshot had read when: until the stream is past it, changes are compared."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """What else the position says that holds on: snapshots while streaming, and tables known."""
    shapes: Mapping[str, Any] | None = None
    """The tables' columns as the position has them; None where it doesn't say."""
    start: int = 0
    """Where the stream starts; 0: where the slot is, which is known once it is made."""
    finished: bool = False
    """`snapshot: only`, and all rows were read."""
    warning: str = ""


def check_slot(settings: PostgresCdcSettings, facts: ServerFacts, slot: SlotFacts) -> None:
    """Refuse a slot that isn't ours to read, whatever the flow remembers."""
    name = settings.slot_name
    if slot.plugin != "pgoutput":
        raise FatalError(
            f"the replication slot {name} uses the plugin {slot.plugin}; pgoutput is needed.",
            code="slot_not_ours",
            hint="Choose another slot_name; the slot belongs to something else.",
            slot=name,
        )
    if slot.synced and facts.in_recovery:
        raise FatalError(
            f"the replication slot {name} on this standby is the copy of the primary's.",
            code="slot_not_ours",
            hint="It can be read once this server is the primary; choose another slot_name to "
            "read here meanwhile.",
            slot=name,
        )
    if slot.database != facts.database:
        raise FatalError(
            f"the replication slot {name} belongs to the database {slot.database}; "
            f"`connection` is to {facts.database}.",
            code="slot_not_ours",
            hint="Slot names are shared by all databases of a server: choose another slot_name.",
            slot=name,
        )


def decide(
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    slot: SlotFacts | None,
    stored: StreamPosition | SnapshotPosition | None,
    now: float,
) -> Plan:
    """Return how to start. Raises FatalError where a policy says that a person decides."""
    if settings.snapshot == "only":
        return _only(stored, facts, now)
    if slot is None:
        return _without_slot(settings, stored, now)
    check_slot(settings, facts, slot)
    if slot.lost:
        return _lost(settings, slot, stored, now)
    if stored is None:
        if settings.snapshot == "never":
            return Plan(generation=1, start=slot.confirmed_lsn, skip=(slot.confirmed_lsn, 0))
        return Plan(
            generation=1,
            progress=Progress.begin(slot.confirmed_lsn, now),
            start=slot.confirmed_lsn,
        )
    trouble = _mismatch(settings, facts, slot, stored)
    if trouble is not None:
        return _mismatched(settings, slot, stored, trouble, now)
    return _continue(stored, slot)


def _continue(stored: StreamPosition | SnapshotPosition, slot: SlotFacts) -> Plan:
    if isinstance(stored, SnapshotPosition):
        return Plan(
            generation=stored.generation + 1,
            progress=Progress.from_state(stored.state),
            rows=stored.rows,
            shapes=stored.state.get("shapes"),
            start=max(stored.lsn, slot.confirmed_lsn),
        )
    return Plan(
        generation=stored.generation,
        skip=stored.place(),
        start=stored.lsn,
        read=stored.state.get("read", {}),
        carried=stored.state,
        shapes=stored.state.get("shapes"),
    )


def _only(stored: StreamPosition | SnapshotPosition | None, facts: ServerFacts, now: float) -> Plan:
    if isinstance(stored, StreamPosition):
        raise FatalError(
            "the flow has streamed changes from this slot before, and `snapshot: only` would start "
            "over.",
            code="snapshot_only_after_stream",
            hint="Give the source module another name to read the rows once more, "
            "or go back to `snapshot: initial`.",
        )
    if stored is None:
        return Plan(generation=1, progress=Progress.begin(facts.wal_lsn, now))
    if stored.state.get("complete"):
        return Plan(generation=stored.generation + 1, finished=True)
    return Plan(
        generation=stored.generation + 1,
        progress=Progress.from_state(stored.state),
        rows=stored.rows,
    )


def _next(generation: int) -> int:
    """Return the generation of the stream after starting over."""
    if generation + 2 > LAST_GENERATION:
        raise FatalError(
            "the source has started over too often for its positions to go on growing.",
            code="position_unreadable",
            hint="Give the source module another name.",
        )
    return generation + (2 if generation % 2 else 3)


def _without_slot(
    settings: PostgresCdcSettings, stored: StreamPosition | SnapshotPosition | None, now: float
) -> Plan:
    if stored is None:
        progress = None if settings.snapshot == "never" else Progress.begin(0, now)
        return Plan(generation=1, create_slot=True, progress=progress)
    name = settings.slot_name
    if settings.snapshot == "when_needed":
        return Plan(
            generation=_next(stored.generation),
            create_slot=True,
            progress=Progress.begin(0, now),
            warning=f"the replication slot {name} is gone: it is made anew and all rows are read "
            "again; deletes since then are not seen.",
        )
    if settings.on_slot_missing == "fail":
        raise FatalError(
            f"the replication slot {name} does not exist, and the flow had read it up to "
            f"{format_lsn(stored.lsn)}: changes since then are gone from the slot.",
            code="slot_missing",
            hint="Was it dropped, or is this another server (a failover)? on_slot_missing: create "
            "goes on from now without them; snapshot: when_needed reads all rows again.",
            slot=name,
            position=format_lsn(stored.lsn),
        )
    unread = isinstance(stored, SnapshotPosition)
    return Plan(
        generation=_next(stored.generation),
        create_slot=True,
        progress=Progress.begin(0, now) if unread else None,
        carried={} if unread else stored.state,
        shapes=None if unread else stored.state.get("shapes"),
        warning=f"the replication slot {name} was gone and is made anew (on_slot_missing: create): "
        + (
            "its snapshot had not been finished and starts over."
            if unread
            else f"changes after {format_lsn(stored.lsn)} and before now are lost."
        ),
    )


def _lost(
    settings: PostgresCdcSettings,
    slot: SlotFacts,
    stored: StreamPosition | SnapshotPosition | None,
    now: float,
) -> Plan:
    name = settings.slot_name
    anew = replace(_without_slot(settings, None, now), drop_slot=True)
    if settings.snapshot == "when_needed" or settings.on_slot_missing == "create":
        if stored is not None:
            anew = replace(_without_slot(settings, stored, now), drop_slot=True)
        return replace(
            anew,
            warning=f"the replication slot {name} is invalidated ({slot.lost}) and is made anew: "
            + (
                "all rows are read again; deletes since then are not seen."
                if anew.progress
                else "changes it had not delivered are lost."
            ),
        )
    raise FatalError(
        f"the replication slot {name} is invalidated ({slot.lost}): "
        "changes it had not delivered are gone.",
        code="slot_invalidated",
        hint=DROP_HINT.format(slot=name),
        slot=name,
    )


def _mismatch(
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    slot: SlotFacts,
    stored: StreamPosition | SnapshotPosition,
) -> FatalError | None:
    """Return why slot and position don't belong together; None when they do."""
    name = settings.slot_name
    policies = (
        "on_position_mismatch: trust_slot goes on where the slot is, "
        "snapshot reads all rows again first."
    )
    about: dict[str, Any] = {
        "slot": name,
        "position": format_lsn(stored.lsn),
        "slot_position": format_lsn(slot.confirmed_lsn),
    }
    system = stored.state.get("system")
    if system and system != facts.system:
        return FatalError(
            f"the flow's position is from another database cluster (system identifier {system}, "
            f"this one is {facts.system}).",
            code="position_other_cluster",
            hint=f"Check `connection`. If the database was moved here: {policies}",
            **about,
        )
    if stored.lsn > facts.wal_lsn and not facts.in_recovery:
        return FatalError(
            f"the flow has read up to {format_lsn(stored.lsn)}, and the server's WAL ends at "
            f"{format_lsn(facts.wal_lsn)}: it was restored to an earlier time, or is another one.",
            code="position_beyond_wal",
            hint=f"Events of what was undone have been delivered. {policies}",
            **about,
        )
    if slot.confirmed_lsn > stored.lsn:
        return FatalError(
            f"the replication slot {name} is at {format_lsn(slot.confirmed_lsn)}, past the flow's "
            f"position {format_lsn(stored.lsn)}: changes in between may be gone.",
            code="slot_ahead",
            hint="The slot was read by something else, advanced by hand or made anew, or the state "
            f"store is an older copy. {policies}",
            **about,
        )
    return None


def _mismatched(
    settings: PostgresCdcSettings,
    slot: SlotFacts,
    stored: StreamPosition | SnapshotPosition,
    trouble: FatalError,
    now: float,
) -> Plan:
    policy = settings.on_position_mismatch
    if policy == "fail" and settings.snapshot != "when_needed":
        raise trouble
    at = slot.confirmed_lsn
    if policy == "snapshot" or (policy == "fail" and settings.snapshot == "when_needed"):
        return Plan(
            generation=_next(stored.generation),
            progress=Progress.begin(at, now),
            start=at,
            warning=f"{trouble.message} All rows are read again; deletes in between are not seen.",
        )
    if policy == "trust_slot":
        # An unfinished snapshot starts over: its rows may have changed in between.
        unread = isinstance(stored, SnapshotPosition)
        return Plan(
            generation=_next(stored.generation),
            progress=Progress.begin(at, now) if unread else None,
            skip=(at, 0),
            carried={} if unread else stored.state,
            shapes=None if unread else stored.state.get("shapes"),
            start=at,
            warning=f"{trouble.message} Going on where the slot is (on_position_mismatch: "
            "trust_slot).",
        )
    return replace(
        _continue(stored, slot),
        warning=f"{trouble.message} Going on after the flow's position (on_position_mismatch: "
        "trust_position).",
    )
