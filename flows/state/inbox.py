"""The inbox: events that the server has taken in, kept until they are settled; and their outcomes.

Numbers are given under the lock of the source's counter, in the order in which transactions commit. So a
reader that has seen a number has seen all smaller ones, also where two servers (a flow's and its
standby's) take events in at once. A counter only grows: a number is never given again, whatever
has been deleted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select

from connectors.contracts import LANES, Shard, Taken
from connectors.errors import RetryableError
from flows.state.database import Database, transaction
from flows.state.direct import Direct
from flows.state.pruning import ROWS, delete_all
from flows.state.queries import upsert_of
from flows.state.records import Answered
from flows.state.rows import Row
from flows.state.tables import inbox_answers, inbox_deliveries, inbox_events, inbox_numbers

_DIGESTS = 400
"""In one query: SQLite takes 999 parameters."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event to be kept."""

    head: bytes
    raw: bytes | None
    key: str | None
    digest: bytes | None
    """What tells that a delivery comes again; None: it can't be told."""


class Kept(NamedTuple):
    """Where an event is kept; `again`: since an earlier delivery of it."""

    number: int
    again: bool


class Outcome(NamedTuple):
    """What a pipeline made of an event."""

    outcome: str
    answer: str | None
    """JSON of what it answers."""


class InboxStore:
    """The inboxes of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        upsert = upsert_of(database.dialect)
        new = upsert(inbox_numbers).values(
            flow=bindparam("flow"), source=bindparam("source"), last=bindparam("count")
        )
        self._allot = new.on_conflict_do_update(
            index_elements=["flow", "source"],
            set_={"last": inbox_numbers.c.last + new.excluded.last},
        ).returning(inbox_numbers.c.last)
        answer = upsert(inbox_answers)
        self.save_answer = answer.on_conflict_do_update(
            index_elements=["flow", "source", "number", "pipeline"],
            set_={name: answer.excluded[name] for name in ("outcome", "answer", "answered_at")},
        )
        """Stores outcomes, in the transaction that settles them."""

    def keep(self, flow: str, events: Mapping[str, Sequence[Incoming]]) -> dict[str, list[Kept]]:
        """Store events, by source; durable when it returns. Raises RetryableError, FatalError.

        After a RetryableError they may be stored or not.
        """
        now = time.time()
        committing = False

        def work(connection: Connection) -> dict[str, list[Kept]]:
            nonlocal committing
            if committing:
                # Done once more, what has no delivery id could be there twice: its sender decides.
                raise RetryableError(
                    "the connection was lost while events were being stored.",
                    code="inbox_unknown",
                    hint="They may be stored or not.",
                )
            with transaction(connection):
                # One order, so that two servers never wait for each other in a ring.
                kept = {
                    source: self._keep(connection, flow, source, events[source], now)
                    for source in sorted(events)
                }
                committing = True
            return kept

        return self._database.run(work)

    def _keep(
        self, connection: Connection, flow: str, source: str, events: Sequence[Incoming], now: float
    ) -> list[Kept]:
        values = {"flow": flow, "source": source, "count": len(events)}
        number = connection.execute(self._allot, values).scalar_one() - len(events)
        digests = [each.digest for each in events if each.digest is not None]
        known = self._known(connection, flow, source, digests) if digests else {}
        rows: list[Row] = []
        deliveries: list[Row] = []
        kept: list[Kept] = []
        for each in events:
            number += 1
            if each.digest is not None:
                before = known.get(each.digest)
                if before is not None:
                    kept.append(Kept(before, again=True))
                    continue
                known[each.digest] = number
                deliveries.append(
                    {
                        "flow": flow,
                        "source": source,
                        "digest": each.digest,
                        "number": number,
                        "received_at": now,
                    }
                )
            lane = number % LANES if each.key is None else crc32(each.key.encode()) % LANES
            rows.append(
                {
                    "flow": flow,
                    "source": source,
                    "number": number,
                    "lane": lane,
                    "head": each.head,
                    "raw": each.raw,
                }
            )
            kept.append(Kept(number, again=False))
        if rows:
            _ADD_EVENTS.execute(connection, rows)
        if deliveries:
            _ADD_DELIVERIES.execute(connection, deliveries)
        return kept

    def _known(
        self, connection: Connection, flow: str, source: str, digests: Sequence[bytes]
    ) -> dict[bytes, int]:
        table = inbox_deliveries.c
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), _DIGESTS):
            some = digests[start : start + _DIGESTS]
            query = select(table.digest, table.number).where(
                table.flow == flow, table.source == source, table.digest.in_(some)
            )
            found.update((bytes(digest), number) for digest, number in connection.execute(query))
        return found

    def waiting(self, flow: str) -> dict[str, int]:
        """Return source → how many of its events are not settled (or not deleted yet)."""
        table = inbox_events.c
        query = select(table.source, func.count()).where(table.flow == flow).group_by(table.source)
        return {source: int(count) for source, count in self._rows(query)}

    def outcomes(
        self, flow: str, source: str, numbers: Sequence[int]
    ) -> dict[int, dict[str, Outcome]]:
        """Return number → pipeline → what came of the event, as far as it is settled."""
        table = inbox_answers.c
        found: dict[int, dict[str, Outcome]] = {}
        for start in range(0, len(numbers), _DIGESTS):
            query = select(table.number, table.pipeline, table.outcome, table.answer).where(
                table.flow == flow,
                table.source == source,
                table.number.in_(numbers[start : start + _DIGESTS]),
            )
            for number, pipeline, outcome, answer in self._rows(query):
                found.setdefault(number, {})[pipeline] = Outcome(outcome, answer)
        return found

    def prune(self, flow: str, before: float) -> int:
        """Forget deliveries and outcomes of before a time; return how many rows."""
        count = 0
        for table, column in (
            (inbox_deliveries, inbox_deliveries.c.received_at),
            (inbox_answers, inbox_answers.c.answered_at),
        ):
            old = and_(table.c.flow == flow, column < before)
            few = select(column).where(old).order_by(column).limit(ROWS).subquery()
            newest = select(func.max(few.c[0])).scalar_subquery()
            count += delete_all(self._database, delete(table).where(old, column <= newest))
        return count

    def of_source(self, flow: str, source: str, shard: Shard) -> StateInbox:
        """Return what one worker reads and forgets of a source's inbox."""
        return StateInbox(self._database, flow, source, shard)

    def _rows(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query)))


