"""Reads every chunk of an archive and looks whether it is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectors.errors import FatalError
from flows.archive.pieces import checked_events
from flows.state.archive_queries import DAMAGED, GIVEN_UP, NOT_ARCHIVED, WHOLE
from flows.state.archive_store import ArchiveStore


@dataclass(frozen=True, slots=True)
class Verified:
    """A chunk that was read."""

    chunk: int
    events: int
    bytes: int
    first_time: float
    last_time: float
    damage: str = ""
    """What is wrong with it; "" for one that is whole."""
    given_up: bool = False
    """It was let go of before: there is nothing to read."""


def verify(archive: ArchiveStore, flow: str, source: str) -> Iterator[Verified]:
    """Yield every chunk as it was found; what is damaged is marked, what is whole again is not.

    Blocks while chunks are read. Raises FatalError, RetryableError of the state store.
    """
    after = 0
    while page := archive.every(flow, source, after):
        after = page[-1].id
        for place in page:
            if place.state == NOT_ARCHIVED:
                continue
            chunk = None if place.state == GIVEN_UP else archive.chunk(place.id)
            if chunk is None and place.state != GIVEN_UP:
                continue  # forgotten meanwhile
            size = 0 if chunk is None else len(chunk.body)
            damage = ""
            if chunk is not None:
                try:
                    checked_events(chunk, place.id)
                except FatalError as error:
                    damage = error.message
                state = DAMAGED if damage else WHOLE
                if state != place.state:
                    archive.mark(place.id, state)
            yield Verified(
                place.id,
                place.count,
                size,
                place.first_time,
                place.last_time,
                damage,
                given_up=chunk is None,
            )
