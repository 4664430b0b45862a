"""The messages that this reader has received and not deleted yet. No socket, no clock of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.progress import MessageId

Message = dict[str, Any]
"""As ReceiveMessage answers it."""

_BATCH_BYTES = 4 * 1024 * 1024
"""What a batch may weigh: large messages come in smaller batches."""


@dataclass(slots=True)
class _Held:
    handle: str
    hidden_until: float
    """By the monotonic clock."""


class InFlight:
    """Received messages: those that wait to be handed over, and the receipt handles of all.

    Any thread may call it. `changed` is notified of what comes and goes.
    """

    def __init__(self, settled: Collection[MessageId]) -> None:
        """`settled`: messages settled before this reader was opened, and perhaps not deleted."""
        self.changed = threading.Condition()
        self._settled = set(settled)
        self._held: dict[MessageId, _Held] = {}
        self._waiting: deque[tuple[Message, float]] = deque()
        self._to_delete: deque[MessageId] = deque()
        self.closed = False

    def arrived(self, messages: Sequence[Message], *, hidden_until: float, now: float) -> int:
        """Take messages that were received; return how many of them are new here.

        One that is in our hands already has come again: only its latest handle deletes it. One that
        was settled before is deleted and not handed over.
        """
        new = 0
        with self.changed:
            for message in messages:
                name = message["MessageId"].encode()
                held = self._held.get(name)
                self._held[name] = _Held(message["ReceiptHandle"], hidden_until)
                if name in self._settled:
                    self._to_delete.append(name)
                elif held is None:
                    self._waiting.append((message, now))
                    new += 1
            self.changed.notify_all()
        return new

    def take(self, limit: int, timeout: float) -> tuple[list[Message], float]:
        """Return messages to be handed over, in order, and when the first was received."""
        with self.changed:
            if not self._waiting and timeout > 0 and not self.closed:
                self.changed.wait(timeout)
            taken: list[Message] = []
            first, weight = 0.0, 0
            while self._waiting and len(taken) < limit and weight < _BATCH_BYTES:
                message, at = self._waiting.popleft()
                first = first or at
                weight += len(message["Body"])
                taken.append(message)
            if taken:
                self.changed.notify_all()
            return taken, first

    # --- deleting ---------------------------------------------------------------------------------

    def settled(self, ids: Iterable[MessageId]) -> None:
        """Have messages deleted. They stay known as settled: should one come again, it goes again."""
        with self.changed:
            for name in ids:
                self._settled.add(name)
                self._to_delete.append(name)
            self.changed.notify_all()

    def next_to_delete(self, most: int, timeout: float) -> list[tuple[MessageId, str]]:
        """Return messages to delete, with their handles; waits for a first one."""
        with self.changed:
            if not self._to_delete and not self.closed:
                self.changed.wait(timeout)
            found: dict[MessageId, str] = {}
            while self._to_delete and len(found) < most:
                name = self._to_delete.popleft()
                held = self._held.get(name)
                if held is not None:
                    found[name] = held.handle
            return list(found.items())

    def deleted(self, ids: Iterable[MessageId]) -> None:
        """Forget messages that are deleted."""
        with self.changed:
            for name in ids:
                self._held.pop(name, None)
                self._settled.discard(name)
            self.changed.notify_all()

    def gone(self, ids: Iterable[MessageId]) -> None:
        """Let go of messages whose handles no longer hold; they stay known as settled."""
        with self.changed:
            for name in ids:
                self._held.pop(name, None)
            self.changed.notify_all()

    def forget(self, ids: Iterable[MessageId]) -> None:
        """Forget that messages were settled which are not in our hands."""
        with self.changed:
            self._settled.difference_update(name for name in ids if name not in self._held)

    # --- visibility -------------------------------------------------------------------------------

    def due(self, before: float) -> list[tuple[MessageId, str]]:
        """Return what becomes visible before that time."""
        with self.changed:
            return [
                (name, held.handle)
                for name, held in self._held.items()
                if held.hidden_until < before
            ]

    def hidden(self, ids: Iterable[tuple[MessageId, str]], until: float) -> None:
        """Note that messages stay hidden until then."""
        with self.changed:
            for name, handle in ids:
                held = self._held.get(name)
                if held is not None and held.handle == handle:
                    held.hidden_until = until

    def unsettled(self) -> list[tuple[MessageId, str]]:
        """Return what nobody has settled, in the order it was received."""
        with self.changed:
            return [
                (name, held.handle)
                for name, held in self._held.items()
                if name not in self._settled
            ]

    @property
    def waiting(self) -> int:
        """How many messages wait to be handed over."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """How many messages were received and are not deleted."""
        return len(self._held)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
