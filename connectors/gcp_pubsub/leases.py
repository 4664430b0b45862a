"""Which messages one reader holds, and what of them is settled. No socket; any thread may ask.

Message ids don't rise in the order of arrival, so they can't be the positions. A position is a number that
rises with each message handed over, and over restarts, since it begins at the time in nanoseconds:

    position of an event   <20 digits>
    position of a batch    <20 digits> <message id> <message id> …

The ids are of all messages that are settled once the batch is, and that Pub/Sub is not known to have
acknowledged. What is among them and comes again, to whatever worker, is acknowledged and not run again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connectors.batch import Position
from connectors.progress import Stored, number_of, number_text

_REMEMBERED = 50_000
"""Acknowledged messages whose ids are remembered, at least: Pub/Sub may deliver one once more."""

_UNCONFIRMED = 2000
"""As many are told by a position: it is stored with every batch."""


def settled_of(stored: Stored) -> frozenset[str]:
    """Return the message ids that a stored position names."""
    return frozenset(each.decode() for each in stored.ids)


@dataclass(slots=True)
class _Handed:
    first: int
    ids: Sequence[str]


class Leases:
    """The messages of one subscription in one reader."""

    def __init__(self, first: int, settled: frozenset[str] = frozenset()) -> None:
        """`first`: number of the first message handed over; `settled`: what a reader before settled."""
        self._next = first
        self._settled_before = settled
        self._ack_ids: dict[str, str] = {}
        """Message id → its newest ack id, of all that is received and not acknowledged."""
        self._handed: deque[_Handed] = deque()
        self._settled: dict[str, None] = {}
        """To be acknowledged, in order."""
        self._unconfirmed: deque[str] = deque(maxlen=_UNCONFIRMED)
        """Settled, and their lease ran out before they were acknowledged: they may come again."""
        self._recent: set[str] = set()
        self._older: set[str] = set()
        self._lock = threading.Lock()

    def receive(self, ids: Sequence[str], ack_ids: Sequence[str]) -> list[int] | None:
        """Take messages in; return the places of those that are new, None where all are."""
        with self._lock:
            held, settled = self._ack_ids, self._settled
            new: list[int] | None = None
            if not (
                held.keys().isdisjoint(ids)
                and settled.keys().isdisjoint(ids)
                and self._recent.isdisjoint(ids)
                and self._older.isdisjoint(ids)
                and self._settled_before.isdisjoint(ids)
            ) or len(set(ids)) < len(ids):
                new = self._new_of(ids)
            held.update(zip(ids, ack_ids, strict=True))
            return new

    def _new_of(self, ids: Sequence[str]) -> list[int]:
        new = []
        seen = set()
        for place, message in enumerate(ids):
            if message in seen or message in self._settled:
                continue
            seen.add(message)
            if message in self._recent or message in self._older or message in self._settled_before:
                self._settled[message] = None
            elif message not in self._ack_ids:
                new.append(place)
        return new

    def hand_over(self, ids: Sequence[str]) -> tuple[int, Position]:
        """Give each message a number; return the one before the first, and the position after all.

        The position of message `k` of them is `first + k + 1`: the place after it.
        """
        with self._lock:
            first = self._next
            self._handed.append(_Handed(first, ids))
            self._next += len(ids)
            texts = [" ".join(known) for known in (self._unconfirmed, self._settled) if known]
            texts += [" ".join(handed.ids) for handed in self._handed]
            return first, f"{number_text(self._next)} {' '.join(texts)}"

    def settle(self, position: Position) -> None:
        """Note that everything up to `position` is settled, and durably so."""
        until = number_of(position)
        with self._lock:
            while self._handed:
                handed = self._handed[0]
                done = until - handed.first
                if done <= 0:
                    return
                self._settled.update(dict.fromkeys(handed.ids[:done]))
                if done < len(handed.ids):
                    self._handed[0] = _Handed(until, handed.ids[done:])
                    return
                self._handed.popleft()

    def to_acknowledge(self, most: int) -> list[tuple[str, str]]:
        """Return (message id, ack id) of what is settled, oldest first."""
        found = []
        with self._lock:
            for message in self._settled:
                ack_id = self._ack_ids.get(message)
                if ack_id:
                    found.append((message, ack_id))
                    if len(found) == most:
                        break
        return found

    def acknowledged(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note that Pub/Sub has these; one that came again meanwhile is acknowledged again."""
        with self._lock:
            for message, ack_id in pairs:
                if self._ack_ids.get(message) == ack_id:
                    del self._ack_ids[message]
                    self._settled.pop(message, None)
                    self._recent.add(message)
            if len(self._recent) >= _REMEMBERED:
                self._older, self._recent = self._recent, set()

    def lost(self, ack_ids: Iterable[str]) -> None:
        """Note that these leases have run out: the messages come again, and are known then."""
        gone = set(ack_ids)
        with self._lock:
            for message in [m for m, ack_id in self._ack_ids.items() if ack_id in gone]:
                if message in self._settled:
                    del self._settled[message], self._ack_ids[message]
                    self._recent.add(message)
                    self._unconfirmed.append(message)
                else:
                    self._ack_ids[message] = ""

    def drop(self, ids: Iterable[str]) -> None:
        """Forget messages that were received and are not to be handed over."""
        with self._lock:
            for message in ids:
                self._ack_ids.pop(message, None)

    def held(self) -> list[str]:
        """Return the ack ids of all leases: received and not acknowledged."""
        with self._lock:
            return [ack_id for ack_id in self._ack_ids.values() if ack_id]

    def unsettled(self) -> list[str]:
        """Return the ack ids of what is given back when the reader closes."""
        with self._lock:
            settled = self._settled
            return [a for message, a in self._ack_ids.items() if a and message not in settled]

    @property
    def size(self) -> int:
        """How many messages are held."""
        return len(self._ack_ids)
