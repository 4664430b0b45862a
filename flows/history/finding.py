"""One execution, by its id or the start of it.

Nothing is stored per execution: an id begins with its event's time, which leads to the chunks around
it, and there the ids are computed again. What waits, and what failed while history was off, is found
among the parked executions and the dead letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from connectors.errors import FlowFileError
from flows.history.recorded import Recorded, Shapes, of_chunk, of_letter, of_parked
from flows.state.chunk_store import ChunkFilter, ChunkRow
from flows.state.contracts import StateStore
from flows.state.history import ChunkView, decode_chunk
from flows.state.letters import execution_id
from flows.state.traces import Traces
from transforms.executions import Executions

_PREFIX = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f-]{0,27})?")
"""What an id begins with; eight digits of it say its time to a minute."""

_WHOLE = 36
_SEVERAL = 5
"""Ids that are named where the start of one fits more."""
_BODIES = 16
"""Chunks that are read at once."""


def find_execution(store: StateStore, flow: str, id_prefix: str) -> Recorded:
    """Return the execution whose id starts with `id_prefix`: of one recorded twice, the last.

    Raises FlowFileError `execution_unknown` or `execution_ambiguous`, PermanentError
    `history_unreadable`.
    """
    prefix = id_prefix.strip().lower()
    if not _PREFIX.fullmatch(prefix):
        raise FlowFileError(
            f"{id_prefix!r} is no id of an execution.",
            code="execution_unknown",
            hint="It takes the id, or the first 8 characters of it at the least: `penstock executions"
            " list` shows them.",
        )
    shapes = Shapes(store, flow)
    traces = store.waiting.traces(flow, prefix)
    found = _found(store, flow, prefix, shapes, traces)
    if not found:
        # It may have moved on from where it was to where it had not been.
        traces = Traces()
        found = _found(store, flow, prefix, shapes, traces)
    if not found:
        raise FlowFileError(
            f"there is no execution {prefix!r} in flow {flow}.",
            code="execution_unknown",
            hint="It may be past history.retention, or was not recorded: see history.record.",
        )
    if len(found) > 1:
        some = ", ".join(f"{each.id} ({each.pipeline})" for each in found[:_SEVERAL])
        more = ", …" if len(found) > _SEVERAL else ""
        raise FlowFileError(
            f"{prefix!r} fits several executions: {some}{more}.",
            code="execution_ambiguous",
            hint="Give more of the id.",
        )
    return _with_more(found[0], store, flow, traces)


def _found(
    store: StateStore, flow: str, prefix: str, shapes: Shapes, traces: Traces
) -> list[Recorded]:
    """Return what the prefix fits; more than `_SEVERAL` are not looked for."""
    found: dict[str, Recorded] = {}
    if traces.parked:
        for parked in store.waiting.find(flow, store.pipelines(flow), prefix, _SEVERAL + 1):
            found[parked.place.id] = of_parked(parked, flow, shapes)
    if prefix in found:
        return [found[prefix]]
    for row, view, place, execution in _in_history(store, flow, prefix):
        if execution not in found:
            recorded = of_chunk(row, view, place, shapes.of(row.flow_version, row.pipeline))
            one = alone(recorded.executions, place)
            one.outputs = {name: [value] for name, value in view.put_out(place).items()}
            found[execution] = replace(recorded, executions=one, index=0)
        if execution == prefix or len(found) > _SEVERAL:
            return list(found.values())
    for letter in store.dead_letter(flow, prefix) if traces.letters else ():
        if letter.id not in found:
            found[letter.id] = of_letter(letter, shapes)
    return list(found.values())


def _in_history(
    store: StateStore, flow: str, prefix: str
) -> Iterator[tuple[ChunkRow, ChunkView, int, str]]:
    """Yield (chunk, its view, place, id) of the executions it fits, those recorded last first."""
    digits = prefix.replace("-", "")[:12]
    first, last = int(digits.ljust(12, "0"), 16), int(digits.ljust(12, "f"), 16)
    for rows in _chunks(store, flow, first, last):
        bodies = store.chunks.bodies([row.id for row in rows])
        for row in rows:
            if row.id not in bodies:
                continue  # it has been pruned since
            view = decode_chunk(bodies[row.id], with_outputs=False)
            for place in _of_time(view.executions, first, last):
                execution = execution_id(view.executions, place, row.source)
                if execution.startswith(prefix):
                    yield row, view, place, execution


def _chunks(store: StateStore, flow: str, first: int, last: int) -> Iterator[Sequence[ChunkRow]]:
    if first:
        rows = store.chunks.around(flow, first / 1000, last / 1000)
        for start in range(0, len(rows), _BODIES):
            yield rows[start : start + _BODIES]
        return
    # Events without a time have ids of none: they may be anywhere.
    before: tuple[float, int] | None = None
    while rows := store.chunks.page(ChunkFilter(flow), _BODIES, before):
        yield rows
        before = rows[-1].recorded_at, rows[-1].id - 1


def _of_time(executions: Executions, first: int, last: int) -> list[int]:
    times = executions.events.column("timestamp")
    most = (1 << 48) - 1
    return [
        place
        for place, at in enumerate(times)
        if first <= (max(0, int((at or 0.0) * 1000)) & most) <= last
    ][::-1]


def alone(executions: Executions, index: int) -> Executions:
    """Return one execution of many, as one of its own, without outputs."""

    def one(found: dict[int, object]) -> dict[int, object]:
        return {0: found[index]} if index in found else {}

    return Executions(
        executions.events.pick([index]),
        executions.pipeline,
        details={name: [column[index]] for name, column in executions.details.items()},
        ended=one(executions.ended),  # type: ignore[arg-type]
        passed_over={
            step: {0: errors[index]}
            for step, errors in executions.passed_over.items()
            if index in errors
        },
        started=executions.started,
        starts=one(executions.starts),  # type: ignore[arg-type]
        took=executions.took,
        took_before=one(executions.took_before),  # type: ignore[arg-type]
        keys=None if executions.keys is None else [executions.keys[index]],
        base_meta=executions.base_meta,
        duplicates=one(executions.duplicates),  # type: ignore[arg-type]
        undone=one(executions.undone),  # type: ignore[arg-type]
        runs=one(executions.runs),  # type: ignore[arg-type]
    )


def _with_more(recorded: Recorded, store: StateStore, flow: str, traces: Traces) -> Recorded:
    """Return it with its dead letter's tries, and its saga, where it has such."""
    known = store.dead_letter(flow, recorded.id) if traces.letters else []
    letters = [each for each in known if each.id == recorded.id]
    if letters and recorded.letter is None:
        recorded = replace(recorded, letter=letters[0].id)
        if not recorded.tries and recorded.status == "failed":
            recorded = replace(recorded, tries=json.loads(letters[0].tries))
    if traces.signals:
        recorded = replace(recorded, signals=store.signals.of(flow, recorded.id))
    if recorded.status not in {"failed", "waiting", "paused"}:
        return recorded  # a saga that is done is forgotten
    sagas = [saga for at, saga in store.sagas.find(flow, recorded.id) if at == flow]
    found = next((saga for saga in sagas if saga.id == recorded.id), None)
    return recorded if found is None else replace(recorded, saga=found)
