"""`delivery: exactly_once`: a source whose outputs and positions are committed in one transaction.

    deliver … deliver │ prepare ──► commit ──────────► settle
    in the transaction│ outcome     outputs and        outcome and checkpoint valid,
                      │ in the      positions become   what was prepared forgotten
                      │ state store visible at once

A crash before the commit: the transaction is aborted, what was prepared is thrown away, the events
come again. A crash after it: what was prepared is settled (flows.runtime.takeover). So history, dead
letters, counts and checkpoint say what the transaction says, whenever somebody looks.

A transaction costs several round trips, so it takes more than one batch while there is a backlog.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from connectors.batch import Position
from connectors.contracts import TransactionalSink, TransactionScope
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.failpoints import fail_point
from flows.runtime.backoff import Backoff
from flows.runtime.committer import FIRST_DELAY, LONGEST_DELAY, PATIENCE, Committer
from flows.runtime.halt import Halt

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan

MOST_EVENTS: Final = 10_000
MOST_BYTES: Final = 16 * 1024 * 1024
"""What one transaction may hold: it is kept in memory until it is committed."""

LONGEST: Final = 0.1
"""Seconds after which a transaction is committed though more events wait: what readers wait longer."""


SLOW: Final = 3.0
"""Seconds after which a commit is shown as what the flow waits for."""


def scope_of(plan: FlowPlan, source: SourcePlan, shard: str) -> TransactionScope:
    """Return the scope of a shard's transactions."""
    group = getattr(source.settings, "group", None)
    return TransactionScope(
        writer=f"penstock/{plan.name}/{shard}",
        group=group or f"penstock.{plan.name}.{source.name}",
        owner=f"{plan.name}/{source.name}",
    )


class TransactionRun:
    """The transactions of one worker, one after another. Belongs to the dataflow's thread."""

    def __init__(
        self,
        sink: TransactionalSink,
        committer: Committer,
        halt: Halt,
        *,
        layout: str,
        known: Mapping[str, Position],
    ) -> None:
        """`known`: positions of the shard's partitions, as far as they are stored."""
        self._sink = sink
        self._committer = committer
        self._halt = halt
        self._layout = layout
        self._reached = dict(known)
        self._positions: dict[str, Position] = {}
        self._began = 0.0
        self._events = 0
        self._bytes = 0
        self.open = False
        """Whether anything waits to be committed."""
        self._committing_since: float | None = None
        self._waits_for = ""

    @property
    def status(self) -> str:
        """What it waits for, or ""; read by the reporter."""
        since = self._committing_since
        if since is None or time.monotonic() - since < SLOW:
            return ""
        seconds = time.monotonic() - since
        return f"a transaction is being committed since {seconds:.0f} s{self._waits_for}"

    def begin(self) -> None:
        """Note that a batch is on its way: it belongs to the open transaction, or begins one."""
        if not self.open:
            self.open = True
            self._began = time.monotonic()

    def add(self, positions: Mapping[str, Position], events: int, weight: int) -> None:
        """Take a batch that is through, with the positions after it; `weight` in bytes."""
        self._positions.update(positions)
        self._events += events
        self._bytes += weight

    def is_due(self) -> bool:
        """Whether to commit though more may wait."""
        return self.open and (
            self._events >= MOST_EVENTS
            or self._bytes >= MOST_BYTES
            or time.monotonic() - self._began >= LONGEST
        )

    def commit(self) -> bool:
        """Commit what was added, and have it settled; False when the worker must stop.

        Waits as long as it takes; the reason of a failure is in the halt.
        """
        positions, halt = self._positions, self._halt
        self._reached.update(positions)
        if not positions and self._reached:
            # Resumed executions move no position: any partition carries the transaction's name.
            positions = dict([next(iter(self._reached.items()))])
        name = os.urandom(8).hex()
        if not self._committer.prepare(positions, name, self._layout):
            return False
        fail_point("after_prepare_before_commit")
        self._committing_since = time.monotonic()
        if not self._commit(positions, name):
            return False
        self._committing_since, self._waits_for = None, ""
        fail_point("after_commit_before_settle")
        self._committer.settle_prepared()
        self._positions = {}
        self._events = self._bytes = 0
        self.open = False
        return not halt.error

    def _commit(self, positions: Mapping[str, Position], name: str) -> bool:
        """Commit it, again and again where that helps."""
        halt, backoff = self._halt, Backoff(FIRST_DELAY, LONGEST_DELAY)
        draining_since: float | None = None
        while not halt.error:
            try:
                self._sink.commit(positions, name)
            except RetryableError as error:
                self._waits_for = f": {error.message}"
                if halt.asked():
                    draining_since = draining_since or time.monotonic()
                    if time.monotonic() - draining_since >= PATIENCE / 2:
                        halt.fail(_stopped_waiting(error))
                        return False
                    time.sleep(backoff.longer())
                else:
                    halt.wait(backoff.longer())
            except PenstockError as error:
                halt.fail(error)
            else:
                return True
        return False


def _stopped_waiting(error: PenstockError) -> FatalError:
    return FatalError(
        f"stopped while a transaction could not be committed: {error.message}",
        code="transaction_unfinished",
        hint="Its events come again at the next start, unless it was committed after all.",
        unreachable=True,
    )
