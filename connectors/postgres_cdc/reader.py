"""`PostgresCdcReader`: hands the feed's chunks to the dataflow as batches, and says where it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from connectors.batch import Batch, Position
from connectors.contracts import (
    EndOfSource,
    Lag,
    SlotHealth,
    SnapshotReport,
    SnapshotRequest,
)
from connectors.errors import FatalError, PenstockError
from connectors.failpoints import fail_point
from connectors.postgres_cdc.assemble import Assembler
from connectors.postgres_cdc.chunks import ChunkReader, Describe, on_standby
from connectors.postgres_cdc.columns import Columns, Shape, advance, snapshot_key
from connectors.postgres_cdc.copies import Copies
from connectors.postgres_cdc.feed import Feed, Ground
from connectors.postgres_cdc.heartbeat import Heartbeat
from connectors.postgres_cdc.incremental import Copy, Desk
from connectors.postgres_cdc.pgoutput import ProtocolError
from connectors.postgres_cdc.plan import Plan
from connectors.postgres_cdc.position import SnapshotPosition, StreamPosition, parse_position
from connectors.postgres_cdc.progress import Doubt, Progress
from connectors.postgres_cdc.readahead import (
    Chunk,
    Ended,
    Failed,
    Messages,
    ReadAhead,
    Rows,
    SnapshotStarted,
    StreamStarted,
    TableRead,
)
from connectors.postgres_cdc.runs import Counts, Interest, Run
from connectors.postgres_cdc.shapes import Known, Shapes
from connectors.postgres_cdc.stream import Acknowledged
from connectors.postgres_cdc.transactions import Transactions

BATCH = 4 << 20
"""Bytes from which on a batch takes no further chunk."""

IDLE_CHECKPOINT = 10.0
"""Seconds between checkpoints of a stream without events, where there is no heartbeat."""


class PostgresCdcReader:
    """One open slot. See connectors.contracts.Reader for what its methods promise."""

    def __init__(
        self,
        ground: Ground,
        plan: Plan,
        interest: Interest,
        shape: Shape,
        *,
        end: int | None,
        describe: Describe,
        stored: str = "",
        columns: Known,
    ) -> None:
        """`end`: raise EndOfSource once everything that committed before this LSN is handed over.

        `stored`: the position that the flow has. `describe`: looks a table up anew, for rows that are read while streaming.
        `columns`: those of the tables now.
        """
        self._describe = describe
        self._ground = ground
        self._plan = plan
        self._interest = interest
        self._end = end
        self._slot = ground.settings.slot_name
        self._columns = Columns(shape, plan.generation)
        self._queue = ReadAhead()
        self._acknowledged = Acknowledged()
        self._progress: Progress | None = None
        if plan.progress is not None:
            self._progress = plan.progress.copy()
            self._progress.kinds = {one.name: one.table.kinds or () for one in ground.tables}
        self._shapes = _shapes(ground, plan, columns)
        self._rows = plan.rows
        self._snapshot_batches = 0
        self._assembler: Assembler | None = None
        self._chunk: Messages | Rows | None = None
        self._at = 0
        self._held: Chunk | None = None
        self._failure: PenstockError | None = None
        self._ended = plan.finished
        self._handed = ""
        self._floor = stored
        # Long ago: where a stream starts is stored as soon as it has started.
        self._checkpointed = float("-inf")
        self._wal_end = ground.facts.wal_lsn
        eager = end is not None
        self._feed = Feed(ground, plan, self._queue, self._acknowledged, eager=eager)
        names = [table.name for table in ground.settings.tables]
        self._copies = Copies(self._feed, names, self._read_chunks)
        beat = ground.settings.heartbeat
        self._idle_every = beat or IDLE_CHECKPOINT
        self._heartbeat: Heartbeat | None = None
        if ground.settings.snapshot != "only":
            interval = min(beat or 0.5, 0.5) if eager else beat
            self._heartbeat = Heartbeat(
                ground.settings.connection,
                ground.application,
                # A standby's WAL is the primary's: nothing can be written there.
                0.0 if ground.facts.in_recovery else interval,
                ground.facts.version,
                self._seen,
                slot=self._slot,
                fail=lambda error: self._queue.put(Failed(error)),
            )
        if not plan.finished:
            self._feed.start()
            if self._heartbeat is not None:
                self._heartbeat.start()

    def _read_chunks(self, desk: Desk) -> ChunkReader:
        ground = self._ground
        reading = ChunkReader(
            ground.settings.connection,
            ground.application,
            desk,
            self._describe,
            utf8=ground.facts.utf8,
        )
        if ground.facts.in_recovery:
            desk.failure = on_standby(ground.settings.slot_name)
        else:
            reading.start()
        return reading

    def _seen(self, lsn: int) -> None:
        self._wal_end = max(self._wal_end, lsn)

    # ---- the contract ----

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what has arrived; see the contract."""
        self._copies.look()
        if self._caught_up() or (not self._handed and self._position()):
            # Where the stream will start is stored before the first row of a snapshot goes out.
            return self._without_events()
        deadline = time.monotonic() + timeout
        runs: list[Run] = []
        room, weight = limit, 0
        while room > 0 and weight < BATCH:
            if self._chunk is None:
                if runs and self._held is not None:
                    break
                if not self._next(0.0 if runs else deadline - time.monotonic(), runs):
                    break
                continue
            before = len(runs)
            if isinstance(self._chunk, Rows):
                if self._snapshot_progress().ahead != _bound(self._chunk):
                    # How far rows may be out is stored before they go out.
                    break
                self._take_rows(self._chunk, room, runs)
            else:
                self._take_messages(self._chunk, room, runs)
            # The last run of before may have grown: a transaction goes on from chunk to chunk.
            room = limit - sum(len(run.messages) for run in runs)
            weight += sum(sum(map(len, run.messages)) for run in runs[before:])
            if not runs and self._idle_position():
                break
        if runs:
            return self._batch(runs, limit - room, weight)
        return self._without_events()

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Let the slot move on to what is settled; the feed reports it within a second."""
        text = positions.get(self._slot)
        if text is None:
            return
        position = parse_position(text)
        if "copied" in position.state:
            self._copies.settled(position.state["copied"])
        if isinstance(position, StreamPosition) and position.lsn > self._acknowledged.lsn:
            asleep = self._acknowledged.lsn <= self._acknowledged.reported
            self._acknowledged.lsn = position.lsn
            if asleep:
                self._feed.wake()

    def lag(self) -> Mapping[str, Lag]:
        """Return the WAL between what was handed over and its end as it was last seen."""
        assembler = self._assembler
        at = self._plan.start if assembler is None else assembler.lsn
        if not at:
            return {self._slot: Lag()}
        behind = max(0, max(self._wal_end, self._feed.wal_end) - at)
        quiet = self._chunk is None and self._queue.size == 0
        seconds = None
        if assembler is not None and assembler.last_time:
            seconds = 0.0 if quiet else max(0.0, time.time() - assembler.last_time)
        elif quiet and not behind:
            # Nothing with a time has been read, and nothing is left to read.
            seconds = 0.0
        return {self._slot: Lag(bytes=behind, seconds=seconds)}

    def slots(self) -> Mapping[str, SlotHealth]:
        """Return how the slot was when it was last looked at; see SlotReading."""
        found = None if self._heartbeat is None else self._heartbeat.found
        if found is None:
            return {}
        health = SlotHealth(
            active=found.active,
            wal_status=found.retained,
            retained_bytes=found.retained_bytes,
            safe_bytes=found.safe_bytes,
        )
        return {self._slot: health}

    def owns(self, partition: str) -> bool:  # noqa: ARG002 - a slot has one
        """Return True: a slot is one partition, and its one reader's."""
        return True

    def status(self) -> str:
        """Return what the feed waits for, or ""."""
        trouble = "" if self._heartbeat is None else self._heartbeat.warning
        return "; ".join(each for each in (self._feed.status, trouble, self._copies.status) if each)

    def want_snapshots(self, requests: Sequence[SnapshotRequest]) -> None:
        """Tell which snapshots are wanted now; see the contract."""
        self._copies.want(requests)

    def snapshot_reports(self) -> Sequence[SnapshotReport]:
        """Return how far they are; see the contract."""
        return self._copies.reports()

    def close(self) -> None:
        """Report the last position and disconnect."""
        self._queue.close()
        self._copies.close()
        self._feed.close(2.0)
        if self._heartbeat is not None:
            self._heartbeat.close(1.0)

    # ---- chunks ----

    def _next(self, wait: float, runs: list[Run]) -> bool:
        """Make the next chunk the current one; False when there is none to go on with now."""
        if self._failure is not None or self._ended:
            return False
        chunk = self._held
        self._held = None
        if chunk is None:
            chunk = self._queue.take(wait)
        match chunk:
            case None:
                return False
            case Messages() | Rows():
                self._chunk, self._at = chunk, 0
            case _ if runs:
                # What it says is about the rows after it: they are handed over first.
                self._held = chunk
                return False
            case Failed():
                self._failure = chunk.error
                return False
            case Ended():
                self._rows += 1
                self._ended = True
                return False
            case TableRead():
                # Counted as a row is, so that the position after it sorts after the one before.
                self._rows += 1
                self._snapshot_progress().advance(chunk.name, chunk.lsn, None)
            case SnapshotStarted():
                self._snapshot_progress().start = chunk.start
                return False
            case StreamStarted():
                first = self._assembler is None
                assembler = self._start_stream(chunk.start)
                self._copies.stream_started(assembler, messages=chunk.messages)
                self._copies.look()
                if first and self._shapes is not None:
                    # What the numbers of its changes rest on is stored before the first of them.
                    return False
        return True

    def _snapshot_progress(self) -> Progress:
        if self._progress is None:
            raise AssertionError("rows of a snapshot without a snapshot")
        return self._progress

    def _start_stream(self, start: int) -> Assembler:
        if self._assembler is not None:
            self._assembler.reconnected()
            return self._assembler
        plan = self._plan
        names = [table.name for table in self._ground.settings.tables]
        known = plan.carried.get("tables", names)
        if self._progress is not None or self._ground.settings.snapshot == "never":
            known = names
        copy = plan.carried.get("copy")
        skip, read = plan.skip, plan.read
        if self._progress is not None:
            fail_point("after_snapshot")
            skip = (start, 0)
            read = self._progress.read_state() if self._progress.highest() > start else {}
        self._assembler = Assembler(
            self._interest,
            self._ground.types,
            self._ground.keys,
            generation=plan.generation,
            skip=max(skip, (start, 0)) if plan.create_slot else skip,
            start=start,
            read=read,
            copy=None if copy is None else Copy.from_state(copy),
            copied=plan.carried.get("copied", 0),
            known=[name for name in names if name in known],
            numbered=plan.carried.get("messages", False) if plan.carried else None,
            shapes=self._shapes,
            transactions=_transactions(self._ground, plan),
        )
        return self._assembler

    def _take_messages(self, chunk: Messages, room: int, runs: list[Run]) -> None:
        assembler = self._assembler
        if assembler is None:
            raise AssertionError("messages before the stream has started")
        try:
            self._at = assembler.take(chunk.messages, self._at, room, runs)
        except (ProtocolError, IndexError, UnicodeDecodeError) as error:
            raise FatalError(
                f"the server sent what isn't the replication protocol: {error}.",
                code="replication_protocol",
                hint="Does `connection` go through a proxy? Replication needs the server itself.",
                slot=self._slot,
            ) from error
        if self._at >= len(chunk.messages):
            self._chunk = None

    def _take_rows(self, chunk: Rows, room: int, runs: list[Run]) -> None:
        progress = self._snapshot_progress()
        lines = chunk.lines[self._at : self._at + room]
        self._at += len(lines)
        if self._at >= len(chunk.lines):
            self._chunk = None
        run = Run(
            chunk.table,
            "READ",
            lines,
            range(self._rows + 1, self._rows + 1 + len(lines)),
            chunk.lsn,
            progress.time,
            progress=progress.copy(),
        )
        self._rows += len(lines)
        advance(progress, chunk.table, chunk.lsn, lines)
        condition = self._interest.condition
        if condition is not None:
            table = chunk.table
            kept = [
                index
                for index, line in enumerate(lines)
                if condition.holds(None, table.typed_row(table.codec.split_line(line)))
            ]
            run = replace(
                run,
                messages=[lines[index] for index in kept],
                ordinals=[run.ordinals[index] for index in kept],
            )
        if run.messages:
            runs.append(run)

    # ---- what poll returns ----

    def _position(self) -> str:
        """Return the position after all that has been taken; "" before anything has."""
        system = self._ground.facts.system
        if self._assembler is not None:
            # What else a position says may change in one place; as text it still never goes back.
            return max(self._assembler.position(system).text(), self._floor)
        if self._progress is None or not self._progress.start:
            return ""
        following = self._chunk or self._held or self._queue.peek()
        self._progress.ahead = _bound(following) if isinstance(following, Rows) else None
        state = {"system": system, **self._progress.state()}
        if self._shapes is not None and self._shapes.wanted:
            state["shapes"] = self._shapes.state(inside=False, unread=False)
        if self._ended:
            state["complete"] = True
        return SnapshotPosition(self._plan.generation - 1, self._rows, state).text()

    def _batch(self, runs: list[Run], size: int, weight: int) -> Batch:
        if runs[0].operation == "READ":
            if self._snapshot_batches:
                fail_point("mid_snapshot")
            self._snapshot_batches += 1
        self._handed = self._floor = self._position()
        self._checkpointed = time.monotonic()
        reads = any(run.operation == "READ" for run in runs)
        return Batch(
            size,
            {},
            after={self._slot: self._handed},
            makers=self._columns.of_snapshot if reads else self._columns.of_stream,
            state=runs,
            weight=weight,
        )

    def _idle_position(self) -> bool:
        """Whether it is time to checkpoint a stream that moved on without events."""
        if self._caught_up():
            return True
        return time.monotonic() - self._checkpointed >= self._idle_every

    def _caught_up(self) -> bool:
        assembler = self._assembler
        return (
            self._end is not None
            and assembler is not None
            and not self._copies.busy
            and not assembler.in_transaction
            and assembler.lsn >= self._end
        )

    def _without_events(self) -> Batch | None:
        """Return a batch that moves the checkpoint alone, or None; raise at the end."""
        over = self._ended or self._caught_up()
        if isinstance(self._chunk, Rows):
            # Counted, so that the position with the new bound sorts after the one without.
            self._rows += 1
            self._checkpointed = float("-inf")
        if over or self._idle_position():
            position = self._position()
            if position and position != self._handed:
                self._handed = self._floor = position
                self._checkpointed = time.monotonic()
                makers = self._columns.of_stream
                return Batch(0, {}, after={self._slot: position}, makers=makers, state=[])
        if over:
            raise EndOfSource
        if self._failure is not None:
            raise self._failure
        return None


def _shapes(ground: Ground, plan: Plan, columns: Known) -> Shapes | None:
    """Return the columns that changes are compared with; None where nobody asks or has asked."""
    wanted = ground.settings.schema_changes
    counted = plan.shapes is not None if plan.carried else None
    if plan.shapes is not None:
        return Shapes.from_state(plan.shapes, ground.type_names, wanted=wanted, counted=counted)
    if not wanted:
        return None
    # Of a slot that was there before, nobody knows what the columns were.
    known = columns if plan.create_slot or plan.progress is not None else {}
    return Shapes(known, ground.type_names, wanted=True, counted=counted)


def _transactions(ground: Ground, plan: Plan) -> Transactions | None:
    """Return what makes events of transactions; None where nobody asks or has asked."""
    wanted, stored = ground.settings.transaction_metadata, plan.carried.get("events")
    if stored is None and not wanted:
        return None
    return Transactions(wanted, None if stored is None else Counts.from_state(stored))


def _bound(chunk: Rows) -> tuple[str, Doubt]:
    """Return the table, the LSN and the last key of a chunk of a snapshot's rows."""
    return chunk.table.name, Doubt(chunk.lsn, snapshot_key(chunk.table, chunk.lines[-1]))
