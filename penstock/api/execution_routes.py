"""Routes of executions: what ran, what each step did, and how two runs differ."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from connectors.errors import FlowFileError
from dlq.again import Again, asked_again
from dlq.replay import replay_document
from dlq.selection import Selection
from flows.history.diff import diff_document
from flows.history.documents import (
    detail_document,
    events_document,
    page_document,
    timeline_document,
)
from flows.history.finding import find_execution
from flows.history.listing import Page
from flows.history.listing import list_executions as list_recorded
from flows.history.recorded import Recorded
from flows.state.letter_filter import LetterFilter
from penstock.api.calls import Call, Route
from penstock.api.documents import ReplayDocument
from penstock.api.execution_documents import (
    DiffDocument,
    ExecutionDetailDocument,
    ExecutionEventsDocument,
    ExecutionsDocument,
    TimelineDocument,
)
from penstock.api.flow_routes import find_pipeline
from penstock.api.queries import DiffQuery, ExecutionReplayBody, ExecutionsQuery, ReplayBody
from penstock.api.readers import Stores
from penstock.api.replay_routes import begin_replay, has_it

Json = dict[str, Any]

SEARCH_FOR = 3.0
"""Seconds that executions are looked through for one page."""


async def list_executions(call: Call) -> Json:
    """List executions, those that ended last first.

    Where few of many are asked for, a page may hold fewer than `limit` and still have a cursor:
    they are looked through for some seconds, not for minutes.
    """
    query: ExecutionsQuery = call.query
    if query.pipeline is not None:
        find_pipeline(call.backend, query.pipeline)
    wanted = query.wanted(call.backend.plan.name)

    def read(stores: Stores) -> Page:
        return list_recorded(
            stores.reader.store,
            wanted,
            limit=query.limit,
            cursor=query.cursor,
            within=SEARCH_FOR,
        )

    return page_document(await call.ask(read))


async def get_execution(call: Call) -> Json:
    """Show all that is kept of an execution: its event as it came, the outputs, how it ended."""
    return await _told(call, detail_document)


async def get_timeline(call: Call) -> Json:
    """Show step by step what an execution did: when, for how long, with what, what came of it.

    A step takes a whole batch of events at once: its duration is the batch's.
    """
    return await _told(call, timeline_document)


async def get_execution_events(call: Call) -> Json:
    """Show an execution as a stream of events, in the order in which they happened."""
    return await _told(call, events_document)


async def replay_execution(call: Call) -> Json:
    """Run an execution again: its event, through the pipeline as it is now, effects and all.

    The new execution says which replay it is; /api/v1/dlq/replays says how far that is.
    """
    body: ExecutionReplayBody = call.body
    plan = call.backend.plan

    def ask(stores: Stores) -> Again:
        with stores.writer() as store:
            again = asked_again(
                store,
                plan.name,
                call.path["execution"],
                now=time.time(),
                plan=plan,
                from_step=body.from_step,
            )
            if again.letter.status != "waiting":
                raise has_it(again.letter.id, again.letter.replay)
            again.add(store)
            return again

    again: Again = await call.ask_to_the_end(ask)
    wanted = LetterFilter(flow=plan.name, ids=(again.letter.id,))
    how = ReplayBody(edit=body.edit, from_step=body.from_step is not None)
    try:
        return replay_document(await begin_replay(call, Selection(wanted), how))
    except FlowFileError:
        await call.ask(lambda stores: _withdraw(stores, again))
        raise


def _withdraw(stores: Stores, again: Again) -> None:
    with stores.writer() as store:
        again.withdraw(store)


async def diff_executions(call: Call) -> Json:
    """Compare two executions step by step."""
    query: DiffQuery = call.query
    flow = call.backend.plan.name

    def read(stores: Stores) -> Json:
        store = stores.reader.store
        left, right = (find_execution(store, flow, each) for each in (query.left, query.right))
        return diff_document(left, right)

    found: Json = await call.ask(read)
    return found


async def _told(call: Call, document: Callable[[Recorded], Json]) -> Json:
    flow = call.backend.plan.name

    def read(stores: Stores) -> Json:
        return document(find_execution(stores.reader.store, flow, call.path["execution"]))

    found: Json = await call.ask(read)
    return found


_ONE = "/api/v1/executions/{execution}"

ROUTES = (
    Route("GET", "/api/v1/executions", list_executions, ExecutionsDocument, ExecutionsQuery),
    # Before those of one execution, whose path would fit `diff` too.
    Route("GET", "/api/v1/executions/diff", diff_executions, DiffDocument, DiffQuery),
    Route("GET", _ONE, get_execution, ExecutionDetailDocument),
    Route("GET", f"{_ONE}/timeline", get_timeline, TimelineDocument),
    Route("GET", f"{_ONE}/events", get_execution_events, ExecutionEventsDocument),
    Route(
        "POST",
        f"{_ONE}/replay",
        replay_execution,
        ReplayDocument,
        body=ExecutionReplayBody,
        status=202,
    ),
)
