"""What one reader has handed over of one stream, and what of it is settled. No socket, no clock.

Entry ids can't be the positions: what is claimed from a dead consumer, or read again after a
reconnect, has lower ids than what was handed over before. So a position is a number that rises
with each entry handed over, and over restarts, since it begins at the time in nanoseconds:

    position of an event   <20 digits>
    position of a batch    <20 digits> <id> <id> …

The ids are those of all entries that are settled once the batch is, and that the server is not known
to have acknowledged: what is among them at the next start, but still pending, was settled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from connectors.batch import Position
from connectors.errors import FatalError

EntryId = bytes

_DIGITS = 20


@dataclass(slots=True)
class _Handed:
    first: int
    ids: Sequence[EntryId]
    read_at: float
    text: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What a stored position says."""

    number: int
    ids: frozenset[EntryId]


def number_text(number: int) -> Position:
    """Return the position of one event."""
    return f"{number:0{_DIGITS}d}"


def parse(position: Position) -> Stored:
    """Return what a stored position says. Raises FatalError for one that is not of ours."""
    number, _, ids = position.partition(" ")
    if len(number) != _DIGITS or not number.isascii() or not number.isdigit():
        raise FatalError(
            f"the stored position {position[:60]!r} is not one of a Redis stream.",
            code="position_unreadable",
            hint="Did the module's type change under the same name? Give it a new name.",
        )
    return Stored(int(number), frozenset(ids.encode().split()))


def order_of(entry: EntryId) -> tuple[int, int]:
    """Return an entry id as numbers, which sort as entries do."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


def partition_of(stream: str, index: int) -> str:
    """Return the source partition of a stream as one worker reads it."""
    return f"{stream}/{index}"


def stored_of(positions: Mapping[str, Position], stream: str) -> Mapping[int, Stored]:
    """Return worker number → what is stored for the stream, of all workers there ever were."""
    found = {}
    for partition, position in positions.items():
        name, _, number = partition.rpartition("/")
        if name == stream and number.isdigit():
            found[int(number)] = parse(position)
    return found


class Progress:
    """Of one stream in one reader. Any thread may call it."""

    def __init__(self, first: int) -> None:
        """`first`: the number of the first entry to be handed over."""
        self._next = first
        self._handed: deque[_Handed] = deque()
        self._settled: list[EntryId] = []
        self._lock = threading.Lock()

    def hand_over(self, ids: Sequence[EntryId], read_at: float) -> tuple[int, Position]:
        """Give the entries numbers; return that before the first, and the position after all.

        The position of entry `k` of them is `first + k + 1`: the place after it.
        """
        with self._lock:
            first = self._next
            self._handed.append(_Handed(first, ids, read_at, b" ".join(ids).decode()))
            self._next += len(ids)
            texts = [handed.text for handed in self._handed]
            if self._settled:
                texts.insert(0, b" ".join(self._settled).decode())
            return first, f"{self._next:0{_DIGITS}d} {' '.join(texts)}"

    def settle(self, position: Position) -> None:
        """Note that everything up to `position` is settled, and durably so."""
        until = int(position[:_DIGITS])
        with self._lock:
            while self._handed:
                handed = self._handed[0]
                done = until - handed.first
                if done <= 0:
                    return
                if done < len(handed.ids):
                    self._settled += handed.ids[:done]
                    rest = handed.ids[done:]
                    self._handed[0] = _Handed(
                        handed.first + done, rest, handed.read_at, b" ".join(rest).decode()
                    )
                    return
                self._settled += handed.ids
                self._handed.popleft()

    def leave_out(self, ids: Iterable[EntryId]) -> None:
        """Note entries that are to be acknowledged and not handed over."""
        with self._lock:
            self._settled += ids

    def to_acknowledge(self) -> list[EntryId]:
        """Return what is settled and not known to be acknowledged, oldest first."""
        with self._lock:
            return list(self._settled)

    def acknowledged(self, count: int) -> None:
        """Note that the server has the first `count` of those."""
        with self._lock:
            del self._settled[:count]

    def held(self) -> set[EntryId]:
        """Return all entries that are on their way or wait to be acknowledged."""
        with self._lock:
            found = set(self._settled)
            for handed in self._handed:
                found.update(handed.ids)
            return found

    def held_since(self, before: float) -> list[EntryId]:
        """Return entries on their way that were read before that time."""
        with self._lock:
            return [each for h in self._handed if h.read_at < before for each in h.ids]

    @property
    def size(self) -> int:
        """How many entries are on their way or wait to be acknowledged."""
        with self._lock:
            handed = self._handed
            return (self._next - handed[0].first if handed else 0) + len(self._settled)
