"""Does what `penstock backfill` was told: plans, starts, follows, asks, reports."""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from backfill import html as html_page
from backfill import jobs
from backfill.planning import Prepared, plan_document, prepare
from backfill.request import BackfillRequest
from connectors.errors import FlowFileError
from flows.plan import FlowPlan
from flows.runtime import exits
from flows.state.backfills import Backfill, Wanted
from flows.state.contracts import StateStore
from penstock.cli import backfill_report as told
from penstock.cli.errors import print_error
from penstock.cli.loading import load_runnable
from penstock.cli.output import print_json
from penstock.cli.stored import open_stored

LOOK = 0.25
"""Seconds between looks at a job."""

_PATIENCE = 60.0
"""Seconds that a job has to pause when Ctrl-C asks for it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told of a job at its end, and what the exit code says."""

    json: bool
    html: Path | None
    fail_on_different: bool


def show_plan(
    files: Sequence[Path],
    with_files: Sequence[Path],
    state: str | None,
    asked: BackfillRequest,
    *,
    json: bool,
) -> None:
    """Print what would run."""
    plan, other = _plans(files, with_files)
    with open_stored(files, state, None) as stored:
        document = plan_document(prepare(plan, asked, other), stored.store)
    if json:
        print_json(document)
    else:
        told.print_plan(document)


def start(
    files: Sequence[Path],
    with_files: Sequence[Path],
    state: str | None,
    asked: BackfillRequest,
    *,
    ending: Ending,
    detach: bool,
    yes: bool,
) -> int:
    """Start a job; see it through, unless it is to be left alone; return the exit code."""
    plan, other = _plans(files, with_files)
    url = state or plan.state_url
    with open_stored(files, state, None) as stored:
        prepared = prepare(plan, asked, other)
        if not _confirmed(prepared, yes=yes):
            return exits.DONE
        number = jobs.begin(stored.store, prepared, by=_somebody(), with_files=with_files)
        job = jobs.find(stored.store, number)
        return _run(stored.store, job, files, url, ending=ending, detach=detach)


def resume(
    files: Sequence[Path], state: str | None, number: int, *, ending: Ending, detach: bool
) -> int:
    """Go on with a job; return the exit code."""
    plan = load_runnable(files)
    with open_stored(files, state, None) as stored:
        job = jobs.ask(stored.store, jobs.find(stored.store, number, plan.name), "run")
        url = state or plan.state_url
        return _run(stored.store, job, files, url, ending=ending, detach=detach)


def ask(
    files: Sequence[Path] | None, state: str | None, flow: str | None, number: int, wanted: Wanted
) -> None:
    """Have a job pause or end; wait until it has."""
    with open_stored(files, state, flow) as stored:
        store = stored.store
        job = jobs.ask(store, jobs.find(store, number, stored.flow), wanted)
        while job.told(time.time()) == "running":
            time.sleep(LOOK)
            job = jobs.find(store, number)
        print(told.line(jobs.job_document(job, time.time())))


def show_list(
    files: Sequence[Path] | None, state: str | None, flow: str | None, limit: int, *, json: bool
) -> None:
    """Print a flow's jobs."""
    with open_stored(files, state, flow) as stored:
        found = stored.store.backfills.newest(stored.one_flow(), limit)
    documents = [jobs.job_document(job, time.time()) for job in found]
    if json:
        print_json({"backfills": documents})
    else:
        told.print_list(documents)


def show_status(
    files: Sequence[Path] | None,
    state: str | None,
    flow: str | None,
    number: int,
    *,
    follow: bool,
    json: bool,
) -> None:
    """Print how far a job is."""
    with open_stored(files, state, flow) as stored:
        job = jobs.find(stored.store, number, stored.flow)
        if follow:
            job = _followed(stored.store, job, None)
    document = jobs.job_document(job, time.time())
    if json:
        print_json(document)
    else:
        told.print_status(document)


def show_report(
    files: Sequence[Path] | None,
    state: str | None,
    flow: str | None,
    number: int,
    ending: Ending,
) -> int:
    """Print what a job has found; return the exit code."""
    with open_stored(files, state, flow) as stored:
        return _tell(stored.store, jobs.find(stored.store, number, stored.flow), ending)


def _plans(files: Sequence[Path], with_files: Sequence[Path]) -> tuple[FlowPlan, FlowPlan | None]:
    return load_runnable(files), load_runnable(with_files) if with_files else None


def _run(
    store: StateStore,
    job: Backfill,
    files: Sequence[Path],
    url: str,
    *,
    ending: Ending,
    detach: bool,
) -> int:
    process = jobs.start_process(job, files, url, quiet=detach)
    if detach:
        if ending.json:
            print_json(jobs.job_document(job, time.time()))
        else:
            print(f"Backfill {job.id} has started: penstock backfill status {job.id} --follow")
        return exits.DONE
    try:
        job = _followed(store, job, process)
    except KeyboardInterrupt:
        store.backfills.ask(job.id, "pause")
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        names = " ".join(map(str, files))
        print(
            f"Backfill {job.id} is paused. Go on: penstock backfill resume {job.id} {names}",
            file=sys.stderr,
        )
        raise
    return _tell(store, job, ending)


def _followed(
    store: StateStore, job: Backfill, process: subprocess.Popen[bytes] | None
) -> Backfill:
    """Show a job's progress until it stops; return it as it is then."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(f"backfill {job.id}", total=job.expected, rate="")
        while True:
            gone = process is not None and process.poll() is not None
            job = jobs.find(store, job.id)
            rate = jobs.job_document(job, time.time())["events_per_second"]
            bar.update(task, completed=job.events, rate="" if rate is None else f"{rate:,.0f}/s")
            status = job.told(time.time())
            if gone or (process is None and status not in {"running", "waiting"}):
                return job
            time.sleep(LOOK)


def _tell(store: StateStore, job: Backfill, ending: Ending) -> int:
    """Print a job's report; return the exit code."""
    document = jobs.report_document(store, job)
    if ending.html is not None:
        ending.html.write_text(html_page.page(document), encoding="utf-8")
    if ending.json:
        print_json(document)
    else:
        told.print_report(document)
        if ending.html is not None:
            print(f"\nThe page: {ending.html}")
    error = document["backfill"]["error"]
    if error is not None:
        print_error(error["code"], error["message"], error["hint"])
        return exits.FATAL
    report = document["report"]
    if ending.fail_on_different:
        if report["comparison"] is None:
            raise FlowFileError(
                f"backfill {job.id} has compared nothing: it is no shadow.",
                code="usage",
                hint="--fail-on different goes with --mode shadow.",
            )
        counts = report["comparison"]["executions"]
        return exits.FOUND_FAILURES if counts["different"] or counts["missing"] else exits.DONE
    return exits.FOUND_FAILURES if report["failed"] else exits.DONE


def _confirmed(prepared: Prepared, *, yes: bool) -> bool:
    if yes or prepared.request.mode != "live":
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    question = (
        f"Run {prepared.pipeline.name} over past events of {prepared.source.name} with all effects?"
    )
    return typer.confirm(question, err=True)


def _somebody() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
