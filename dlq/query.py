"""Finding dead letters: a page of them, or one by the start of its id; and as JSON."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import orjson

from connectors.errors import FlowFileError
from dlq.selection import Selection, pages
from flows.state.contracts import StateStore
from flows.state.letter_filter import LetterFilter
from flows.state.records import DeadLetter
from flows.state.rows import cursor as cursor_behind

LIMIT = 50
"""Entries of a page, when nobody says how many."""


@dataclass(frozen=True, slots=True)
class Page:
    """Dead letters, newest failure first; `cursor` asks for the next ones, None at the end."""

    letters: list[DeadLetter]
    cursor: str | None


def list_letters(
    store: StateStore,
    *,
    flow: str | None = None,
    pipeline: str | None = None,
    limit: int = LIMIT,
    cursor: str | None = None,
) -> Page:
    """Return a page of a flow's or a pipeline's dead letters; see `select_letters`."""
    selection = Selection(LetterFilter(flow=flow, pipeline=pipeline))
    return select_letters(store, selection, limit=limit, cursor=cursor)


def select_letters(
    store: StateStore,
    selection: Selection,
    *,
    limit: int = LIMIT,
    cursor: str | None = None,
    within: float | None = None,
) -> Page:
    """Return a page of what a selection means.

    jq is asked about each entry that the filter finds, until the page is full; or for `within`
    seconds, and then the page may hold fewer and still have a cursor. Raises FlowFileError for a
    limit, a cursor or jq that can't be.
    """
    if limit < 1:
        raise FlowFileError(
            f"a page can't have {limit} entries.",
            code="limit_invalid",
            hint="Ask for 1 or more.",
        )
    if selection.where is None:
        found = store.letters.page(selection.wanted, limit + 1, cursor)
    else:
        found = []
        status = selection.wanted.status
        end = None if within is None else time.monotonic() + within
        for letters, behind in pages(store, selection, after=cursor, status=status):
            found += letters
            if len(found) > limit:
                break
            if end is not None and time.monotonic() > end:
                return Page(found, behind)
    letters = found[:limit]
    return Page(letters, cursor_behind(letters[-1]) if len(found) > limit else None)


def find_letter(store: StateStore, id_prefix: str, *, flow: str | None = None) -> DeadLetter:
    """Return the dead letter whose id starts with `id_prefix`.

    Raises FlowFileError `dead_letter_unknown` or `dead_letter_ambiguous`, naming those it fits.
    """
    prefix = id_prefix.strip()
    found = store.dead_letter(flow, prefix) if prefix else []
    exact = [letter for letter in found if letter.id == prefix.lower()]
    found = exact or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise FlowFileError(
            f"there is no dead letter {prefix!r}{f' in flow {flow}' if flow else ''}.",
            code="dead_letter_unknown",
            hint="`penstock dlq list` shows the ids; it may be past its retention.",
        )
    several = len({letter.id for letter in found}) > 1
    shown = [f"{letter.id} ({letter.flow}, {letter.pipeline})" for letter in found[:5]]
    more = "" if len(found) <= len(shown) else ", …"
    raise FlowFileError(
        f"{prefix!r} fits several dead letters: {', '.join(shown)}{more}.",
        code="dead_letter_ambiguous",
        hint="Give more of the id." if several else "Name the flow too.",
    )


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list shows, JSON-able."""
    return {
        "id": letter.id,
        "flow": letter.flow,
        "pipeline": letter.pipeline,
        "step": letter.step,
        "event_id": letter.event_id,
        "event_type": letter.event_type,
        "tenant": letter.tenant,
        "error": {
            "code": letter.error_code,
            "kind": letter.error_kind,
            "message": letter.error_message,
        },
        "attempts": letter.attempts,
        "status": letter.status,
        "replays": letter.replays,
        "first_failed_at": when(letter.first_failed_at),
        "last_failed_at": when(letter.last_failed_at),
    }


def detail(letter: DeadLetter) -> dict[str, Any]:
    """Return all of it for `orjson.dumps`: what is stored as JSON stands there digit for digit."""
    shown = summary(letter)
    shown["error"] |= {"hint": letter.error_hint, "context": orjson.Fragment(letter.context)}
    shown |= {
        "flow_version": letter.flow_version,
        "replay": letter.replay,
        "source": letter.source,
        "partition": letter.partition,
        "position": letter.position,
        "key": letter.key,
        "event": orjson.Fragment(letter.event),
        "change": None if letter.change is None else orjson.Fragment(letter.change),
        "outputs": orjson.Fragment(letter.outputs),
        "details": None if letter.details is None else orjson.Fragment(letter.details),
        "compensation": None
        if letter.compensation is None
        else orjson.Fragment(letter.compensation),
        "tries": orjson.Fragment(letter.tries),
        "wire_base64": None if letter.wire is None else base64.b64encode(letter.wire).decode(),
    }
    return shown


def page_document(page: Page) -> dict[str, Any]:
    """Return a page, JSON-able."""
    return {"dead_letters": [summary(letter) for letter in page.letters], "cursor": page.cursor}


def when(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
