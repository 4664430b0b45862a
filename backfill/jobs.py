"""Jobs from outside: begun, found, told, paused, resumed, cancelled; and their processes started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backfill.order import Order
from backfill.report import Report
from backfill.request import BackfillRequest
from backfill.samples import Json
from connectors.errors import FlowFileError
from flows.state.backfills import Backfill, Wanted
from flows.state.contracts import StateStore
from flows.state.letter_documents import when

if TYPE_CHECKING:
    from backfill.planning import Prepared

_WITH = "with"
"""Where a stored request has the files of the other flow."""


def begin(
    store: StateStore, prepared: Prepared, *, by: str, with_files: Sequence[Path] = ()
) -> int:
    """Keep a new job; return its number. Nothing runs before its process is started."""
    from backfill.planning import survey_of  # noqa: PLC0415 - loads the engine

    request = prepared.request
    stored = request.stored()
    if with_files:
        stored[_WITH] = [str(file.resolve()) for file in with_files]
    return store.backfills.add(
        flow=prepared.plan.name,
        pipeline=prepared.pipeline.name,
        source=prepared.source.name,
        mode=request.mode,
        since=prepared.window.since,
        until=prepared.window.until,
        request=stored,
        by=by,
        expected=survey_of(prepared, store).events,
    )


def request_of(job: Backfill) -> BackfillRequest:
    """Return what was asked for."""
    stored = json.loads(job.request)
    stored.pop(_WITH, None)
    return BackfillRequest.model_validate(stored)


def start_process(
    job: Backfill, files: Sequence[Path], state: str, *, quiet: bool
) -> subprocess.Popen[bytes]:
    """Start a job's process, in a session of its own: it outlives whoever started it.

    `quiet`: nothing that it logs is shown; why it fails is stored.
    """
    order = Order(
        job=job.id,
        state="",  # in its environment: a command line is anybody's to read, and it has a password
        files=[str(file.resolve()) for file in files],
        with_files=json.loads(job.request).get(_WITH, []),
    )
    return subprocess.Popen(  # noqa: S603 - our own module, arguments of our own
        [sys.executable, "-m", "backfill.process", order.encode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        env={**os.environ, "PENSTOCK_STATE_URL": state},
        start_new_session=True,
    )


def find(store: StateStore, number: int, flow: str | None = None) -> Backfill:
    """Return a job. Raises FlowFileError `backfill_unknown`."""
    found = store.backfills.get(number) if number < 1 << 62 else None
    if found is None or (flow is not None and found.flow != flow):
        raise FlowFileError(
            f"there is no backfill {number}" + (f" of flow {flow}." if flow else "."),
            code="backfill_unknown",
            hint="`penstock backfill list` shows them.",
        )
    return found


def ask(store: StateStore, job: Backfill, wanted: Wanted) -> Backfill:
    """Have a job go on, pause or end; return it as it is then. Raises FlowFileError `backfill_over`."""
    status = job.told(time.time())
    if status in {"done", "cancelled"}:
        raise FlowFileError(
            f"backfill {job.id} is {status}: it can't be {_PAST[wanted]} any more.",
            code="backfill_over",
            hint="Start another one.",
        )
    if wanted == "run" and status == "running":
        if job.wanted == "run":
            raise FlowFileError(
                f"backfill {job.id} is running.",
                code="backfill_running",
                hint=f"`penstock backfill status {job.id} --follow` shows how far it is.",
            )
        raise FlowFileError(
            f"backfill {job.id} is about to stop.",
            code="backfill_running",
            hint="Resume it when it is paused.",
        )
    store.backfills.ask(job.id, wanted)
    return find(store, job.id)


_PAST = {"run": "resumed", "pause": "paused", "cancel": "cancelled"}


def report_of(store: StateStore, job: Backfill) -> Report:
    """Return what a job has found so far."""
    if job.mode == "live" and job.status != "done":
        from backfill.live import live_report  # noqa: PLC0415 - loads the engine

        return live_report(store, job)
    document = store.backfills.saved(job.id)[1]
    return Report() if document is None else Report.of(document)


def job_document(job: Backfill, now: float) -> Json:
    """Return a job as JSON: what was asked for, and how far it is."""
    status = job.told(now)
    rate = job.events / job.ran if job.ran > 0 and job.events else None
    left = None
    if status == "running" and rate and job.expected is not None:
        left = round(max(0, job.expected - job.events) / rate, 1)
    request = json.loads(job.request)
    document: dict[str, Any] = {
        "id": job.id,
        "flow": job.flow,
        "pipeline": job.pipeline,
        "source": job.source,
        "mode": job.mode,
        "status": status,
        "from": when(job.since / 1000),
        "to": when(job.until / 1000),
        "filter": request.get("filter"),
        "concurrency": request.get("concurrency"),
        "rate_limit": request.get("rate_limit"),
        "offline": request.get("offline", False),
        "respect_idempotency": request.get("respect_idempotency", False),
        "with": request.get(_WITH, []),
        "events": job.events,
        "expected_events": job.expected,
        "events_per_second": None if rate is None else round(rate, 1),
        "seconds_left": left,
        "requested_by": job.requested_by,
        "created_at": when(job.created_at),
        "started_at": None if job.started_at is None else when(job.started_at),
        "ended_at": None if job.ended_at is None else when(job.ended_at),
        "error": None if job.error is None else json.loads(job.error),
    }
    return document


def report_document(store: StateStore, job: Backfill) -> Json:
    """Return a job and what it has found so far, as JSON."""
    return {"backfill": job_document(job, time.time()), "report": report_of(store, job).document()}
