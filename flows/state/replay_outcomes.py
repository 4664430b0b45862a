"""What came of replayed dead letters, written in the transaction that settles their executions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, or_, update

from connectors.errors import FatalError
from flows.state.records import Replayed
from flows.state.rows import Row, storable
from flows.state.tables import dead_letters, replay_entries, replays, server_now

ACTIVE = ("running", "cancelling")
"""Statuses of replays whose entries workers take."""

REPLAY_REQUESTED = "replay_requested"
"""The error code of an entry that is no failure: somebody wants a recorded execution run again. It
lives as long as its replay has it."""

TRIGGER_REQUESTED = "trigger_requested"
"""Of an entry that is no failure either: somebody wants a pipeline to be started with its event."""

REQUESTED = (REPLAY_REQUESTED, TRIGGER_REQUESTED)

_ENDED = replays.c.done + replays.c.failed + replays.c.skipped + replays.c.returned


def finishing(ids: Iterable[int]) -> Any:
    """Return the statement that ends those replays whose entries all have an outcome."""
    over = {"running": "done", "cancelling": "cancelled"}
    return (
        update(replays)
        .where(replays.c.id.in_(list(ids)), replays.c.status.in_(ACTIVE), replays.c.total <= _ENDED)
        .values(status=case(over, value=replays.c.status), finished_at=server_now())
    )


_of_entry_then = update(replay_entries).where(
    replay_entries.c.replay == bindparam("of_replay"),
    replay_entries.c.letter == bindparam("of_letter"),
)
_of_running = _of_entry_then.where(replay_entries.c.status == "running")
_of_taken = _of_entry_then.where(
    replay_entries.c.status == "waiting", replay_entries.c.taken_by == bindparam("of_taker")
)

_forget_letter = delete(dead_letters).where(
    dead_letters.c.flow == bindparam("of_flow"),
    dead_letters.c.id == bindparam("of_letter"),
    dead_letters.c.replay == bindparam("of_replay"),
)

_return_letter = (
    update(dead_letters)
    .where(
        dead_letters.c.flow == bindparam("of_flow"),
        dead_letters.c.id == bindparam("of_letter"),
        dead_letters.c.replay == bindparam("of_replay"),
    )
    .values(status="waiting", replay=None)
)


# No in_: the statement is run for many rows at once, which its list of values does not allow.
_forget_requested = _forget_letter.where(
    or_(*(dead_letters.c.error_code == code for code in REQUESTED))
)


def record_outcomes(connection: Connection, flow: str, replayed: Sequence[Replayed]) -> None:
    """Write outcomes, within the transaction that settles their executions.

    Raises FatalError `lease_lost` when an entry is another worker's: nothing is stored then.
    """
    now = time.time()
    taken = [each for each in replayed if each.taken_by is not None]
    running = [each for each in replayed if each.taken_by is None]
    for statement, group in ((_of_taken, taken), (_of_running, running)):
        rows = [_outcome_row(each, now) for each in group]
        if rows and connection.execute(statement.values(_OUTCOME), rows).rowcount != len(rows):
            raise _taken_elsewhere(group[0])
    ended = [each for each in replayed if each.outcome != "running"]
    for settling, outcomes in (
        (_forget_letter, {"done", "skipped"}),
        (_forget_requested, {"returned"}),
        (_return_letter, {"returned"}),
    ):
        rows = [
            {"of_flow": flow, "of_letter": each.letter, "of_replay": each.replay}
            for each in ended
            if each.outcome in outcomes
        ]
        if rows:
            connection.execute(settling, sorted(rows, key=itemgetter("of_letter")))
    _count(connection, ended)


_OUTCOME: dict[str, Any] = {
    name: bindparam(f"new_{name}")
    for name in ("status", "execution", "step", "error_code", "error_message", "ended_at")
}


def _outcome_row(replayed: Replayed, now: float) -> Row:
    row = {
        "of_replay": replayed.replay,
        "of_letter": replayed.letter,
        "new_status": replayed.outcome,
        "new_execution": replayed.execution,
        "new_step": replayed.step,
        "new_error_code": replayed.error_code,
        "new_error_message": storable(replayed.error_message),
        "new_ended_at": None if replayed.outcome == "running" else now,
    }
    return row if replayed.taken_by is None else row | {"of_taker": replayed.taken_by}


def _count(connection: Connection, ended: Sequence[Replayed]) -> None:
    """Add up the outcomes of each replay, and end those that are through."""
    counts = Counter((each.replay, each.outcome) for each in ended)
    numbers = sorted({replay for replay, _ in counts})
    for number in numbers:
        added = {
            outcome: replays.c[outcome] + count
            for (replay, outcome), count in counts.items()
            if replay == number
        }
        connection.execute(update(replays).where(replays.c.id == number).values(added))
    if numbers:
        connection.execute(finishing(numbers))


def _taken_elsewhere(replayed: Replayed) -> FatalError:
    return FatalError(
        f"another worker replays the dead letter {replayed.letter}, too.",
        code="lease_lost",
        hint="This one stops; nothing of what it did with it was stored.",
    )
