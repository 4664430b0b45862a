"""Routes that replay dead letters: asking for it, following it, calling it off.

A replay is recorded, and the flow's workers run it: what is answered is its number and how far it is.
"""

from __future__ import annotations

from typing import Any

import orjson

from connectors.errors import FlowFileError
from dlq.replay import find_replay, replay_document, return_orphans, select
from dlq.selection import Selection
from flows.plan import PipelinePlan
from flows.state.contracts import StateStore
from flows.state.letter_documents import when
from flows.state.letter_filter import LetterFilter
from flows.state.replays import Replay, ReplayEntry
from penstock.api.calls import Call, Route
from penstock.api.dlq_routes import find_letter
from penstock.api.documents import (
    ReplayDocument,
    ReplayEntriesDocument,
    ReplaysDocument,
)
from penstock.api.errors import ApiError
from penstock.api.flow_routes import find_pipeline
from penstock.api.queries import PageQuery, ReplayAllBody, ReplayBody
from penstock.api.readers import Stores

Json = dict[str, Any]


async def replay_dead_letter(call: Call) -> Json:
    """Replay one dead letter; what fails again stays the same entry."""
    pipeline = _replayable(call)
    letter = await call.ask(lambda stores: find_letter(stores, call))
    if letter.status != "waiting":
        raise has_it(letter.id, letter.replay)
    flow = call.backend.plan.name
    wanted = LetterFilter(flow=flow, pipeline=pipeline.name, ids=(letter.id,))
    replay = await begin_replay(call, Selection(wanted), call.body)
    if replay.status != "selecting" and not replay.total:
        raise has_it(letter.id, None)
    return replay_document(replay)


async def replay_all_dead_letters(call: Call) -> Json:
    """Replay a pipeline's dead letters: those that the body's conditions find, or all.

    Those that another replay has are left out. While many are being selected, its `status` is
    `selecting`; the process must live until that is done, else `penstock dlq replay --resume` goes on.
    """
    pipeline = _replayable(call)
    body: ReplayAllBody = call.body
    selection = body.selection(call.backend.plan.name, pipeline.name)
    return replay_document(await begin_replay(call, selection, body))


async def list_replays(call: Call) -> Json:
    """List the flow's replays, newest first: who asked for what, and how far each is."""
    flow, query = call.backend.plan.name, call.query
    before = None if query.cursor is None else _number(query.cursor)

    def read(stores: Stores) -> list[Replay]:
        return stores.reader.store.replays.newest(flow, query.limit + 1, before)

    found = await call.ask(read)
    page = found[: query.limit]
    more = len(found) > query.limit
    return {
        "replays": [replay_document(replay) for replay in page],
        "cursor": str(page[-1].id) if more else None,
    }


async def get_replay(call: Call) -> Json:
    """Show a replay: who asked for what, and how far it is."""
    return replay_document(await call.ask(lambda stores: _find(stores.reader.store, call)))


async def list_replay_entries(call: Call) -> Json:
    """List what became of each dead letter of a replay."""
    query = call.query

    def read(stores: Stores) -> list[ReplayEntry]:
        store = stores.reader.store
        replay = _find(store, call)
        return store.replays.entries(replay.id, query.limit + 1, query.cursor or "")

    found = await call.ask(read)
    page = found[: query.limit]
    return {
        "entries": [_entry(entry) for entry in page],
        "cursor": page[-1].letter if len(found) > query.limit else None,
    }


async def cancel_replay(call: Call) -> Json:
    """Call a replay off: what no worker has begun waits again, what runs comes to its end."""

    def cancel(stores: Stores) -> Replay:
        with stores.writer() as store:
            replay = _find(store, call)
            store.replays.cancel(replay.id)
            return find_replay(store, replay.id)

    return replay_document(await call.ask(cancel))


