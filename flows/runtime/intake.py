"""The intake: where a shard of a source hands batches to the dataflow, and learns their outcome.

Bytewax runs it as the one partition of its input. Every epoch is one batch. Measured on Bytewax
0.21.1 without a RecoveryConfig (tests/flows/runtime/test_epoch_gate.py holds it): the first
`next_batch()` after a `snapshot()` runs only when every output, on every worker, is through with
everything emitted before that snapshot. So `snapshot` seals what was emitted, and the next
`next_batch` checkpoints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Reader
from connectors.errors import PenstockError, RetryableError
from flows.runtime.committer import Committer
from flows.runtime.exchange import PULSE
from flows.runtime.halt import Halt
from flows.runtime.lookahead import Lookahead
from flows.runtime.replaying import Replaying
from flows.runtime.resuming import Resumer
from flows.runtime.signals import Signalling
from flows.runtime.spread import PULSE_EVERY, WaitingElsewhere
from flows.runtime.transactions import TransactionRun
from transforms.executions import Executions

BATCH = 1000
"""Events a batch holds at most. Measured: below, what is paid per batch shows; at 5,000 the CPU
per event grows again, since a batch no longer fits the caches."""

POLL = 0.1
"""Seconds that an idle intake waits for a first event before it looks at its other duties."""

SHARED_POLL = timedelta(milliseconds=2)
"""Between looks of an intake whose thread also does other processes' share of the work."""


Item = Batch | Executions | bytes
"""What an intake hands over: new events, what was parked, or a pulse for the processes of a cluster."""


