"""What a database step publishes by way of an outbox: rows, made within its transaction.

The publish steps stand right after the step. Their events are made from what its statement has
returned, before it is committed: an event that can't be made undoes the statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Annotated, Any, Final
from zlib import crc32

from pydantic import AfterValidator

from connectors.contracts import Outgoing
from connectors.errors import PenstockError
from connectors.settings import Settings
from transforms.executions import UNSET, Executions
from transforms.expressions import Program
from transforms.steps.payload import json_text

LANES: Final = 16
"""Parts of an outbox that workers can publish from at the same time."""

_REFUSED: Final = {"outbox": "refused"}
"""Beside the output that a publish step does not have, so that no expression sees it."""

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,48}(\.[a-z_][a-z0-9_]{0,48})?")


def _check_table(value: str) -> str:
    if not _TABLE.fullmatch(value):
        raise ValueError(
            "a table's name of small letters, digits and underscores, with its schema or without"
        )
    return value


class OutboxSettings(Settings):
    """The outbox that a publish step's events go through."""

    step: str
    """The `step.db_exec` right before it, in whose transaction its events are written."""
    table: Annotated[str, AfterValidator(_check_table)] = "penstock_outbox"
    """The table in that step's database; it is made when it is missing."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event to publish, as the table has it."""

    pipeline: str
    sink: str
    turn: int
    """Of `turn_of`: what order is kept by."""
    lane: int
    event: str
    """JSON: topic, key, the CloudEvents attributes, and the step that publishes it."""
    data: bytes | None
    origin: bytes
    """The execution, as far as it is now: what a dead letter is made of if the sink refuses the event."""
    digest: bytes
    """Of what it is: an event that is written again while it waits is there once."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A publish step whose events go into the outbox."""

    step: str
    sink: str
    compose: Callable[[Executions, Sequence[int]], tuple[Sequence[int], Outgoing | None]]
    """Executions and indexes → those that have an event, and their events; what fails is in
    `failures`."""
    if_: Program | None = None
    skip_if: Program | None = None


class Outbox:
    """What one database step publishes. `rows` may be called from any thread."""

    def __init__(
        self,
        step: str,
        publishes: Sequence[Composed],
        *,
        flow: str,
        pipeline: str,
        table: str,
        wake: Callable[[], None],
        pack: Callable[[Executions, Sequence[int]], Sequence[bytes]],
    ) -> None:
        """`wake` is to be called when rows have been committed. `pack` makes the rows' `origin`."""
        self.table = table
        self.flow = flow
        self.wake = wake
        self._pack = pack
        self._step = step
        self._pipeline = pipeline
        self._publishes = publishes
        self._lock = Lock()

    def rows(
        self, executions: Executions, shown: Mapping[int, tuple[Any, dict[str, Any]]]
    ) -> tuple[list[OutboxRow], dict[int, PenstockError]]:
        """Return the rows of some executions, in order, and the errors of those that have none.

        `shown`: index → what the step puts out, and what is beside it.
        """
        with self._lock:
            self._show(executions, shown)
            return self._made(executions, sorted(shown))

    def _show(
        self, executions: Executions, shown: Mapping[int, tuple[Any, dict[str, Any]]]
    ) -> None:
        """Let expressions see the outputs, which are the step's own only once it is committed."""
        size = executions.events.size
        outputs = list(executions.outputs.get(self._step) or [UNSET] * size)
        details = list(executions.details.get(self._step) or [None] * size)
        for index, (output, beside) in shown.items():
            outputs[index], details[index] = output, beside
        executions.outputs[self._step], executions.details[self._step] = outputs, details

    def _made(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[list[OutboxRow], dict[int, PenstockError]]:
        before, executions.failures = executions.failures, {}
        found: list[tuple[int, OutboxRow]] = []
        composed: list[tuple[Composed, Sequence[int], Outgoing]] = []
        try:
            for publish in self._publishes:
                going = _applicable(publish, executions, indexes)
                # Texts of outputs that may yet be undone are not for the history.
                encoded = dict(executions.encoded)
                places, outgoing = publish.compose(executions, going) if going else ((), None)
                executions.encoded = encoded
                if outgoing is not None:
                    composed.append((publish, places, outgoing))
            errors = executions.failures
            written = sorted({index for _, places, _ in composed for index in places} - set(errors))
            origins = dict(zip(written, self._pack(executions, written), strict=True))
            for each in composed:
                found += self._encoded(*each, executions=executions, origins=origins)
        finally:
            executions.failures = before
        found.sort(key=lambda each: each[0])  # an event's own stay in the order of the steps
        return [row for _, row in found], errors

    def _encoded(
        self,
        publish: Composed,
        indexes: Sequence[int],
        outgoing: Outgoing,
        *,
        executions: Executions,
        origins: Mapping[int, bytes],
    ) -> list[tuple[int, OutboxRow]]:
        turns = executions.turn_column()
        attributes = outgoing.attributes()
        rows = []
        for place, index in enumerate(indexes):
            if index not in origins:
                continue  # another of its events can't be made
            mine = {
                name: value[place] if isinstance(value, list) else value
                for name, value in attributes.items()
            }
            key, value = outgoing.keys[place], outgoing.values[place]
            said = {
                "topic": outgoing.topic,
                "key": key,
                "attributes": mine,
                "step": publish.step,
            }
            by = mine["id"] if turns[index] is None else turns[index]
            turn = turn_of(f"{self._pipeline}/{by}")
            rows.append(
                (
                    index,
                    OutboxRow(
                        self._pipeline,
                        publish.sink,
                        turn,
                        lane_of(turn),
                        json_text(said).decode(),
                        value,
                        origins[index],
                        _digest(self.flow, publish.sink, said, value),
                    ),
                )
            )
        return rows


def mark_refused(executions: Executions, step: str, index: int) -> None:
    """Note that all of an execution is done but this step's event, which left the outbox and was refused.

    The note stays with the execution while it waits.
    """
    column = executions.details.setdefault(step, [None] * executions.events.size)
    column[index] = _REFUSED


def was_refused(executions: Executions, step: str, index: int) -> bool:
    """Whether `mark_refused` has noted it."""
    column = executions.details.get(step)
    return column is not None and column[index] == _REFUSED


def refused_indexes(executions: Executions) -> set[int]:
    """Return all that `mark_refused` has noted, of any step."""
    return {
        index
        for index in executions.replays
        for column in executions.details.values()
        if column[index] == _REFUSED
    }


def turn_of(text: str) -> int:
    """Return the number of what has to stay in order: two that share one wait for each other at worst."""
    return crc32(text.encode("utf-8", "surrogatepass"))


def lane_of(turn: int) -> int:
    """Return the lane that a turn is in."""
    return turn % LANES


def _applicable(publish: Composed, executions: Executions, indexes: Sequence[int]) -> Sequence[int]:
    """Return those that the step's `if` and `skip_if` let through; what fails is in `failures`."""
    kept = [index for index in indexes if index not in executions.failures]
    for program, wanted in ((publish.if_, True), (publish.skip_if, False)):
        if program is None or not kept:
            continue
        values, errors = program.column(executions, kept)
        executions.failures.update(errors)
        kept = [
            index
            for index, value in zip(kept, values, strict=True)
            if index not in errors and (value is not None and value is not False) is wanted
        ]
    return kept


def _digest(flow: str, sink: str, said: dict[str, Any], value: bytes | None) -> bytes:
    """Return a hash of the event: its id, where it goes, and its data."""
    about = [flow, sink, said["topic"], said["key"], said["attributes"]["id"], value is None]
    return blake2b(json_text(about) + (value or b""), digest_size=16).digest()
