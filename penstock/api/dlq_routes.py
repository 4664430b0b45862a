"""Routes of the dead-letter queue."""

from __future__ import annotations

import re
import time
from typing import Any

from connectors.errors import FlowFileError
from dlq.query import Page, page_document, select_letters
from dlq.stats import Statistics, document, statistics_of, statistics_where
from flows.state.letter_documents import detail
from flows.state.records import DeadLetter
from penstock.api.calls import Call, Route
from penstock.api.documents import LetterDetailDocument, LettersDocument, StatisticsDocument
from penstock.api.flow_routes import find_pipeline
from penstock.api.queries import LettersQuery, StatsQuery
from penstock.api.readers import Stores

Json = dict[str, Any]

SEARCH_FOR = 3.0
"""Seconds that jq is asked about dead letters for one page, or one count."""

_ID = re.compile(r"[0-9a-f-]{36}")


async def list_dead_letters(call: Call) -> Json:
    """List a pipeline's dead letters, newest failure first.

    With `where`, a page may hold fewer than `limit` and still have a cursor: jq is asked for some
    seconds, not for minutes.
    """
    query: LettersQuery = call.query
    pipeline = find_pipeline(call.backend, call.path["pipeline"]).name
    selection = query.selection(call.backend.plan.name, pipeline, query.status)

    def read(stores: Stores) -> Page:
        return select_letters(
            stores.reader.store,
            selection,
            limit=query.limit,
            cursor=query.cursor,
            within=SEARCH_FOR,
        )

    return page_document(await call.ask(read))


async def get_dead_letter(call: Call) -> Json:
    """Show all of a dead letter: the error, the event as it came, the outputs of the steps so far."""

    def read(stores: Stores) -> Json:
        letter = find_letter(stores, call)
        return detail(letter, stores.reader.store.copies.of_letter(letter.flow, letter.id))

    found: Json = await call.ask(read)
    return found


async def get_statistics(call: Call) -> Json:
    """Count dead letters by where and how they failed, over time, the likeliest cause first.

    With `where`, each is read and asked, the newest failure first, for some seconds: `complete` says
    whether that was enough for all.
    """
    query: StatsQuery = call.query
    backend = call.backend
    if query.pipeline is not None:
        find_pipeline(backend, query.pipeline)
    selection = query.selection(backend.plan.name, query.pipeline)
    now = time.time()

    def read(stores: Stores) -> Statistics:
        store = stores.reader.store
        if selection.where is None:
            return statistics_of(store, selection.wanted, now=now)
        return statistics_where(store, selection, now=now, within=SEARCH_FOR)

    return document(await call.ask(read))


def find_letter(stores: Stores, call: Call) -> DeadLetter:
    """Return the dead letter of the path. Raises FlowFileError `dead_letter_unknown`."""
    pipeline = find_pipeline(call.backend, call.path["pipeline"]).name
    wanted = call.path["id"].lower()
    if _ID.fullmatch(wanted):
        for letter in stores.reader.store.dead_letter(call.backend.plan.name, wanted):
            if letter.id == wanted and letter.pipeline == pipeline:
                return letter
    raise FlowFileError(
        f"pipeline {pipeline} has no dead letter {wanted}.",
        code="dead_letter_unknown",
        hint="It needs the whole id; it may have been discarded, or be past its retention.",
    )


ROUTES = (
    Route("GET", "/api/v1/dlq/stats", get_statistics, StatisticsDocument, StatsQuery),
    Route(
        "GET", "/api/v1/dlq/pipelines/{pipeline}", list_dead_letters, LettersDocument, LettersQuery
    ),
    Route("GET", "/api/v1/dlq/pipelines/{pipeline}/{id}", get_dead_letter, LetterDetailDocument),
)