async def begin_replay(call: Call, selection: Selection, body: ReplayBody) -> Replay:
    """Record a replay and take its dead letters; a long selection goes on when this has returned."""
    flow = call.backend.plan.name
    sources = {source.name for source in call.backend.plan.sources if source.pipelines}

    def begin(stores: Stores) -> int:
        with stores.writer() as store:
            return store.replays.begin(
                flow,
                by=f"{call.caller or 'somebody'} (API)",
                selection=selection.text(),
                edit=body.edit,
                rate=body.rate,
                from_step=body.from_step,
            )

    number: int = await call.ask(begin)

    def choose(stores: Stores) -> Replay:
        with stores.writer() as store:
            try:
                select(store, number)
            except FlowFileError:
                store.replays.cancel(number)
                raise
            return_orphans(store, number, sources)
            return find_replay(store, number)

    try:
        found: Replay = await call.ask_to_the_end(choose)
    except ApiError as error:
        if error.code != "state_timeout":
            raise
        found = await call.ask(lambda stores: find_replay(stores.reader.store, number))
    return found


def _replayable(call: Call) -> PipelinePlan:
    pipeline = find_pipeline(call.backend, call.path["pipeline"])
    if not pipeline.dead_letter.replayable:
        raise ApiError(
            f"pipeline {pipeline.name} does not let its dead letters be replayed.",
            code="replay_not_allowed",
            status=409,
            hint="It says dead_letter.replayable: false.",
        )
    return pipeline


def has_it(letter: str, replay: int | None) -> ApiError:
    """Return the error for a dead letter that a replay has."""
    which = "another replay" if replay is None else f"replay {replay}"
    return ApiError(
        f"{which} has dead letter {letter} already.",
        code="dead_letter_replaying",
        status=409,
        hint="/api/v1/dlq/replays says how far it is.",
    )


def _number(text: str) -> int:
    """Return a replay's number. Raises FlowFileError `cursor_unknown`."""
    if not text.isdecimal() or len(text) > 18:
        raise FlowFileError(
            f"this is not a cursor of a list of replays: {text[:80]!r}.",
            code="cursor_unknown",
            hint="Pass on the cursor that the page before gave, as it is.",
        )
    return int(text)


def _find(store: StateStore, call: Call) -> Replay:
    """Return the replay of the path. Raises FlowFileError `replay_unknown`."""
    text = call.path["replay"]
    if text.isdecimal() and len(text) <= 18:
        found = store.replays.get(int(text))
        if found is not None and found.flow == call.backend.plan.name:
            return found
    raise FlowFileError(
        f"the flow {call.backend.plan.name} has no replay {text}.",
        code="replay_unknown",
        hint="/api/v1/dlq/replays lists them.",
    )


def _entry(entry: ReplayEntry) -> Json:
    error = {"code": entry.error_code, "message": entry.error_message}
    return {
        "dead_letter": entry.letter,
        "pipeline": entry.pipeline,
        "event_id": entry.event_id,
        "status": entry.status,
        "execution": entry.execution,
        "step": entry.step,
        "error": error if entry.error_code else None,
        "edited": None if entry.edited is None else orjson.Fragment(entry.edited),
        "original": None if entry.original is None else orjson.Fragment(entry.original),
        "ended_at": None if entry.ended_at is None else when(entry.ended_at),
    }


ROUTES = (
    Route(
        "POST",
        "/api/v1/dlq/pipelines/{pipeline}/replay-all",
        replay_all_dead_letters,
        ReplayDocument,
        body=ReplayAllBody,
        status=202,
    ),
    Route(
        "POST",
        "/api/v1/dlq/pipelines/{pipeline}/{id}/replay",
        replay_dead_letter,
        ReplayDocument,
        body=ReplayBody,
        status=202,
    ),
    Route("GET", "/api/v1/dlq/replays", list_replays, ReplaysDocument, PageQuery),
    Route("GET", "/api/v1/dlq/replays/{replay}", get_replay, ReplayDocument),
    Route(
        "GET",
        "/api/v1/dlq/replays/{replay}/entries",
        list_replay_entries,
        ReplayEntriesDocument,
        PageQuery,
    ),
    Route("POST", "/api/v1/dlq/replays/{replay}/cancel", cancel_replay, ReplayDocument),
)
