"""Executions, newest first: page by page, by what they are and what their events hold.

Newest is what ended last. Chunks that can't hold what is asked for are not read; of the others the
executions are looked at column by column.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from connectors.errors import FlowFileError
from flows.conditions import condition, true_for
from flows.history.recorded import Recorded, Shapes, Status, of_chunk, of_parked, tenant_program
from flows.runtime.tenants import tenants
from flows.state.chunk_store import ChunkFilter, ChunkRow
from flows.state.contracts import StateStore
from flows.state.history import decode_chunk
from transforms.executions import Executions
from transforms.expressions import Program

PARKED: frozenset[Status] = frozenset({"waiting", "paused"})
"""Statuses of what has not ended: `waiting` finds those that are paused, too."""

_ROWS = 200
"""Chunks that are asked for at once, without their bodies."""
_BODIES = 32
"""Chunks whose bodies are read at once, at the most."""


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Executions of a flow that have all of this; None asks for nothing. Times are in seconds."""

    flow: str
    pipeline: str | None = None
    status: Status | None = None
    """None: those that have ended."""
    error_code: str | None = None
    event_type: str | None = None
    """A glob, such as `public.orders.*`."""
    subject: str | None = None
    """A glob."""
    tenant: str | None = None
    since: float | None = None
    """Ended, or parked, at or after."""
    until: float | None = None
    """Ended, or parked, before."""
    where: str | None = None
    """jq over the event's context that must be true."""


@dataclass(frozen=True, slots=True)
class Page:
    """Executions, newest first; `cursor` asks for the next ones, None at the end."""

    executions: list[Recorded]
    cursor: str | None


def list_executions(
    store: StateStore,
    wanted: ExecutionFilter,
    *,
    limit: int = 50,
    cursor: str | None = None,
    within: float | None = None,
) -> Page:
    """Return a page of what is meant.

    It is looked for until the page is full; or for `within` seconds, and then the page may hold fewer
    and still have a cursor. Raises FlowFileError `cursor_unknown`, `where_invalid`, `limit_invalid`.
    """
    if limit < 1:
        raise FlowFileError(
            f"a page can't have {limit} entries.", code="limit_invalid", hint="Ask for 1 or more."
        )
    test = _Test(wanted)
    found: list[tuple[Recorded, str]] = []
    seen: set[str] = set()
    end = None if within is None else time.monotonic() + within
    source = _waiting if wanted.status in PARKED else _ended
    behind = cursor
    for recorded, behind in source(store, wanted, test, cursor):
        if recorded is not None and recorded.id not in seen:
            seen.add(recorded.id)
            if len(found) == limit:
                return Page([each for each, _ in found], found[-1][1])
            found.append((recorded, behind))
        if end is not None and time.monotonic() > end:
            return Page([each for each, _ in found], behind)
    return Page([each for each, _ in found], None)


def _ended(
    store: StateStore, wanted: ExecutionFilter, test: _Test, cursor: str | None
) -> Iterator[tuple[Recorded | None, str]]:
    """Yield executions with the cursor behind each; None at the end of a chunk."""
    shapes = Shapes(store, wanted.flow)
    below: int | None = None
    before: tuple[float, int] | None = None
    if cursor is not None:
        at, number, below = _read_cursor(cursor)
        before = at, number
    chunks = ChunkFilter(
        wanted.flow,
        wanted.pipeline,
        wanted.status,
        wanted.error_code,
        wanted.event_type,
        wanted.since,
        wanted.until,
    )
    while rows := store.chunks.page(chunks, _ROWS, before):
        likely = [row for row in rows if chunks.may_hold(row) and test.may_hold(row)]
        for group in _groups(likely):
            bodies = store.chunks.bodies([row.id for row in group])
            for row in group:
                first = below if before is not None and row.id == before[1] else None
                if first == 0:
                    continue  # nothing is left of it, and whoever has little time gets further
                if row.id in bodies:
                    shape = shapes.of(row.flow_version, row.pipeline)
                    view = decode_chunk(bodies[row.id], with_outputs=test.reads_steps)
                    places = range(view.executions.events.size if first is None else first)
                    for place in test.matching(view.executions, places, tenant_program(shape)):
                        behind = _cursor(row, place)
                        yield of_chunk(row, view, place, shape), behind
                yield None, _cursor(row, 0)
        last = rows[-1]
        yield None, _cursor(last, 0)
        before, below = (last.recorded_at, last.id - 1), None


