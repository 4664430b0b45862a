"""The route that discards a dead letter: archived, then deleted."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from dlq.archive import discard
from dlq.selection import Selection
from flows.state.letter_filter import LetterFilter
from penstock.api.calls import Call, Route
from penstock.api.dlq_routes import find_letter
from penstock.api.documents import DiscardedDocument
from penstock.api.errors import ApiError
from penstock.api.queries import DiscardQuery
from penstock.api.readers import Stores
from penstock.api.replay_routes import has_it

Json = dict[str, Any]

_archiving = threading.Lock()
"""One line at a time: two threads append to one file."""


async def discard_dead_letter(call: Call) -> Json:
    """Discard a dead letter: it is written to the archive, flushed to the disk, then deleted.

    `penstock dlq import` brings it back. With `purge` it is gone.
    """
    query: DiscardQuery = call.query
    flow = call.backend.plan.name
    archive = None if query.purge else archive_of(call.backend.plan.state_url, time.time())

    def delete(stores: Stores) -> int:
        letter = find_letter(stores, call)
        if letter.status != "waiting":
            raise has_it(letter.id, letter.replay)
        wanted = LetterFilter(flow=flow, pipeline=letter.pipeline, ids=(letter.id,))
        with _archiving, stores.writer() as store:
            try:
                if archive is not None:
                    archive.parent.mkdir(parents=True, exist_ok=True)
                gone = discard(store, Selection(wanted), archive)
            except OSError as error:
                raise _not_written(archive, error) from error
        if not gone:
            raise has_it(letter.id, None)
        return gone

    gone = await call.ask_to_the_end(delete)
    return {"discarded": gone, "archive": None if archive is None else str(archive)}


def archive_of(state_url: str, now: float) -> Path:
    """Return the file of a day's discarded dead letters: beside a state in a file, else in this folder."""
    url = make_url(state_url)
    is_file = url.get_backend_name() == "sqlite" and url.database
    folder = Path(str(url.database)).absolute().parent if is_file else Path.cwd()
    day = time.strftime("%Y%m%d", time.gmtime(now))
    return folder / "dead-letter-archive" / f"{day}-api.jsonl"


def _not_written(path: Path | None, error: OSError) -> ApiError:
    return ApiError(
        f"{path} can't be written: {error.strerror}.",
        code="archive_unwritable",
        status=507,
        hint="Nothing was deleted. Let the process write there, or discard with ?purge=true.",
    )


ROUTES = (
    Route(
        "DELETE",
        "/api/v1/dlq/pipelines/{pipeline}/{id}",
        discard_dead_letter,
        DiscardedDocument,
        DiscardQuery,
    ),
)
