"""A worker's hand on a store of idempotency keys: waits while it is away, and keeps what it holds.

A key is held for `lease` seconds. Steps may take longer than that (a sink that is away, a thousand
slow calls), so a thread of ours prolongs what is held while its executions run. It is started with
the first key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from connectors.errors import FatalError, PenstockError
from connectors.threads import watched
from flows.runtime.halt import Halt
from flows.runtime.waiting_for_store import until_it_answers
from flows.state.idempotency import KeyStore
from flows.state.records import Claim, Held, KeyOutcome

Result = TypeVar("Result")


class KeyKeeper:
    """Keys of one store. `reserve` and `settle` may be called from any thread."""

    def __init__(
        self,
        keys: KeyStore,
        halt: Halt,
        lease: float,
        begin: Callable[[KeyStore], None] | None = None,
    ) -> None:
        """`begin` is called before the first key is claimed; it may raise RetryableError."""
        self.keys = keys
        self._halt = halt
        self._lease = lease
        self._begin = begin
        self.status = ""
        """What it waits for, or ""; read by the reporter."""
        self._held: dict[bytes, tuple[Claim, float]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def reserve(self, claims: Sequence[Claim]) -> list[Held | None] | None:
        """Take keys, see `KeyStore.reserve`; waits for the store. None when the worker must stop."""

        def call() -> list[Held | None]:
            if self._begin is not None:
                self._begin(self.keys)
                self._begin = None
            return self.keys.reserve(claims, self._lease)

        found = self._patiently(call)
        if found is not None:
            now = time.monotonic()
            with self._lock:
                for claim, held in zip(claims, found, strict=True):
                    if held is None:
                        self._held[claim.digest] = claim, now
            self._prolong_from_now_on()
        return found

    def settle(self, outcomes: Sequence[KeyOutcome]) -> bool:
        """Say what becomes of keys, durably; waits for the store. False when the worker must stop."""

        def call() -> bool:
            self.keys.settle(outcomes)
            return True

        done = not outcomes or self._patiently(call) is not None
        self.let_go([outcome.claim for outcome in outcomes])
        return done

    def let_go(self, claims: Sequence[Claim]) -> None:
        """Prolong these no longer: what becomes of them is settled, or about to be."""
        with self._lock:
            for claim in claims:
                self._held.pop(claim.digest, None)

    def close(self) -> None:
        """Stop the thread and close the store; what is held ends by itself."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.keys.close()

    def _patiently(self, call: Callable[[], Result]) -> Result | None:
        return until_it_answers(
            call, self._halt, waits=self._tell, stopped=_stopped_waiting, patience=0.0
        )

    def _tell(self, message: str) -> None:
        self.status = message

    def _prolong_from_now_on(self) -> None:
        if self._thread is None and self._held:
            self._thread = threading.Thread(
                target=watched("prolonging keys", self._prolong, self._halt.fail),
                name="key-leases",
                daemon=True,
            )
            self._thread.start()

    def _prolong(self) -> None:
        """Prolong what has been held for a third of the lease, three times a lease."""
        pause = self._lease / 3
        while not self._closed.wait(pause):
            long_ago = time.monotonic() - pause
            with self._lock:
                old = [claim for claim, since in self._held.values() if since <= long_ago]
            # Whoever claims or settles next waits for a store that is away, and says so.
            with suppress(PenstockError):
                self.keys.prolong(old, self._lease)


def _stopped_waiting(error: PenstockError) -> FatalError:
    return FatalError(
        f"stopped while idempotency keys waited for their store: {error.message}",
        code=error.code,
        hint="Nothing of these events was settled; they come again at the next start.",
        unreachable=True,
    )


__all__ = ["KeyKeeper"]