class StateInbox:
    """A worker's share of an inbox: see `connectors.contracts.Inbox`."""

    def __init__(self, database: Database, flow: str, source: str, shard: Shard) -> None:
        self._database = database
        self._of = {"of_flow": flow, "of_source": source}
        table = inbox_events.c
        query = select(table.number, table.lane, table.head, table.raw).where(
            table.flow == bindparam("of_flow"),
            table.source == bindparam("of_source"),
            table.number > bindparam("after"),
        )
        if shard.of > 1:
            query = query.where(table.lane.in_([n for n in range(LANES) if shard.takes(n)]))
        self._take = query.order_by(table.number).limit(bindparam("most"))

    def take(self, after: int, limit: int) -> list[Taken]:
        """Return the first events behind a number."""
        values = {**self._of, "after": after, "most": limit}

        def work(connection: Connection) -> list[Taken]:
            return [
                Taken(number, lane, bytes(head), None if raw is None else bytes(raw))
                for number, lane, head, raw in connection.execute(self._take, values)
            ]

        return self._database.run(work)

    def forget(self, settled: Mapping[int, int]) -> None:
        """Delete what is settled."""
        rows = [{**self._of, "of_lane": lane, "to": number} for lane, number in settled.items()]

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(_FORGET, rows)

        self._database.run(work)

    def last(self) -> int:
        """Return the number that was given last."""
        table = inbox_numbers.c
        query = select(table.last).where(
            table.flow == bindparam("of_flow"), table.source == bindparam("of_source")
        )
        return self._database.run(
            lambda connection: int(connection.execute(query, self._of).scalar() or 0)
        )

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def answer_row(flow: str, answered: Answered, now: float) -> Row:
    """Return the row of an outcome."""
    return {
        "flow": flow,
        "source": answered.source,
        "number": answered.number,
        "pipeline": answered.pipeline,
        "outcome": answered.outcome,
        "answer": answered.answer,
        "answered_at": now,
    }


_ADD_EVENTS = Direct(insert(inbox_events), [column.name for column in inbox_events.columns])
_ADD_DELIVERIES = Direct(
    insert(inbox_deliveries), [column.name for column in inbox_deliveries.columns]
)
_FORGET = delete(inbox_events).where(
    inbox_events.c.flow == bindparam("of_flow"),
    inbox_events.c.source == bindparam("of_source"),
    inbox_events.c.lane == bindparam("of_lane"),
    inbox_events.c.number <= bindparam("to"),
)
