"""The route that shows executions as they run and are recorded: server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from connectors.errors import PenstockError
from flows.history.following import Following
from flows.runtime.happenings import Happening
from penstock.api.calls import Call, Route
from penstock.api.errors import ApiError
from penstock.api.flow_routes import find_pipeline
from penstock.api.queries import LiveQuery

TICK = 0.05
"""Seconds between looks at what workers say that their steps do: it is in memory."""

LOOK, SOON = 0.25, 0.1
"""Seconds between looks at what is recorded; while the end of something that was shown is to come."""

PROLONG = 1.0
"""Seconds after which workers are told again that somebody watches."""

QUIET = 15.0
"""Seconds after which something is sent though nothing has happened: so a caller that is gone is found."""

MOST = 16
"""Who may watch at once: each of them asks the state store some times a second."""

REMEMBERED = 2000
"""Executions of which is known what was shown of them, until they end."""

MEDIA_TYPE = "text/event-stream"


class _Watching:
    """How many watch just now; on the server's one thread."""

    now = 0


@dataclass(slots=True)
class Shown:
    """What one who watches was shown of executions that run, so that nothing is shown twice."""

    pipeline: str | None = None
    tenant: str | None = None
    _of: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """Execution → (kind, step) of what was shown, in the order in which they began."""

    @property
    def running(self) -> frozenset[str]:
        """The executions whose end is to come."""
        return frozenset(self._of)

    def happened(self, found: Sequence[Happening]) -> list[Happening]:
        """Return what of this is to be shown."""
        shown: list[Happening] = []
        for kind, about in found:
            execution = about["execution_id"]
            if kind == "execution.started":
                if execution in self._of or not self._wanted(about):
                    continue
                self._of[execution] = set()
                if len(self._of) > REMEMBERED:
                    del self._of[next(iter(self._of))]
            elif execution in self._of:
                self._of[execution].add((kind, about["step"]))
            else:
                continue
            shown.append((kind, about))
        return shown

    def recorded(self, found: Sequence[Happening]) -> list[Happening]:
        """Return what of this has not been shown while it ran."""
        shown: list[Happening] = []
        for kind, about in found:
            known = self._of.get(about["execution_id"])
            if known is not None:
                if kind == "execution.started" or (kind, about.get("step", "")) in known:
                    continue
                if kind.startswith("execution."):
                    del self._of[about["execution_id"]]
            shown.append((kind, about))
        return shown

    def _wanted(self, about: dict[str, Any]) -> bool:
        return self.pipeline in {None, about["pipeline"]} and self.tenant in {None, about["tenant"]}


async def watch_executions(call: Call) -> Response:
    """Show executions as they run, as server-sent events, without their data.

    `execution.started`, `step.started` and `step.completed` or `step.failed` come while an execution runs, of a hundred
    a second at the most; all else, with the end, when it is recorded. Those that were recorded and
    could not be shown are counted by an event `skipped`. What `history.record` leaves out has no end here.
    """
    query: LiveQuery = call.query
    plan = call.backend.plan
    if query.pipeline is not None:
        find_pipeline(call.backend, query.pipeline)
    if plan.history.record == "off":
        raise ApiError(
            "nothing is recorded, so nothing can be watched.",
            code="history_off",
            status=409,
            hint="The flow says history.record: off.",
        )
    if _Watching.now >= MOST:
        raise ApiError(
            f"{MOST} watch already.",
            code="live_full",
            status=503,
            hint="Close one of them.",
            headers={"retry-after": "5"},
        )
    following = Following(plan.name, query.pipeline, query.tenant)
    await call.ask(lambda stores: following.look(stores.reader.store))
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    shown = Shown(query.pipeline, query.tenant)
    return StreamingResponse(_stream(call, following, shown), 200, headers, MEDIA_TYPE)


async def _stream(call: Call, following: Following, shown: Shown) -> AsyncIterator[bytes]:
    live = call.backend.live
    _Watching.now += 1
    try:
        number, _ = live.since(None)
        live.watch()
        yield b": watching\n\n"
        sent = looked = told = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if now - told >= PROLONG:
                live.watch()
                told = now
            number, happened = live.since(number)
            events = shown.happened(happened)
            if now - looked >= (SOON if shown.running else LOOK):
                events += await _recorded(call, following, shown)
                looked = time.monotonic()
            if events:
                yield b"".join(_line(kind, data) for kind, data in events)
                sent = now
            elif now - sent >= QUIET:
                yield b": quiet\n\n"
                sent = now
    finally:
        _Watching.now -= 1


async def _recorded(call: Call, following: Following, shown: Shown) -> list[Happening]:
    """Return what was recorded since the last look."""
    running = shown.running
    try:
        found, skipped = await call.ask(lambda stores: following.look(stores.reader.store, running))
    except PenstockError as error:
        return [("unavailable", {"code": error.code})]
    events = shown.recorded(found)
    return [*events, ("skipped", {"executions": skipped})] if skipped else events


def _line(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data))


ROUTES = (
    Route(
        "GET",
        "/api/v1/executions/live",
        watch_executions,
        query=LiveQuery,
        media_type=MEDIA_TYPE,
    ),
)
