"""Finding dead letters: a page of them, or one by the start of its id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from connectors.errors import FlowFileError
from dlq.selection import Selection, pages
from flows.state.contracts import StateStore
from flows.state.letter_documents import summary
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


def page_document(page: Page) -> dict[str, Any]:
    """Return a page, JSON-able."""
    return {"dead_letters": [summary(letter) for letter in page.letters], "cursor": page.cursor}
