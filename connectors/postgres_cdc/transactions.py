"""Where transactions begin and end, as events: Debezium's `provide.transaction.metadata`. Pure: no I/O.

    BEGIN  ordinal 1                 before the first event of a transaction; without any, there is none
    …      from ordinal 2 on         its changes, numbered as ever
    END    the ordinal after all     how many events came between, in all and of each table

How many that were is part of every position within the transaction, so that END is right wherever reading
was interrupted, whatever was asked for in between, and however large the transaction is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from connectors.postgres_cdc.pgoutput import Begin
from connectors.postgres_cdc.runs import Counts, Run
from connectors.postgres_cdc.tables import message_table

BEGIN_ORDINAL: Final = 1

_TABLE = message_table("transaction")


@dataclass(slots=True)
class Transactions:
    """The open transaction's events, as far as they are handed over. One thread."""

    wanted: bool
    """BEGIN and END become events; else events are counted where a position has counted them."""
    stored: Counts | None = None
    """What the stored position says of the transaction that it lies in; None: that is not counted."""
    _open: Begin | None = None
    _counting: bool = False
    _counts: Counts | None = None
    """Of the open transaction; None before its first event, and where it is not counted."""
    _late: Sequence[Run] = ()
    """What BEGIN has left no room for."""
    _late_carried: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, transaction: Begin, *, resumed: bool) -> int:
        """Note that a transaction begins; return the ordinal that its changes are numbered after.

        `resumed`: it is the one that the stored position lies in.
        """
        self._open = transaction
        self._counts = self.stored if resumed else None
        self._counting = self._counts is not None if resumed else self.wanted
        return BEGIN_ORDINAL if self._counting else 0

    def rewind(self, *, inside: bool, moved: bool) -> None:
        """Forget the open transaction; `inside`: the position to go on from lies in it.

        `moved`: it lies in another one than the stored position.
        """
        if inside:
            self.stored = self._counts
        elif moved:
            self.stored = None
        self._late = ()
        self._close()

    def _close(self) -> None:
        self._open, self._counts, self._counting = None, None, False

    def state(self, *, inside: bool, unread: bool) -> Any:
        """Return what a position carries on, None for nothing; see Shapes.state."""
        counts = self._counts if inside else self.stored if unread else None
        return None if counts is None else counts.state()

    def ordinal(self, passed: int) -> int:
        """Return which ordinal a position says, with those up to `passed` taken.

        Before BEGIN that is none: what was passed is what nobody has asked for.
        """
        if self._counting and (self._counts is None or self._late):
            return 0 if self._counts is None else BEGIN_ORDINAL
        return passed

    def carried(self, now: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a position carries on besides: `now`, or what that was before `_late`."""
        return self._late_carried if self._late else now

    # ---- handing over ----

    def room(self, room: int) -> int:
        """Return how many changes there is room for: BEGIN takes one's."""
        begins = self._counting and self._counts is None
        return room - 1 if begins and room > 1 else room

    def hand_over_late(self, runs: list[Run]) -> int:
        """Append what BEGIN had left no room for; return how many events that is."""
        late, self._late = self._late, ()
        return self._count(late, runs)

    def hand_over(
        self, found: Sequence[Run], room: int, runs: list[Run], carried: Mapping[str, Any]
    ) -> int:
        """Append what was found, behind BEGIN where it is the first; return how many events.

        `carried`: what positions carried on before it was found.
        """
        if found and found[0].operation == "READ":
            # A watermark's transaction: it is ours, and has nothing but rows of a snapshot.
            self._counting = False
        if not found or not self._counting or self._counts is not None:
            return self._count(found, runs)
        self._counts = Counts()
        runs.append(self._boundary("BEGIN", BEGIN_ORDINAL, carried))
        if room > 1:
            return 1 + self._count(found, runs)
        self._late, self._late_carried = found, carried
        return 1

    def end(
        self, ordinal: int, skip: tuple[int, int], runs: list[Run], carried: Mapping[str, Any]
    ) -> int:
        """Append END, which is number `ordinal`, if it is to be one; return how many that is."""
        ended, counts = self._open, self._counts
        made = (
            self.wanted
            and ended is not None
            and counts is not None
            and (ended.commit_lsn, ordinal) > skip
        )
        if made:
            runs.append(self._boundary("END", ordinal, carried))
        self._close()
        return int(made)

    def _count(self, found: Sequence[Run], runs: list[Run]) -> int:
        runs += found
        for run in found:
            if self._counts is not None:
                run.counted = self._counts
                self._counts = self._counts.plus(run, len(run.messages))
        return sum(len(run.messages) for run in found)

    def _boundary(
        self, operation: Literal["BEGIN", "END"], ordinal: int, carried: Mapping[str, Any]
    ) -> Run:
        assert self._open is not None  # noqa: S101 - an event is in a transaction
        assert self._counts is not None  # noqa: S101 - the callers looked
        number, counts = self._open.xid, self._counts
        ends = operation == "END"
        tables = [
            {"data_collection": table, "event_count": events}
            for table, events in counts.tables.items()
        ]
        data = {
            "status": operation,
            "id": str(number),
            "event_count": counts.events if ends else None,
            "data_collections": tables if ends else None,
        }
        return Run(
            _TABLE,
            operation,
            [orjson.dumps(data)],
            [ordinal],
            self._open.commit_lsn,
            self._open.time,
            carried,
            xid=number,
            counted=counts,
        )