def _groups(rows: Sequence[ChunkRow]) -> Iterator[Sequence[ChunkRow]]:
    """Yield the chunks in parts, the first ones small: often they fill a page."""
    start, most = 0, 100
    while start < len(rows):
        end, count = start, 0
        while end < len(rows) and end - start < _BODIES and count < most:
            count += rows[end].count
            end += 1
        yield rows[start:end]
        start, most = end, most * 4


def _waiting(
    store: StateStore, wanted: ExecutionFilter, test: _Test, cursor: str | None
) -> Iterator[tuple[Recorded | None, str]]:
    shapes = Shapes(store, wanted.flow)
    before: tuple[float, str] | None = None
    if cursor is not None:
        at, _, last = cursor.partition(",")
        before = _number(at, cursor), last
    while found := store.waiting.page(wanted.flow, wanted.pipeline, _ROWS, before):
        for parked in found:
            before = parked.parked_at, parked.place.id
            behind = f"{parked.parked_at!r},{parked.place.id}"
            is_then = (wanted.since is None or parked.parked_at >= wanted.since) and (
                wanted.until is None or parked.parked_at < wanted.until
            )
            if not is_then or wanted.error_code not in {None, parked.error_code}:
                continue
            if wanted.status == "paused" and parked.place.paused_at is None:
                continue
            recorded = of_parked(parked, wanted.flow, shapes)
            program = tenant_program(recorded.shape)
            if test.matching(recorded.executions, range(1), program):
                yield recorded, behind
            else:
                yield None, behind


class _Test:
    """What a filter asks of each execution."""

    def __init__(self, wanted: ExecutionFilter) -> None:
        self._wanted = wanted
        self._type = _pattern(wanted.event_type)
        self._subject = _pattern(wanted.subject)
        self._where = None if wanted.where is None else condition(wanted.where)
        roots = None if self._where is None else self._where.roots
        self.reads_steps = self._where is not None and (roots is None or "steps" in roots)
        """Whether jq looks at outputs."""

    def may_hold(self, row: ChunkRow) -> bool:
        """Whether a chunk may hold an event of the type that is asked for."""
        if self._type is None or row.types is None:
            return True
        return any(self._type.match(each) for each in row.types.split("\n"))

    def matching(
        self, executions: Executions, places: Sequence[int], tenant: Program | None
    ) -> list[int]:
        """Return the places of those that have all of it, the last first."""
        wanted = self._wanted
        found = list(places)  # columns are made in order
        ended = executions.ended
        if wanted.status == "completed":
            found = [k for k in found if k not in ended]
        elif wanted.status in {"failed", "skipped"}:
            found = [k for k in found if k in ended and ended[k].outcome == wanted.status]
        if wanted.error_code is not None and wanted.status not in PARKED:
            code = wanted.error_code
            errors = {k: each.error for k, each in ended.items() if each.error is not None}
            found = [k for k in found if k in errors and errors[k].code == code]
        for name, pattern in (("type", self._type), ("subject", self._subject)):
            if pattern is not None and found:
                column = executions.events.column(name)
                found = [k for k in found if pattern.match(column[k] or "")]
        if wanted.tenant is not None and found:
            whose = tenants(tenant, executions, found)
            found = [k for k, each in zip(found, whose, strict=True) if each == wanted.tenant]
        if self._where is not None and found:
            found = true_for(self._where, executions, found)
        return found[::-1]


def _pattern(glob: str | None) -> re.Pattern[str] | None:
    return None if glob is None else re.compile(fnmatch.translate(glob))


def _cursor(row: ChunkRow, place: int) -> str:
    """Return what leads to the executions behind `place` of a chunk: those before it in its batch."""
    return f"{row.recorded_at!r},{row.id},{place}"


def _read_cursor(text: str) -> tuple[float, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        raise _no_cursor(text)
    if max(map(len, parts[1:])) > 18:
        raise _no_cursor(text)
    return _number(parts[0], text), int(parts[1]), int(parts[2])


def _number(text: str, cursor: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _no_cursor(cursor) from None


def _no_cursor(text: str) -> FlowFileError:
    return FlowFileError(
        f"this is not a cursor of a list of executions: {text[:80]!r}.",
        code="cursor_unknown",
        hint="Pass on the cursor that the page before gave, as it is.",
    )
