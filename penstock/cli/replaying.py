"""Does what `penstock dlq replay` was told: asks, runs in place where nobody else does, follows."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from connectors.errors import FlowFileError
from dlq.rehearsal import Rehearsal, Report
from dlq.replay import (
    Request,
    begin,
    edited,
    find_replay,
    replay_document,
    return_orphans,
    select,
    somebody,
)
from dlq.selection import Selection, count, pages
from flows.plan import FlowPlan
from flows.runtime import exits
from flows.state.contracts import StateStore
from flows.state.replays import Replay
from penstock.cli.dlq_selecting import Conditions, selection_of
from penstock.cli.loading import load_runnable
from penstock.cli.output import count as counted
from penstock.cli.output import print_json
from penstock.cli.replay_report import show_reasons, show_rehearsal, summary
from penstock.cli.run_here import run_here
from transforms.expressions import ExpressionError, compile_jq

if TYPE_CHECKING:
    from penstock.cli.stored import Stored

LOOK = 0.25
"""Seconds between looks at a replay that a running flow works on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was told."""

    stored: Stored
    flow: str
    files: Sequence[Path]
    state: str | None
    """The state store that was named, instead of the flow's."""
    json: bool
    edit: str | None
    rate: float | None
    from_step: bool
    wait: bool
    yes: bool

    @property
    def store(self) -> StateStore:
        """The state store."""
        return self.stored.store

    def plan(self) -> FlowPlan | None:
        """Return the flow; None where its file was not named. Raises FlowErrors, FlowFileError."""
        return load_runnable(self.files) if self.files else None

    def command(self, *words: object) -> str:
        """Return a `penstock dlq replay` command on the same state, to be shown."""
        where = [str(file) for file in self.files] or ["--flow", self.flow]
        return " ".join(["penstock dlq replay", *map(str, words), *map(shlex.quote, where)])


def start_replay(wanted: Wanted, ids: Sequence[str], conditions: Conditions) -> int:
    """Ask for a replay, and see it through; return the exit code."""
    selection = selection_of(wanted.stored, wanted.flow, ids, conditions)
    plan = wanted.plan()
    check_expressions(wanted.edit, conditions.where)
    if plan is not None:
        _check_allowed(wanted, plan, selection, ids, conditions)
    if not ids and not _confirmed(wanted, selection):
        return exits.DONE
    request = Request(
        selection,
        by=somebody(),
        edit=wanted.edit,
        rate=wanted.rate,
        from_step=wanted.from_step,
    )
    replay = _selected(wanted, begin(wanted.store, request))
    if ids and replay.total < len(selection.wanted.ids):
        missing = len(selection.wanted.ids) - replay.total
        print(f"{missing} left out: another replay has them.", file=sys.stderr)
    return _see_through(wanted, replay, plan)


def go_on(wanted: Wanted, number: int) -> int:
    """Go on with a replay, wherever it was interrupted; return the exit code."""
    _of_this_flow(wanted, number)
    plan = wanted.plan()
    return _see_through(wanted, _selected(wanted, number), plan)


def cancel_replay(wanted: Wanted, number: int) -> int:
    """Give back what a replay has not begun; return the exit code."""
    _of_this_flow(wanted, number)
    wanted.store.replays.cancel(number)
    replay = find_replay(wanted.store, number)
    if not replay.is_over and not wanted.store.replays.served_sources(wanted.flow):
        # What a worker that is gone had taken: nobody runs it now.
        for source in wanted.store.replays.open_sources(number):
            wanted.store.replays.give_back_source(
                number, source, "replay_cancelled", "the replay was cancelled."
            )
        replay = find_replay(wanted.store, number)
    _print_end(wanted, replay)
    return exits.DONE


def dry_run_replay(wanted: Wanted, ids: Sequence[str], conditions: Conditions) -> int:
    """Print what a replay would come to; return the exit code: 1 when any would fail."""
    selection = selection_of(wanted.stored, wanted.flow, ids, conditions)
    plan = wanted.plan()
    if plan is None:
        raise FlowFileError(
            "a dry run needs the flow file: its steps are run here.",
            code="usage",
            hint="Name the file behind the options.",
        )
    check_expressions(wanted.edit, conditions.where)
    edit = None if wanted.edit is None else compile_jq(wanted.edit)
    report = Report()
    total = count(wanted.store, selection)
    with _bar("dry run", total) as (advance, _), Rehearsal(plan, from_step=wanted.from_step) as run:
        for letters, _cursor in pages(wanted.store, selection):
            edits = [None if edit is None else edited(each, edit) for each in letters]
            ids = [letter.id for letter in letters]
            half_undone = wanted.store.replays.half_undone(wanted.flow, ids)
            report.add(run.run(letters, edits, half_undone))
            advance(report.total)
    show_rehearsal(report, json=wanted.json)
    return exits.FOUND_FAILURES if report.verdicts["fails"] else exits.DONE


def _selected(wanted: Wanted, number: int) -> Replay:
    """Take what the replay selects, from where it was interrupted."""
    try:
        with _bar("selecting", None) as (advance, _):
            return select(wanted.store, number, advance)
    except KeyboardInterrupt:
        _say_how_to_go_on(wanted, number)
        raise


