"""`penstock executions`: what ran, what each step did, and how two runs differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli import executions_export, executions_replay, executions_signals
from penstock.cli.dlq_selecting import moment
from penstock.cli.execution_ids import Id, check_id
from penstock.cli.help import examples
from penstock.cli.options import (
    Cursor,
    Error,
    FlowName,
    Limit,
    OptionalFlows,
    Output,
    Pipeline,
    State,
    Tenant,
    Type,
    Where,
)

if TYPE_CHECKING:
    from pathlib import Path

    from flows.history.recorded import Recorded

executions = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@executions.callback()
def _group() -> None:
    """Look at executions, as history has recorded them, and act on those that wait or run.

    An execution is an event's way through a pipeline.
    """


@executions.command(
    "list",
    epilog=examples(
        "penstock executions list shop.yaml",
        "penstock executions list shop.yaml --pipeline enrich-orders --status failed --since 2h",
        "penstock executions list shop.yaml --type 'public.orders.*' --tenant acme",
        "penstock executions list shop.yaml --where '.data.total > 100' --limit 10",
        "penstock executions list shop.yaml --status waiting       # what is parked",
        "penstock executions list shop.yaml --status paused        # of that, what somebody holds",
    ),
)
def list_executions(
    flows: OptionalFlows = None,
    *,
    pipeline: Pipeline = None,
    status: Annotated[
        Literal["completed", "failed", "skipped", "waiting", "paused"] | None,
        typer.Option("--status", help="Only these; without it, all that have ended."),
    ] = None,
    error: Error = None,
    type_: Type = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject", metavar="GLOB", help="Only events about this: `public.orders/7`."
        ),
    ] = None,
    tenant: Tenant = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Ended at or after: 2h (ago) or an RFC 3339 time."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Ended before: 30m (ago) or a time."),
    ] = None,
    where: Where = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List executions, those that ended last first. Outside a terminal columns are parted by tabs."""
    from rich.console import Console  # noqa: PLC0415 - rich and SQLAlchemy take time to import

    from flows.history import listing  # noqa: PLC0415
    from flows.history.documents import page_document  # noqa: PLC0415
    from penstock.cli.executions_report import print_page  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    now = time.time()
    with open_stored(flows, state, flow) as stored:
        if pipeline is not None:
            stored.check_pipeline(pipeline)
        wanted = listing.ExecutionFilter(
            stored.one_flow(),
            pipeline=pipeline,
            status=status,
            error_code=error,
            event_type=type_,
            subject=subject,
            tenant=tenant,
            since=moment(since, "--since", now),
            until=moment(until, "--until", now),
            where=where,
        )
        page = listing.list_executions(stored.store, wanted, limit=limit, cursor=cursor)
        if output == "json":
            print_json(page_document(page))
            return
        print_page(page, Console(highlight=False))


@executions.command(
    epilog=examples(
        "penstock executions show 0199f2a1 shop.yaml      # the start of an id is enough",
        "penstock executions show 0199f2a1 shop.yaml -o json | jq .event",
    )
)
def show(
    id: Id,  # noqa: A002 - the argument's name in help and errors
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Show an execution: its event as it came, what the steps put out, how it ended."""
    from flows.history.documents import detail_document  # noqa: PLC0415 - loads SQLAlchemy
    from penstock.cli.executions_report import print_execution  # noqa: PLC0415

    with _found(id, flows, state, flow) as recorded:
        _tell(recorded, output, detail_document, print_execution)


@executions.command(
    epilog=examples(
        "penstock executions timeline 0199f2a1 shop.yaml",
        "penstock executions timeline 0199f2a1 shop.yaml --events    # as a stream of events",
        "penstock executions timeline 0199f2a1 shop.yaml -o json | jq '.steps[].duration_ms'",
    )
)
def timeline(
    id: Id,  # noqa: A002
    flows: OptionalFlows = None,
    *,
    events: Annotated[
        bool,
        typer.Option("--events", help="As a stream of events: execution.started, step.started, …"),
    ] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Show step by step what an execution did: when, for how long, with what, and what came of it.

    A step takes a whole batch of events at once: its duration is the batch's.
    """
    from flows.history.documents import events_document, timeline_document  # noqa: PLC0415
    from penstock.cli.executions_report import print_events, print_timeline  # noqa: PLC0415

    with _found(id, flows, state, flow) as recorded:
        if events:
            _tell(recorded, output, events_document, print_events)
        else:
            _tell(recorded, output, timeline_document, print_timeline)


@executions.command(
    epilog=examples(
        "penstock executions diff 0199f2a1 0199f3b7 shop.yaml",
        "penstock executions diff 0199f2a1 0199f3b7 shop.yaml -o json | jq .summary",
    )
)
def diff(
    left: Id,
    right: Annotated[
        str, typer.Argument(metavar="ID", help="The other one's.", show_default=False)
    ],
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Compare two executions step by step. Exit code 1 when they differ."""
    from rich.console import Console  # noqa: PLC0415

    from flows.history.diff import diff_document  # noqa: PLC0415 - loads SQLAlchemy
    from flows.history.finding import find_execution  # noqa: PLC0415
    from penstock.cli.executions_report import print_diff  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    for given in (left, right):
        check_id(given, "diff")
    with open_stored(flows, state, flow) as stored:
        name = stored.one_flow()
        one, other = (find_execution(stored.store, name, each) for each in (left, right))
        document = diff_document(one, other)
    if output == "json":
        print_json(document)
    else:
        print_diff(document, Console(highlight=False))
    return 1 if document["summary"]["steps_different"] else 0


executions.command("replay", epilog=executions_replay.EXAMPLES)(executions_replay.replay)
for _name in ("pause", "resume", "retry", "skip", "cancel"):
    executions.command(_name, epilog=getattr(executions_signals, _name.upper()))(
        getattr(executions_signals, _name)
    )
executions.command("export", epilog=executions_export.EXAMPLES)(executions_export.export)


@contextmanager
def _found(
    given: str, flows: list[Path] | None, state: str | None, flow: str | None
) -> Iterator[Recorded]:
    """Give the execution that is meant. Raises FlowFileError."""
    from flows.history.finding import find_execution  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    check_id(given, "show")
    with open_stored(flows, state, flow) as stored:
        yield find_execution(stored.store, stored.one_flow(), given)


def _tell(
    recorded: Recorded,
    output: str,
    document: Callable[[Recorded], dict[str, Any]],
    tell: Callable[[Recorded, Any], None],
) -> None:
    """Print an execution: as JSON, or as text for people."""
    from rich.console import Console  # noqa: PLC0415

    from penstock.cli.output import print_json  # noqa: PLC0415

    if output == "json":
        print_json(document(recorded))
    else:
        tell(recorded, Console(highlight=False))
