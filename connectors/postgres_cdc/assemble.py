"""`Assembler`: from the stream's messages to runs of events. Pure: no I/O.

It knows the open transaction, numbers its changes, leaves out what was settled before, what is
filtered and what a snapshot has read already, and says where the stream is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from connectors.batch import Operation
from connectors.postgres_cdc import pgoutput
from connectors.postgres_cdc.incremental import WATERMARK, Copy, CopyChunk, Windows
from connectors.postgres_cdc.pgoutput import Begin, Value
from connectors.postgres_cdc.position import StreamPosition
from connectors.postgres_cdc.progress import Progress, TableRanges, judge
from connectors.postgres_cdc.runs import Interest, Run
from connectors.postgres_cdc.settings import OURS
from connectors.postgres_cdc.shapes import Shapes
from connectors.postgres_cdc.tables import Keys, Table, message_table, stream_table
from connectors.postgres_cdc.transactions import Transactions
from connectors.postgres_cdc.types import TypeCatalog

MOST_PREFIXES = 1000
"""Prefixes remembered with what is asked for: some put a number into theirs."""

_OPERATIONS: Mapping[int, Operation] = {
    pgoutput.INSERT: "INSERT",
    pgoutput.UPDATE: "UPDATE",
    pgoutput.DELETE: "DELETE",
}


class Assembler:
    """Turns messages into runs, in order. One thread; `take` never blocks."""

    def __init__(
        self,
        interest: Interest,
        types: TypeCatalog,
        keys: Keys,
        *,
        generation: int,
        skip: tuple[int, int],
        start: int,
        read: Mapping[str, Any],
        copy: Copy | None = None,
        copied: int = 0,
        known: Sequence[str] = (),
        numbered: bool | None = None,
        shapes: Shapes | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        """`copy`, `copied`, `known`: see the attributes of these names.

        `numbered`: whether `skip` counts messages, too; None: as it is done from here on.
        """
        self._shapes = shapes
        self._transactions = transactions
        self._numbers = bool(interest.messages)
        self._numbered_skip = self._numbers if numbered is None else numbered
        self._numbering = self._numbers
        self._message_tables: dict[str, Table | None] = {}
        self.copy = copy
        """The snapshot that goes on while streaming."""
        self.copied = copied
        """The last such snapshot that is through, or was given up."""
        self.known = tuple(known)
        """Tables whose rows the flow has, or never asked for."""
        self.ended: Copy | None = None
        """The last one that came to its end here."""
        self.windows: Windows | None = None
        """Set while the snapshot's chunks are read."""
        self._chunk: CopyChunk | None = None
        self._lines: list[bytes] = []
        self._interest = interest
        self._types = types
        self._keys = keys
        self._generation = generation
        self._skip = skip
        self._read: dict[str, Any] = dict(read)
        self._highest = max((entry[0] for one in self._read.values() for entry in one), default=0)
        self._ranges: dict[str, TableRanges] = {}
        self._tables: dict[int, Table | None] = {}
        self._transaction: Begin | None = None
        self._ordinal = 0
        self._done = max(start, skip[0])
        self._carried: Mapping[str, Any] = {}
        self._carry()
        self.last_time = 0.0
        """Commit time of the last transaction, Unix seconds."""

    @property
    def lsn(self) -> int:
        """Everything that committed before this LSN has been through."""
        return self._done

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun and its commit is still to come."""
        return self._transaction is not None

    def place(self) -> tuple[int, int]:
        """Return where the stream is: the commit LSN and ordinal of what has been through."""
        if self._transaction is None:
            # What is skipped after a restart was through before.
            return max((self._done, 0), self._skip)
        ordinal = self._ordinal
        if self._transactions is not None:
            ordinal = self._transactions.ordinal(ordinal)
        return max((self._transaction.commit_lsn, ordinal), self._skip)

    def position(self, system: str) -> StreamPosition:
        """Return the position to store."""
        lsn, ordinal = self.place()
        carried, inside = self._carried, self._transaction is not None
        if self._transactions is not None:
            carried = self._transactions.carried(carried)
        state: dict[str, Any] = {"system": system, **carried}
        if "read" in state and lsn >= self._highest:
            del state["read"]
        if self.known:
            state["tables"] = self.known
        if self.copied:
            state["copied"] = self.copied
        unread = bool(ordinal) and not inside
        if (self._numbering if inside else self._numbers) or (unread and self._numbered_skip):
            state["messages"] = True
        for name, part in (("shapes", self._shapes), ("events", self._transactions)):
            found = None if part is None else part.state(inside=inside, unread=unread)
            if found is not None:
                state[name] = found
        return StreamPosition(self._generation, lsn, ordinal, state)

    def _carry(self) -> None:
        """Work out anew what positions carry on."""
        self._carried = {"read": self._read} if self._read else {}
        if self.copy is not None:
            self._carried = {**self._carried, "copy": self.copy.state()}

    # ---- the snapshot that goes on while streaming ----

    def begin_copy(self, copy: Copy, windows: Windows) -> None:
        """Take rows from here on, as `windows` says, up to the end of `copy`."""
        self.copy, self.windows = copy, windows
        self._carry()

    def hold_copy(self) -> None:
        """Take no rows for now: what was not handed over is read again later."""
        self.windows, self._chunk, self._lines = None, None, []

    def end_copy(self) -> None:
        """Have done with the snapshot, at its end or before."""
        if self.copy is not None:
            self.copied = max(self.copied, self.copy.id)
        self.drop_copy()

    def drop_copy(self) -> None:
        """Forget the snapshot: it can't be done as it was asked for."""
        self.hold_copy()
        self.copy = None
        self._carry()

    def _watermark(self, name: str, room: int, runs: list[Run]) -> int | None:
        """Take a watermark; return how many events it brings, None when it has more than `room`."""
        windows, copy = self.windows, self.copy
        if windows is None or copy is None:
            return 0
        if self._chunk is None:
            name, _, which = name.rpartition(":")
            if which == "low":
                windows.low(name)
                return 0
            closed = windows.high(name, copy)
            if closed is None:
                return 0
            self._chunk, self._lines = closed
        chunk = self._chunk
        made = self._rows(chunk, copy, room, runs) if self._lines else 0
        if self._lines:
            return None
        assert self.copy is not None  # noqa: S101 - `_rows` advances it
        self._chunk = None
        self.copy = self.copy.advanced(chunk.last_key or self.copy.after, 0)
        if chunk.ends:
            if not copy.id:
                self.known = (*self.known, copy.left[0])
            self.copy = self.copy.without_first()
            if not self.copy.left:
                self.ended = self.copy
                self.end_copy()
        self._carry()
        return made

    def _rows(self, chunk: CopyChunk, copy: Copy, room: int, runs: list[Run]) -> int:
        """Append a run of a chunk's rows, as many as there is room for."""
        transaction = self._transaction
        if transaction is None:
            raise pgoutput.ProtocolError("a watermark outside of a transaction")
        lines, self._lines = self._lines[:room], self._lines[room:]
        table = chunk.table
        # A watermark's transaction has no changes: its numbers are free for the rows.
        first = self._ordinal + 1
        self._ordinal += len(lines)
        self.copy = copy.advanced(table.text_key(lines[-1]), len(lines))
        self._carry()
        ordinals: Sequence[int] = range(first, first + len(lines))
        condition = self._interest.condition
        if condition is not None:
            kept = [
                index
                for index, line in enumerate(lines)
                if condition.holds(None, table.typed_row(table.codec.split_line(line)))
            ]
            lines, ordinals = [lines[k] for k in kept], [ordinals[k] for k in kept]
        if lines:
            runs.append(
                Run(
                    table,
                    "READ",
                    lines,
                    ordinals,
                    transaction.commit_lsn,
                    transaction.time,
                    {"read": self._read} if self._read else {},
                    copy=copy,
                )
            )
        return len(lines)

    def reconnected(self) -> None:
        """Forget the open transaction: the server sends it again from its beginning."""
        skip, transaction = self.place(), self._transaction
        moved = skip[0] != self._skip[0]
        if moved:
            self._numbered_skip = self._numbers
        if self._shapes is not None:
            self._shapes.rewind(moved=moved)
        if self._transactions is not None:
            inside = transaction is not None and transaction.commit_lsn == skip[0]
            self._transactions.rewind(inside=inside, moved=moved)
        self._skip = skip
        self._transaction = None
        self._ordinal = 0
        self._chunk, self._lines = None, []
        if self.windows is not None and self.copy is not None:
            self.windows.reset(self.copy)

    def take(self, messages: Sequence[bytes], at: int, room: int, runs: list[Run]) -> int:
        """Take messages from index `at` until `room` events are in `runs`; return where it stopped.

        Events are appended as runs. Raises ProtocolError for what isn't the protocol.
        """
        transactions = self._transactions
        if transactions is None:
            return self._take(messages, at, room, runs)
        room -= transactions.hand_over_late(runs)
        while at < len(messages) and room > 0:
            found: list[Run] = []
            carried = self._carried
            at = self._take(messages, at, transactions.room(room), found)
            room -= transactions.hand_over(found, room, runs, carried)
            if self._transaction is None:
                room -= transactions.end(self._ordinal + 1, self._skip, runs, self._carried)
        return at

    def _take(self, messages: Sequence[bytes], at: int, room: int, runs: list[Run]) -> int:
        """Take messages; where transactions are events, up to the next begin or end of one."""
        count = len(messages)
        while at < count and room > 0:
            message = messages[at]
            tag = message[25:30]
            kind = tag[0] if tag else 0
            if kind in _OPERATIONS:
                end = at + 1
                stop = min(count, at + room)
                # Type and relation of a change are its tag: a run goes on while they stay.
                while end < stop and messages[end][25:30] == tag:
                    end += 1
                room -= self._changes(kind, tag, messages[at:end], runs)
                at = end
                continue
            at += 1
            if message[0] == pgoutput.KEEPALIVE:
                if self._transaction is None:
                    self._done = max(self._done, pgoutput.decode_keepalive(message).wal_end)
            elif kind == pgoutput.BEGIN:
                if self._transactions is not None and runs:
                    return at - 1  # what was found before it is in no transaction
                self._transaction = pgoutput.decode_begin(message)
                self._ordinal = 0
                # Numbers within a transaction mean what they meant when they were stored.
                begun = self._transaction.commit_lsn == self._skip[0]
                self._numbering = self._numbered_skip if begun else self._numbers
                if self._shapes is not None:
                    self._shapes.begin(resumed=begun)
                if self._transactions is not None:
                    inside = begun and self._skip[1] > 0
                    self._ordinal = self._transactions.begin(self._transaction, resumed=inside)
                    return at
            elif kind == pgoutput.COMMIT:
                commit = pgoutput.decode_commit(message)
                self._done = max(self._done, commit.end_lsn)
                self.last_time = commit.time
                if self.windows is not None and self._transaction is not None:
                    self.windows.committed(self._transaction.xid)
                self._transaction = None
                if self._shapes is not None:
                    self._shapes.end()
                if self._read and self._done >= self._highest:
                    self._read = {}
                    self._ranges = {}
                    self._carry()
                if self._transactions is not None:
                    return at
            elif kind == pgoutput.RELATION:
                room -= self._relation(message, runs)
            elif kind == pgoutput.TRUNCATE:
                room -= self._truncate(message, runs)
            elif kind == pgoutput.MESSAGE:
                found = pgoutput.decode_message(message)
                if found.prefix == WATERMARK:
                    brought = self._watermark(found.content.decode(), room, runs)
                    if brought is None:
                        return at - 1
                    room -= brought
                else:
                    room -= self._message(found, message, runs)
            elif kind not in (pgoutput.TYPE, pgoutput.ORIGIN):
                raise pgoutput.ProtocolError(f"a message of type {chr(kind)!r}")
        return at

    def _message(self, found: pgoutput.LogicalMessage, message: bytes, runs: list[Run]) -> int:
        """Append the event of a logical message, if it is to be one; return how many that is."""
        if found.prefix.startswith(OURS):
            return 0
        transaction = self._transaction
        if found.transactional:
            if transaction is None:
                raise pgoutput.ProtocolError("a message of a transaction outside of one")
            if not self._numbering:
                return 0
            # Counted whoever wants it: numbers stay, whatever prefixes are asked for.
            self._ordinal += 1
            place = transaction.commit_lsn, self._ordinal
            at, xid = transaction.time, transaction.xid
        else:
            place = found.lsn, 1
            at, xid = pgoutput.sent_at(message), 0
            if transaction is None:
                self._done = max(self._done, found.lsn + 1)
        if place <= self._skip:
            return 0
        if found.prefix not in self._message_tables:
            wanted = any(fnmatchcase(found.prefix, each) for each in self._interest.messages)
            table = message_table(found.prefix) if wanted else None
            if len(self._message_tables) > MOST_PREFIXES:
                self._message_tables.clear()
            self._message_tables[found.prefix] = table
        table = self._message_tables[found.prefix]
        if table is None:
            return 0
        runs.append(
            Run(table, "MESSAGE", [found.content], [place[1]], place[0], at, self._carried, xid=xid)
        )
        return 1

    def _relation(self, message: bytes, runs: list[Run]) -> int:
        """Take in a table as it is; return how many events it makes of that."""
        relation = pgoutput.decode_relation(message)
        name = f"{relation.schema}.{relation.table}"
        if name not in self._interest.columns:
            self._tables[relation.oid] = None
            return 0
        table = stream_table(
            relation,
            primary_key=self._keys.get(relation.oid, ()),
            shown=self._interest.columns[name],
            types=self._types,
        )
        self._tables[relation.oid] = table
        ranges = Progress.from_state({"read": self._read}).tables.get(name)
        if ranges:
            self._ranges[name] = TableRanges(ranges, table.kinds or ())
        transaction, shapes = self._transaction, self._shapes
        if shapes is None or transaction is None:
            return 0
        lsn = transaction.commit_lsn
        if lsn < self._skip[0]:
            shapes.passed(name, relation)
            return 0
        data = shapes.changed(name, relation)
        if data is None:
            return 0
        self._ordinal += 1
        if (lsn, self._ordinal) <= self._skip or not shapes.wanted:
            return 0
        number, xid = self._ordinal, transaction.xid
        runs.append(
            Run(table, "ALTER", [data], [number], lsn, transaction.time, self._carried, xid=xid)
        )
        return 1

    def _table(self, oid: int) -> Table | None:
        try:
            return self._tables[oid]
        except KeyError:
            raise pgoutput.ProtocolError(
                f"a change of relation {oid}, which was not described"
            ) from None

    def _changes(self, kind: int, tag: bytes, messages: Sequence[bytes], runs: list[Run]) -> int:
        """Append the run of these changes, less what is left out; return how many events it has."""
        transaction = self._transaction
        if transaction is None:
            raise pgoutput.ProtocolError("a change outside of a transaction")
        first = self._ordinal + 1
        self._ordinal += len(messages)
        lsn = transaction.commit_lsn
        table = self._table(int.from_bytes(tag[1:], "big"))
        operation = _OPERATIONS[kind]
        if self.windows is not None and table is not None and self.windows.table == table.name:
            for message in messages:
                change = pgoutput.decode_row_change(message)
                self.windows.changed(table, table.old_of(change), table.new_of(change))
        if table is None or operation not in self._interest.operations:
            return 0
        if lsn < self._skip[0]:
            return 0
        if lsn == self._skip[0] and first <= self._skip[1]:
            messages = messages[self._skip[1] - first + 1 :]
            first = self._skip[1] + 1
            if not messages:
                return 0
        ordinals: Sequence[int] = range(first, first + len(messages))
        ranges = self._ranges.get(table.name) if self._read else None
        if self._interest.condition is None and (ranges is None or lsn >= ranges.highest):
            runs.append(
                Run(
                    table,
                    operation,
                    messages,
                    ordinals,
                    lsn,
                    transaction.time,
                    self._carried,
                    xid=transaction.xid,
                )
            )
            return len(messages)
        found = zip(messages, ordinals, strict=True)
        return self._one_by_one(table, operation, found, ranges, runs)

    def _one_by_one(
        self,
        table: Table,
        operation: Operation,
        found: Iterable[tuple[bytes, int]],
        ranges: TableRanges | None,
        runs: list[Run],
    ) -> int:
        """Judge change by change: a condition is set, or a snapshot has read some of the rows."""
        transaction = self._transaction
        assert transaction is not None  # noqa: S101 - the caller looked
        made = 0
        for message, ordinal in found:
            change = pgoutput.decode_row_change(message)
            old, new = table.old_of(change), table.new_of(change)
            becomes = operation
            if ranges is not None:
                judged = self._judge(table, operation, (old, new), ranges, transaction.commit_lsn)
                if judged is None:
                    continue
                becomes = judged
            if not self._passes(table, becomes, old, new):
                continue
            run = runs[-1] if runs else None
            if (
                run is not None
                and run.table is table
                and run.operation == becomes
                and run.lsn == transaction.commit_lsn
                and isinstance(run.messages, list)
                and isinstance(run.ordinals, list)
            ):
                run.messages.append(message)
                run.ordinals.append(ordinal)
            else:
                runs.append(
                    Run(
                        table,
                        becomes,
                        [message],
                        [ordinal],
                        transaction.commit_lsn,
                        transaction.time,
                        self._carried,
                        xid=transaction.xid,
                    )
                )
            made += 1
        return made

    def _judge(
        self,
        table: Table,
        operation: Operation,
        images: tuple[list[Value] | None, list[Value] | None],
        ranges: TableRanges,
        lsn: int,
    ) -> Operation | None:
        """Return what the change is to one who has the snapshot's rows; None: nothing new."""
        old, new = images
        before = old if old is not None else new
        after = new if new is not None else old
        assert before is not None  # noqa: S101 - a change has one of them
        assert after is not None  # noqa: S101
        old_at = ranges.read_at(table.key_values(before))
        new_at = ranges.read_at(table.key_values(after))
        verdict = judge(lsn, old_at, new_at)
        if verdict == "skip":
            return None
        if operation != "UPDATE" or verdict == "keep":
            return operation
        return "INSERT" if verdict == "insert" else "DELETE"

    def _passes(
        self, table: Table, operation: Operation, old: list[Value] | None, new: list[Value] | None
    ) -> bool:
        condition = self._interest.condition
        if condition is None:
            return True
        if old is None and new is not None and operation == "UPDATE":
            # The server leaves the old row out where its identity did not change.
            keep = table.identity_columns if table.identity in ("d", "i") else frozenset()
            old = [value if index in keep else pgoutput.ABSENT for index, value in enumerate(new)]
        return condition.holds(
            None if old is None or operation == "INSERT" else table.typed_row(old),
            None if new is None or operation == "DELETE" else table.typed_row(new),
        )

    def _truncate(self, message: bytes, runs: list[Run]) -> int:
        transaction = self._transaction
        if transaction is None:
            raise pgoutput.ProtocolError("a TRUNCATE outside of a transaction")
        lsn = transaction.commit_lsn
        made = 0
        for oid in pgoutput.decode_truncate(message).relations:
            self._ordinal += 1
            table = self._table(oid)
            if self.windows is not None and table is not None and table.name == self.windows.table:
                self.windows.truncated()
            if table is None or (lsn, self._ordinal) <= self._skip:
                continue
            ranges = self._ranges.get(table.name) if self._read else None
            if ranges is not None:
                if lsn < ranges.lowest:
                    continue
                # Rows read after it are in events already: from here on none is left out, so that
                # the changes that made them follow the TRUNCATE once more.
                del self._ranges[table.name]
                self._read = {k: v for k, v in self._read.items() if k != table.name}
                self._carry()
            if "TRUNCATE" not in self._interest.operations:
                continue
            runs.append(
                Run(
                    table,
                    "TRUNCATE",
                    [message],
                    [self._ordinal],
                    lsn,
                    transaction.time,
                    self._carried,
                    xid=transaction.xid,
                )
            )
            made += 1
        return made