class Intake(StatefulSourcePartition["Item", None]):
    """One reader, read batch by batch; see the module's text for the order of things."""

    def __init__(
        self,
        reader: Reader | Lookahead,
        committer: Committer,
        halt: Halt,
        *,
        resumer: Resumer | None = None,
        replaying: Replaying | None = None,
        only_replays: bool = False,
        transactions: TransactionRun | None = None,
        signals: Signalling | None = None,
        elsewhere: WaitingElsewhere | None = None,
        shares_thread: bool = False,
        archives: Literal["", "events", "messages"] = "",
    ) -> None:
        """`only_replays`: it ends when no replay, retried saga or signal waits any more, whatever else does.

        `archives`: new events are archived together with their checkpoint; "messages": with what they
        arrived as. `elsewhere`: what waits of pipelines that are spread over a cluster.
        """
        self._reader = reader
        self._committer = committer
        self._halt = halt
        self._resumer = resumer
        self._replaying = replaying
        self._only_replays = only_replays
        self._transactions = transactions
        self._signals = signals
        self._size = self._weight = 0
        self._resumed_last = False
        self._at_end = False
        self.status = ""
        """What it waits for, or ""; read by the reporter."""
        self._elsewhere = elsewhere
        self._timeout = 0.0 if shares_thread else POLL if elsewhere is None else PULSE_EVERY
        self._idle = False
        self._archives = archives
        self._to_archive: Batch | None = None
        self._emitted: dict[str, Position] | None = None
        self._sealed: dict[str, Position] | None = None

    def next_batch(self) -> list[Item]:
        """Checkpoint what is through, acknowledge what is durable, hand over what has come."""
        halt = self._halt
        if halt.error:
            raise StopIteration
        self.finish_epoch()
        if halt.asked():
            raise StopIteration
        if self._elsewhere is not None and self._elsewhere.is_due():
            # An epoch of its own: what goes on is stored at once, and nothing of a batch is open now.
            return [PULSE]
        # Asked once: what comes in the meantime must not be parked within an open transaction.
        replays = self._replaying is not None and self._replaying.have_come()
        asked = self._signals is not None and self._signals.have_come()
        transactions = self._transactions
        if (
            transactions is not None
            and (((replays or asked) and transactions.open) or transactions.is_due())
            and not transactions.commit()
        ):
            raise StopIteration
        if replays and self._replaying is not None:
            self._replaying.park()
        if asked and self._signals is not None:
            self._signals.obey()
        try:
            resumed = self._resume()
            if resumed is not None:
                self._emit({}, resumed.events)
                return [resumed]
            if transactions is not None and transactions.open:
                # What waits to be committed does not wait for what has not come yet.
                batch = None if self._must_wait() else self._reader.poll(BATCH, 0.0)
                if batch is None:
                    if not transactions.commit():
                        raise StopIteration
                    return []
            elif self._must_wait():
                self._idle = True
                if self._timeout:
                    halt.wait(POLL / 2)
                return []
            else:
                batch = self._reader.poll(BATCH, self._timeout)
        except EndOfSource:
            self._at_end = True
            if self._is_unfinished():
                return []
            raise StopIteration from None
        except PenstockError as error:
            halt.fail(error)
            raise StopIteration from None
        self._idle = batch is None
        if batch is None:
            return []
        self._emit(batch.after, batch)
        if self._elsewhere is not None:
            self._elsewhere.read(batch.size)
        if self._archives and batch.size:
            self._to_archive = batch
        return [batch] if batch.size else []

    def _emit(self, after: Mapping[str, Position], batch: Batch) -> None:
        self._emitted = dict(after)
        if self._transactions is not None:
            self._size, self._weight = batch.size, batch.weight
            self._transactions.begin()

    def _resume(self) -> Executions | None:
        """Return parked executions that are due, in turns with new events."""
        resumer = self._resumer
        if resumer is None or not resumer.waiting():
            self.status = "" if self._elsewhere is None else self._elsewhere.full()
            return None
        if self._resumed_last and not self._at_end and not resumer.full():
            self._resumed_last = False
            return None
        try:
            resumed = resumer.take()
        except RetryableError as error:  # as the committer does, wait for the state store
            self.status = f"state store: {error.message}"
            return None
        self.status = self._full()
        self._resumed_last = resumed is not None
        return resumed

    def _must_wait(self) -> bool:
        """Whether no new event may be read: too many wait, or the source is at its end."""
        if self._at_end:
            if not self._is_unfinished():
                raise EndOfSource
            return True
        return bool(self._full())

    def _full(self) -> str:
        """Return why no new event may be read just now; "" when it may."""
        why = "" if self._resumer is None else self._resumer.full()
        return why or ("" if self._elsewhere is None else self._elsewhere.full())

    def _is_unfinished(self) -> bool:
        """Whether something waits that must be through before the end."""
        if self._only_replays:
            if self._resumer is not None and self._resumer.retrying():
                return True
            if self._signals is not None and self._signals.unfinished():
                return True
            return self._replaying is not None and self._replaying.unfinished()
        if self._resumer is not None and self._resumer.unfinished():
            return True
        return self._elsewhere is not None and self._elsewhere.unfinished()

    def next_awake(self) -> datetime | None:
        """Return when to ask again: at once, or shortly where waiting would hold up an exchange."""
        if self._idle and not self._timeout:
            return datetime.now(timezone.utc) + SHARED_POLL
        return None

    def snapshot(self) -> None:
        """Seal what was emitted: the epoch ends here. Bytewax stores nothing (no RecoveryConfig)."""
        if self._emitted is not None:
            self._sealed, self._emitted = self._emitted, None

    def finish_epoch(self) -> None:
        """Checkpoint the sealed epoch and acknowledge what the committer has made durable."""
        if self._sealed is not None:
            if self._to_archive is not None:
                messages = self._archives == "messages"
                self._committer.archive(self._to_archive, with_arrivals=messages)
                self._to_archive = None
            if self._transactions is None:
                self._committer.checkpoint(self._sealed)
            else:
                self._transactions.add(self._sealed, self._size, self._weight)
            self._sealed = None
        self.acknowledge()

    @property
    def transaction_status(self) -> str:
        """What a transaction waits for, or ""; read by the reporter."""
        return "" if self._transactions is None else self._transactions.status

    def finish(self) -> None:
        """Finish the last epoch, which no `next_batch` follows, and commit what is open."""
        self.snapshot()
        self.finish_epoch()
        if self._transactions is not None and self._transactions.open:
            self._transactions.commit()

    def acknowledge(self) -> None:
        """Acknowledge upstream what is durable by now; a transaction has done it itself."""
        durable = self._committer.take()
        if durable and self._transactions is None:
            self._reader.acknowledge(durable)


class IntakeSource(FixedPartitionedSource["Item", None]):
    """Bytewax's source: one partition, which is the shard's intake, or none."""

    def __init__(self, intake: Intake | None, name: str) -> None:
        self._intake = intake
        self._name = name

    def list_parts(self) -> list[str]:
        """Return the one part, where this process has it."""
        return [self._name] if self._intake else []

    def build_part(self, _step_id: str, _for_part: str, _resume_state: Any) -> Intake:
        """Return the intake, opened before the dataflow was built."""
        assert self._intake is not None  # noqa: S101 - no part was listed without it
        return self._intake
