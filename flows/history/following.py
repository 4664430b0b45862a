"""Executions as they are recorded, for those who watch: found by looking, so nothing is done for nobody.

An execution is seen when its batch is settled, which is when it is recorded: whole, step by step. What
was more than can be watched is counted. (What runs just now is told by workers: flows.runtime.happenings.)
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from flows.history.events import ExecutionEvent, events_of
from flows.history.recorded import Recorded, Shapes, of_chunk, tenant_program
from flows.runtime.tenants import tenants
from flows.state.chunk_store import ChunkFilter, ChunkRow
from flows.state.contracts import StateStore
from flows.state.history import decode_chunk

AT_ONCE = 50
"""Executions that one look tells of."""

_CHUNKS = 20
"""Chunks that one look reads."""

_LATE = 10.0
"""Seconds after which nothing that was recorded is stored any more: a commit may have waited."""

_LEFT_OUT = frozenset({"step.input_recorded", "step.output_recorded"})
"""What holds data: the timeline shows that, to who asks for one execution."""


@dataclass(slots=True)
class Following:
    """What one who watches has seen. Not for several threads at once."""

    flow: str
    pipeline: str | None = None
    tenant: str | None = None
    _seen: dict[int, float] = field(default_factory=dict)
    _began: float | None = None

    def look(
        self, store: StateStore, wanted: Collection[str] = ()
    ) -> tuple[list[tuple[str, dict[str, Any]]], int]:
        """Return the events (type, data) since the last look, oldest first.

        And how many executions were too many to be told of; of those `wanted`, by id, it is told
        first. The first look returns nothing: it begins then.
        """
        now = time.time()
        since = now - _LATE if self._began is None else min(self._began, now - _LATE)
        new = ChunkFilter(self.flow, self.pipeline, since=since)
        rows = [row for row in store.chunks.page(new, 1000) if row.id not in self._seen]
        self._seen = {id_: at for id_, at in self._seen.items() if at >= since - _LATE}
        self._seen |= {row.id: row.recorded_at for row in rows}
        if self._began is None:
            self._began = now
            return [], 0
        self._began = now - _LATE
        told: list[tuple[str, dict[str, Any]]] = []
        left, count = AT_ONCE, 0
        chosen = rows[:_CHUNKS][::-1]
        bodies = store.chunks.bodies([row.id for row in chosen]) if chosen else {}
        shapes = Shapes(store, self.flow)
        for row in chosen:
            if row.id in bodies and (left or wanted):
                found = list(self._executions(row, bodies[row.id], shapes))
                found.sort(key=lambda each: each.id not in wanted)
                first = sum(each.id in wanted for each in found)
                for recorded in found[: max(left, first)]:
                    told += [_told(recorded, each) for each in _shown(recorded)]
                count += max(0, len(found) - max(left, first))
                left = max(0, left - len(found))
            else:
                count += row.count
        return told, count + sum(row.count for row in rows[_CHUNKS:])

    def _executions(self, row: ChunkRow, body: bytes, shapes: Shapes) -> Iterator[Recorded]:
        shape = shapes.of(row.flow_version, row.pipeline)
        view = decode_chunk(body)
        places = list(range(view.executions.events.size))
        if self.tenant is not None:
            whose = tenants(tenant_program(shape), view.executions, places)
            places = [k for k, each in zip(places, whose, strict=True) if each == self.tenant]
        for place in places:
            yield of_chunk(row, view, place, shape)


def _shown(recorded: Recorded) -> list[ExecutionEvent]:
    return [each for each in events_of(recorded) if each.event_type not in _LEFT_OUT]


def _told(recorded: Recorded, event: ExecutionEvent) -> tuple[str, dict[str, Any]]:
    """Return an event without data of the execution's: what it is of, how long it took."""
    data, kind = event.event_data, event.event_type
    told: dict[str, Any] = {"execution_id": recorded.id}
    if kind == "execution.started":
        told |= {
            "pipeline": recorded.pipeline,
            "tenant": recorded.tenant,
            "trigger": data["trigger"],
        }
    elif kind.startswith("execution."):
        told |= {"status": recorded.status, "duration_ms": data.get("duration_ms")}
    names = {"step_name": "step", "step_type": "type", "duration_ms": "duration_ms"}
    told |= {name: data[of] for of, name in names.items() if data.get(of) is not None}
    for name in ("to", "attempt", "status"):
        if name in data and name not in told:
            told[name] = data[name]
    error = data.get("error")
    if error:
        told["error"] = error["code"]
    return kind, told
