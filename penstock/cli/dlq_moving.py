"""`penstock dlq discard`, `dlq export`, `dlq import`: dead letters out of the state store and back."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli.dlq_selecting import (
    Conditions,
    Targets,
    selection_of,
    split_targets,
)
from penstock.cli.grouping import any_given, grouped
from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

if TYPE_CHECKING:
    from penstock.cli.stored import Stored

DISCARD_EXAMPLES = examples(
    "penstock dlq discard 0199f2a1 shop.yaml",
    "penstock dlq discard --error schema_invalid --until 7d shop.yaml --archive old.jsonl",
    "penstock dlq discard --all shop.yaml --purge --yes    # really gone",
)
EXPORT_EXAMPLES = examples(
    "penstock dlq export shop.yaml --to letters.jsonl",
    "penstock dlq export --error jq_failed shop.yaml | jq '.event | fromjson'",
)
IMPORT_EXAMPLES = examples(
    "penstock dlq import letters.jsonl shop.yaml",
    "penstock dlq import letters.jsonl --state postgresql://penstock@db/penstock",
)


@grouped
def discard(
    targets: Targets = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="All that wait; together with a filter, all it finds.")
    ] = False,
    conditions: Conditions,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive",
            metavar="FILE",
            help="Where they are written before they are deleted; without it, a file in the folder"
            " dead-letter-archive beside the state.",
        ),
    ] = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete them without an archive.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask no question.")] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Archive dead letters to a file, then delete them. What a replay has just now stays.

    `penstock dlq import` brings them back.
    """
    from dlq.archive import discard as discard_letters  # noqa: PLC0415 - loads SQLAlchemy
    from dlq.selection import count  # noqa: PLC0415
    from penstock.cli.output import count as counted  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    if purge and archive is not None:
        raise FlowFileError(
            "--purge deletes without an archive.", code="usage", hint="Leave one of them out."
        )
    if not ids and not any_given(conditions) and not every:
        raise FlowFileError(
            "which dead letters? Give ids, a filter, or --all.",
            code="usage",
            hint="penstock dlq discard ID FLOW, … --error CODE FLOW, or … --all FLOW.",
        )
    with open_stored(files or None, state, flow) as stored:
        selection = selection_of(stored, stored.flow, ids, conditions)
        found = count(stored.store, selection)
        place = None if purge else archive or _beside(stored)
        if found and not yes and sys.stdin.isatty() and sys.stderr.isatty():
            what = "Delete for good" if purge else "Discard"
            if not typer.confirm(f"{what} {counted(found, 'dead letter')}?", err=True):
                return
        try:
            if found and place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
            with _bar("discard", found) as seen:
                gone = discard_letters(stored.store, selection, place, seen)
        except OSError as failed:
            raise _not_written(place, failed) from None
    archived = place if gone else None
    if output == "json":
        print_json({"discarded": gone, "archive": None if archived is None else str(archived)})
        return
    where_to = "" if archived is None else f" They are in {archived}."
    print(f"Discarded {counted(gone, 'dead letter')}.{where_to}")


@grouped
def export(
    targets: Targets = None,
    *,
    conditions: Conditions,
    to: Annotated[
        str, typer.Option("--to", metavar="FILE", help="The file; - is the standard output.")
    ] = "-",
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Write dead letters as JSON lines, newest failure first; nothing is deleted.

    JSON stands as text in a line, so that its digits stay as they are. With --to FILE, the file is
    there when all of it is.
    """
    from dlq.archive import export as export_letters  # noqa: PLC0415 - loads SQLAlchemy
    from dlq.selection import count  # noqa: PLC0415
    from penstock.cli.output import count as counted  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    with open_stored(files or None, state, flow) as stored:
        selection = selection_of(stored, stored.flow, ids, conditions)
        if to == "-":
            export_letters(stored.store, selection, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        path = Path(to)
        part = path.with_name(path.name + ".part")
        try:
            with (
                _bar("export", count(stored.store, selection, status=None)) as seen,
                part.open("wb") as file,
            ):
                written = export_letters(stored.store, selection, file, seen)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as failed:
            raise _not_written(path, failed) from None
    if output == "json":
        print_json({"exported": written, "file": str(path)})
    else:
        print(f"Exported {counted(written, 'dead letter')} to {path}.")


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What export or discard wrote.", show_default=False),
    ],
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Add the dead letters of a file; those that are there already stay as they are.

    With a flow's file or --flow, only that flow's. The state store is made where there is none.
    """
    from dlq.archive import import_lines  # noqa: PLC0415 - loads SQLAlchemy
    from penstock.cli.output import count as counted  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    try:
        size = file.stat().st_size
        lines = file.open("rb")
    except OSError as failed:
        raise FlowFileError(
            f"{file} can't be read: {failed.strerror}.",
            code="import_unreadable",
            hint="Name the file first: penstock dlq import FILE FLOW.yaml",
        ) from None
    with (
        lines,
        open_stored(flows, state, flow, create=True) as stored,
        _bar("import", size) as seen,
    ):
        found = import_lines(stored.store, lines, file=str(file), flow=stored.flow, seen=seen)
    if output == "json":
        print_json({"imported": found.added, "known": found.known, "left_out": found.left_out})
        return
    print(f"Imported {counted(found.added, 'dead letter')}.")
    if found.known:
        print(f"{found.known:,} were there already.")
    if found.left_out:
        print(f"{found.left_out:,} are of other flows and were left out.")


def _beside(stored: Stored) -> Path:
    """Return a new file for what is discarded now: beside a state in a file, else in this folder."""
    from sqlalchemy import make_url  # noqa: PLC0415

    url = make_url(stored.place)
    is_file = url.get_backend_name() == "sqlite" and url.database
    folder = Path(str(url.database)).absolute().parent if is_file else Path.cwd()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return folder / "dead-letter-archive" / f"{stamp}-{os.getpid()}.jsonl"


def _not_written(path: Path | None, error: OSError) -> FlowFileError:
    return FlowFileError(
        f"{path} can't be written: {error.strerror}.",
        code="archive_unwritable",
        hint="Nothing was deleted that is not in it. Name another file.",
    )


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal; give what tells how far it is."""
    from rich.console import Console  # noqa: PLC0415 - rich takes 60 ms to import
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
