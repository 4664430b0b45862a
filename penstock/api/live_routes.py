"""The route that shows executions as they are recorded: server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from connectors.errors import PenstockError
from flows.history.following import Following
from penstock.api.calls import Call, Route
from penstock.api.errors import ApiError
from penstock.api.flow_routes import find_pipeline
from penstock.api.queries import LiveQuery

LOOK = 0.25
"""Seconds between looks."""

QUIET = 15.0
"""Seconds after which something is sent though nothing has happened: so a caller that is gone is found."""

MOST = 16
"""Who may watch at once: each of them asks the state store four times a second."""

MEDIA_TYPE = "text/event-stream"


class _Watching:
    """How many watch just now; on the server's one thread."""

    now = 0


async def watch_executions(call: Call) -> Response:
    """Show executions as they are recorded, as server-sent events.

    Each is shown step by step when its batch is settled: `execution.started`, `step.started`,
    `step.completed`, …, `execution.completed`, as the stream of events of one, without its data. More
    than can be shown are counted by an event `skipped`. What `history.record` leaves out is not shown.
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
    return StreamingResponse(_stream(call, following), 200, headers, MEDIA_TYPE)


async def _stream(call: Call, following: Following) -> AsyncIterator[bytes]:
    _Watching.now += 1
    try:
        yield b": watching\n\n"
        sent = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            try:
                events, skipped = await call.ask(lambda stores: following.look(stores.reader.store))
            except PenstockError as error:
                events, skipped = [("unavailable", {"code": error.code})], 0
            if skipped:
                events = [*events, ("skipped", {"executions": skipped})]
            if events:
                yield b"".join(_line(kind, data) for kind, data in events)
                sent = time.monotonic()
            elif time.monotonic() - sent >= QUIET:
                yield b": quiet\n\n"
                sent = time.monotonic()
    finally:
        _Watching.now -= 1


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