def _see_through(wanted: Wanted, replay: Replay, plan: FlowPlan | None) -> int:
    """Follow a replay to its end, running it in place where no worker does; return the exit code."""
    if plan is not None:
        known = {source.name for source in plan.sources if source.pipelines}
        return_orphans(wanted.store, replay.id, known)
    if not wanted.wait:
        return _left_to_the_flow(wanted, replay)
    try:
        with _bar(f"replay {replay.id}", replay.total) as (advance, log_line):
            code = follow(wanted, replay.id, plan, advance, log_line)
    except KeyboardInterrupt:
        _say_how_to_go_on(wanted, replay.id)
        raise
    replay = find_replay(wanted.store, replay.id)
    if code != exits.DONE:
        _say_how_to_go_on(wanted, replay.id)
        return code
    _print_end(wanted, replay)
    return exits.FOUND_FAILURES if replay.failed or replay.returned else exits.DONE


def follow(
    wanted: Wanted,
    number: int,
    plan: FlowPlan | None,
    advance: Callable[[int], None],
    log_line: Callable[[bytes], None],
) -> int:
    """Follow a replay to its end, running in place what no worker runs; return the exit code.

    `advance` is told how many have ended.
    """
    replays = wanted.store.replays

    def look() -> None:
        advance(find_replay(wanted.store, number).ended)

    while True:
        look()
        if find_replay(wanted.store, number).is_over:
            return exits.DONE
        served = replays.served_sources(wanted.flow)
        alone = [source for source in replays.open_sources(number) if source not in served]
        if not alone:
            time.sleep(LOOK)
            continue
        if plan is None:
            raise FlowFileError(
                f"no worker runs {' and '.join(alone)}: replay {number} waits for one.",
                code="replay_no_worker",
                hint="Name the flow file, and it is run here: "
                f"penstock dlq replay --resume {number} FLOW.yaml. Or start the flow.",
            )
        code = run_here(wanted.files, plan, alone, wanted.state, tick=look, log_line=log_line)
        if code != exits.DONE:
            return code


def _left_to_the_flow(wanted: Wanted, replay: Replay) -> int:
    if wanted.json:
        print_json(replay_document(replay))
        return exits.DONE
    print(f"Replay {replay.id}: {counted(replay.total, 'dead letter')}.")
    if not replay.is_over and not wanted.store.replays.served_sources(wanted.flow):
        print("No worker runs: it begins when the flow does.")
    print(f"How far it is: penstock dlq replays --id {replay.id}")
    return exits.DONE


def _print_end(wanted: Wanted, replay: Replay) -> None:
    if wanted.json:
        print_json(replay_document(replay))
        return
    print(summary(replay))
    show_reasons(wanted.store, replay)


def _say_how_to_go_on(wanted: Wanted, number: int) -> None:
    command = wanted.command("--resume", number)
    print(f"Replay {number} is not over; nothing of it is lost. Go on: {command}", file=sys.stderr)


def _of_this_flow(wanted: Wanted, number: int) -> None:
    replay = find_replay(wanted.store, number)
    if replay.flow != wanted.flow:
        raise FlowFileError(
            f"replay {number} is one of the flow {replay.flow}, not of {wanted.flow}.",
            code="replay_unknown",
            hint="`penstock dlq replays` lists those of a flow.",
        )


def check_expressions(*programs: str | None) -> None:
    """Raise FlowFileError for jq that can't be read."""
    for program in programs:
        if program is None:
            continue
        try:
            compile_jq(program)
        except ExpressionError as error:
            raise FlowFileError(
                f"the jq program can't be read: {error.message}",
                code="usage",
                hint=f"Look at character {error.position + 1} of {program!r}.",
            ) from None


def _check_allowed(
    wanted: Wanted,
    plan: FlowPlan,
    selection: Selection,
    ids: Sequence[str],
    conditions: Conditions,
) -> None:
    """Refuse at once what was named and can't be replayed; what a filter finds is told at the end."""
    named = {conditions.pipeline} if conditions.pipeline else set()
    if ids:
        named |= {
            letter.pipeline for letters, _ in pages(wanted.store, selection) for letter in letters
        }
    known = {pipeline.name: pipeline for pipeline in plan.pipelines}
    for name in sorted(named):
        if name not in known:
            raise FlowFileError(
                f"the flow {plan.name} no longer has the pipeline {name}.",
                code="replay_pipeline_gone",
                hint="Replay with a flow file that has it.",
            )
        if not known[name].dead_letter.replayable:
            raise FlowFileError(
                f"pipeline {name} does not let its dead letters be replayed.",
                code="replay_not_allowed",
                hint="It says dead_letter.replayable: false.",
            )


def _confirmed(wanted: Wanted, selection: Selection) -> bool:
    if wanted.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    found = count(wanted.store, selection)
    if not found:
        return True
    question = f"Replay {counted(found, 'dead letter')} of {wanted.flow}?"
    return typer.confirm(question, err=True)


@contextmanager
def _bar(
    what: str, total: int | None
) -> Iterator[tuple[Callable[[int], None], Callable[[bytes], None]]]:
    """Show progress on a terminal; give what moves it on and what prints a worker's log line."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=total)

    def log_line(line: bytes) -> None:
        if console.is_terminal:
            console.print(Text.from_ansi(line.decode(errors="replace")), soft_wrap=True)
        else:
            sys.stderr.buffer.write(line + b"\n")
            sys.stderr.buffer.flush()

    with bar:
        yield lambda done: bar.update(task, completed=done), log_line
