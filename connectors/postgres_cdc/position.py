"""Positions: where in a slot's history the flow is, as text that sorts in the order of events.

    0000/<rows so far, 16 hex>/<state JSON>     in the initial snapshot
    0001/<LSN, 16 hex>/<ordinal, 8 hex>[/…]     in the stream

The first number is the *generation*: even in a snapshot, odd in a stream; it grows when a policy
makes the flow start over (a new snapshot, a restored database), so that positions never go back.
In the stream the LSN is a transaction's commit LSN and the ordinal numbers its row changes from 1:
LSNs of rows are not ordered across transactions, only commits are. Ordinal 0 stands for
"everything that committed before this LSN", which is where a batch that ends with a commit, or an
idle slot, leaves off.

The rule all acknowledging rests on: the slot is never confirmed beyond the LSN in a position that
was stored. So a slot found ahead of the stored position was moved by somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.errors import FatalError

LAST_GENERATION = 9999


def parse_lsn(text: str) -> int:
    """Return the number of an LSN in the server's form, `16/B374D848`."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Return an LSN in the server's form."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """After the change `ordinal` of the transaction that committed at `lsn`."""

    generation: int
    lsn: int
    ordinal: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    """`system`: the database cluster's identifier; `read`: what a resumed snapshot read, see
    connectors.postgres_cdc.progress; `events`: how many the transaction had, see
    connectors.postgres_cdc.runs.Counts."""

    def text(self) -> str:
        """Return the position as it is stored."""
        tail = "/" + orjson.dumps(self.state).decode() if self.state else ""
        return f"{self.generation:04d}/{self.lsn:016X}/{self.ordinal:08X}{tail}"

    def place(self) -> tuple[int, int]:
        """Return what changes are compared by: the commit LSN and the ordinal."""
        return self.lsn, self.ordinal


@dataclass(frozen=True, slots=True)
class SnapshotPosition:
    """After `rows` rows of the snapshot; `state` says which, see connectors.postgres_cdc.progress."""

    generation: int
    rows: int
    state: dict[str, Any]

    def text(self) -> str:
        """Return the position as it is stored."""
        return f"{self.generation:04d}/{self.rows:016X}/{orjson.dumps(self.state).decode()}"

    @property
    def lsn(self) -> int:
        """Where the stream will start, once the snapshot has been read."""
        return int(self.state["start"])


def parse_position(text: str) -> StreamPosition | SnapshotPosition:
    """Read a stored position. Raises FatalError `position_unreadable` when it isn't one of ours."""
    try:
        generation, number, rest = text.split("/", 2)
        if int(generation) % 2 == 0:
            state = orjson.loads(rest)
            found = SnapshotPosition(int(generation), int(number, 16), state)
            int(state["start"])
            return found
        ordinal, _, more = rest.partition("/")
        state = orjson.loads(more) if more else {}
        return StreamPosition(int(generation), int(number, 16), int(ordinal, 16), state)
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"the stored position {text[:80]!r} is not one of a replication slot.",
            code="position_unreadable",
            hint="It was written by another source or another version; "
            "give the source module another name, or remove its checkpoint from the state store.",
        ) from error
