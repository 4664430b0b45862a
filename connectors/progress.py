"""What one reader of a queue has handed over, and what of it is settled. No socket, no clock.

A queue hands over what it likes in an order of its own: what a dead consumer left, or what was not
acknowledged in time, comes back later. So ids can't be the positions. A position is a number that
rises with each message handed over, and over restarts, since it begins at the time in nanoseconds:

    position of an event   <20 digits>
    position of a batch    <20 digits> <id> <id> …

The ids are those of all messages that are settled once the batch is, and that the server is not known
to have acknowledged: what is among them at the next start, and still there, was settled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from connectors.batch import Position
from connectors.errors import FatalError

MessageId = bytes

_DIGITS = 20


@dataclass(slots=True)
class _Handed:
    first: int
    ids: Sequence[MessageId]
    read_at: float
    text: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What a stored position says."""

    number: int
    ids: frozenset[MessageId]


def number_text(number: int) -> Position:
    """Return the position of one event."""
    return f"{number:0{_DIGITS}d}"


def number_of(position: Position) -> int:
    """Return the number of a position that is known to be of ours."""
    return int(position[:_DIGITS])


def parse(position: Position) -> Stored:
    """Return what a stored position says. Raises FatalError for one that is not of ours."""
    number, _, ids = position.partition(" ")
    if len(number) != _DIGITS or not number.isascii() or not number.isdigit():
        raise FatalError(
            f"the stored position {position[:60]!r} is not one of a queue.",
            code="position_unreadable",
            hint="Did the module's type change under the same name? Give it a new name.",
        )
    return Stored(int(number), frozenset(ids.encode().split()))


def partition_of(queue: str, index: int) -> str:
    """Return the source partition of a queue as one worker reads it."""
    return f"{queue}/{index}"


def stored_of(positions: Mapping[str, Position], queue: str) -> Mapping[int, Stored]:
    """Return worker number → what is stored for the queue, of all workers there ever were."""
    found = {}
    for partition, position in positions.items():
        name, _, number = partition.rpartition("/")
        if name == queue and number.isdigit():
            found[int(number)] = parse(position)
    return found


class Progress:
    """Of one queue in one reader. Any thread may call it."""

    def __init__(self, first: int) -> None:
        """`first`: the number before that of the first message to be handed over."""
        self._next = first
        self._handed: deque[_Handed] = deque()
        self._settled: list[MessageId] = []
        self._lock = threading.Lock()

    def hand_over(self, ids: Sequence[MessageId], read_at: float) -> tuple[int, Position]:
        """Give the messages numbers; return that before the first, and the position after all.

        The position of message `k` of them is `first + k + 1`: the place after it.
        """
        with self._lock:
            first = self._next
            self._handed.append(_Handed(first, ids, read_at, b" ".join(ids).decode()))
            self._next += len(ids)
            texts = [handed.text for handed in self._handed]
            if self._settled:
                texts.insert(0, b" ".join(self._settled).decode())
            return first, f"{number_text(self._next)} {' '.join(texts)}"

    def settle(self, position: Position) -> Sequence[MessageId]:
        """Note that everything up to `position` is settled, and durably so; return what is new."""
        until = number_of(position)
        with self._lock:
            before = len(self._settled)
            self._settle(until)
            return self._settled[before:]

    def _settle(self, until: int) -> None:
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

    def leave_out(self, ids: Iterable[MessageId]) -> None:
        """Note messages that are to be acknowledged and not handed over."""
        with self._lock:
            self._settled += ids

    def to_acknowledge(self) -> list[MessageId]:
        """Return what is settled and not known to be acknowledged, oldest first."""
        with self._lock:
            return list(self._settled)

    def acknowledged(self, count: int) -> None:
        """Note that the server has the first `count` of those."""
        with self._lock:
            del self._settled[:count]

    def forget(self, ids: Collection[MessageId]) -> None:
        """Note that the server has these, or that they won't come again."""
        with self._lock:
            self._settled = [each for each in self._settled if each not in ids]

    def held(self) -> set[MessageId]:
        """Return all messages that are on their way or wait to be acknowledged."""
        with self._lock:
            found = set(self._settled)
            for handed in self._handed:
                found.update(handed.ids)
            return found

    def held_since(self, before: float) -> list[MessageId]:
        """Return messages on their way that were read before that time."""
        with self._lock:
            return [each for h in self._handed if h.read_at < before for each in h.ids]

    @property
    def size(self) -> int:
        """How many messages are on their way or wait to be acknowledged."""
        with self._lock:
            handed = self._handed
            return (self._next - handed[0].first if handed else 0) + len(self._settled)
