"""Routes of backfills: begun, followed, paused, resumed, cancelled, reported.

A backfill runs in a process of its own, which outlives the one that serves this.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from backfill.request import BackfillRequest
from connectors.errors import FlowFileError
from penstock.api.backfill_documents import (
    BackfillDocument,
    BackfillReportDocument,
    BackfillsDocument,
)
from penstock.api.calls import Call, Response, Route
from penstock.api.queries import PageQuery
from penstock.api.readers import Stores

if TYPE_CHECKING:
    from flows.state.backfills import Backfill, Wanted
    from flows.state.contracts import StateStore

Json = dict[str, Any]


async def start_backfill(call: Call) -> Json:
    """Run past events through a pipeline again: as a dry run, a shadow or live."""
    from backfill.jobs import begin  # noqa: PLC0415 - loads the engine, which few calls need
    from backfill.planning import prepare  # noqa: PLC0415

    plan, request = call.backend.plan, call.body

    def start(stores: Stores) -> Json:
        prepared = prepare(plan, request)
        with stores.writer() as store:
            number = begin(store, prepared, by=f"{call.caller or 'somebody'} (API)")
            return _started(call, store, number)

    found: Json = await call.ask_to_the_end(start)
    return found


async def list_backfills(call: Call) -> Json:
    """List the flow's backfills, newest first: what was asked for, and how far each is."""
    flow, query = call.backend.plan.name, call.query
    before = None if query.cursor is None else _number(query.cursor, "cursor_unknown")

    def read(stores: Stores) -> list[Backfill]:
        return stores.reader.store.backfills.newest(flow, query.limit + 1, before)

    found = await call.ask(read)
    page = found[: query.limit]
    return {
        "backfills": [_document(job) for job in page],
        "cursor": str(page[-1].id) if len(found) > query.limit else None,
    }


async def get_backfill(call: Call) -> Json:
    """Show a backfill: what was asked for, and how far it is."""
    return _document(await call.ask(lambda stores: _find(stores.reader.store, call)))


async def get_backfill_report(call: Call) -> Json:
    """Show what a backfill has found so far."""
    found: Json = await call.ask(lambda stores: _report(stores.reader.store, call))
    return found


async def get_backfill_page(call: Call) -> Response:
    """Show what a backfill has found so far, as a page for people: HTML, complete in itself."""
    from backfill.html import page  # noqa: PLC0415 - see above

    document = await call.ask(lambda stores: _report(stores.reader.store, call))
    return Response(page(document), media_type="text/html")


async def pause_backfill(call: Call) -> Json:
    """Pause a backfill: what is in flight is finished first, so its status may still be `running`."""
    return await _ask(call, "pause")


async def resume_backfill(call: Call) -> Json:
    """Go on with a backfill that was paused, failed or was interrupted, where it stood."""
    return await _ask(call, "run")


async def cancel_backfill(call: Call) -> Json:
    """End a backfill for good. What it has done stays done, and its report stays."""
    return await _ask(call, "cancel")


async def _ask(call: Call, wanted: Wanted) -> Json:
    from backfill.jobs import ask  # noqa: PLC0415 - see above

    def change(stores: Stores) -> Json:
        with stores.writer() as store:
            job = ask(store, _find(store, call), wanted)
            return _started(call, store, job.id) if wanted == "run" else _document(job)

    found: Json = await call.ask_to_the_end(change)
    return found


def _started(call: Call, store: StateStore, number: int) -> Json:
    """Start a job's process and return the job."""
    from backfill.jobs import find, start_process  # noqa: PLC0415 - see above

    plan = call.backend.plan
    job = find(store, number)
    process = start_process(job, plan.files, plan.state_url, quiet=True)
    # Somebody has to wait for it, or it stays a zombie when it is through.
    threading.Thread(target=process.wait, name=f"backfill-{number}", daemon=True).start()
    return _document(job)


def _report(store: StateStore, call: Call) -> Json:
    from backfill.jobs import report_document  # noqa: PLC0415 - see above

    return report_document(store, _find(store, call))


def _find(store: StateStore, call: Call) -> Backfill:
    from backfill.jobs import find  # noqa: PLC0415 - see above

    number = _number(call.path["backfill"], "backfill_unknown")
    return find(store, number, call.backend.plan.name)


def _document(job: Backfill) -> Json:
    from backfill.jobs import job_document  # noqa: PLC0415 - see above

    return job_document(job, time.time())


def _number(text: str, code: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise FlowFileError(
            f"this is not the number of a backfill: {text[:80]!r}.",
            code=code,
            hint="/api/v1/backfill lists them.",
        )
    return int(text)


_ONE = "/api/v1/backfill/{backfill}"

ROUTES = (
    Route(
        "POST",
        "/api/v1/backfill",
        start_backfill,
        BackfillDocument,
        body=BackfillRequest,
        status=202,
    ),
    Route("GET", "/api/v1/backfill", list_backfills, BackfillsDocument, PageQuery),
    Route("GET", _ONE, get_backfill, BackfillDocument),
    Route("GET", f"{_ONE}/report", get_backfill_report, BackfillReportDocument),
    Route("GET", f"{_ONE}/report.html", get_backfill_page, media_type="text/html"),
    Route("POST", f"{_ONE}/pause", pause_backfill, BackfillDocument),
    Route("POST", f"{_ONE}/resume", resume_backfill, BackfillDocument),
    Route("POST", f"{_ONE}/cancel", cancel_backfill, BackfillDocument),
)
