"""`penstock backfill`: past events through a pipeline again, as a dry run, a shadow or live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from connectors.errors import FlowFileError
from penstock.cli.grouping import grouped
from penstock.cli.help import examples
from penstock.cli.options import FlowName, Flows, Limit, OptionalFlows, Output, State, Type, Where

if TYPE_CHECKING:
    from backfill.request import BackfillRequest

backfill = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Respect = Annotated[
    bool,
    typer.Option(
        "--respect-idempotency",
        help="Live: leave out what the pipeline's idempotency keys say was done.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="PATH",
        help="Shadow: what differs there counts for nothing: .processed_at, or STEP.processed_at.",
        show_default=False,
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance", metavar="X", min=0.0, help="Shadow: numbers this close are the same."
    ),
]
Job = Annotated[int, typer.Argument(metavar="JOB", help="Its number.", min=1, show_default=False)]
FailOn = Annotated[
    Literal["different"] | None,
    typer.Option("--fail-on", help="Exit code 1 when anything is not as recorded."),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of what is to run, and over what; see `penstock.cli.grouping`."""

    pipeline: Annotated[
        str, typer.Option("--pipeline", metavar="NAME", help="The pipeline that they go through.")
    ]
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="From this time on: 2026-02-01T00:00:00+01:00 (UTC without a zone) or 7d (ago).",
        ),
    ]
    to: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Until before this time; 0 is now.")
    ] = "0"
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="NAME", help="Whose past events; default: its own source's."
        ),
    ] = None
    type_: Type = None
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="JSON",
            help='Only events that have all of this: {"data.total": {"$gte": 100}}.',
        ),
    ] = None
    where: Where = None
    mode: Annotated[
        Literal["dry_run", "shadow", "live"],
        typer.Option(
            "--mode",
            help="dry_run: no effects; shadow: nor then, and compared with what is recorded; live: with effects.",
        ),
    ] = "dry_run"
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="Run the pipeline as this flow file has it, over the past of FLOW's source.",
            show_default=False,
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", metavar="N", min=1, help="At most so many calls of a step at a time."
        ),
    ] = None
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="At most so many events: 100/s.")
    ] = None
    offline: Annotated[
        bool,
        typer.Option("--offline", help="What steps ask outside is answered from history."),
    ] = False
    state: State = None


@backfill.callback()
def _group() -> None:
    """Run past events through a pipeline again: to see what would come of them, or to mend it."""


@backfill.command(
    epilog=examples(
        "penstock backfill plan shop.yaml --pipeline enrich --from 7d --to 0",
        "penstock backfill plan shop.yaml --pipeline enrich --from 2026-02-01 --to 2026-02-15 -o json",
    )
)
@grouped
def plan(flows: Flows, *, asked: Asked, output: Output = "text") -> None:
    """Tell what would run before anything does: how many events, how long, what is missing."""
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    request = _request(asked)
    running.show_plan(flows, asked.with_ or [], asked.state, request, json=output == "json")


@backfill.command(
    epilog=examples(
        "penstock backfill start shop.yaml --pipeline enrich --from 7d --mode shadow --with new.yaml",
        "penstock backfill start shop.yaml --pipeline enrich --from 2026-02-01 --to 2026-02-15 --mode live",
        "penstock backfill start shop.yaml --pipeline enrich --from 1d --where '.data.total > 100' --detach",
    )
)
@grouped
def start(
    flows: Flows,
    *,
    asked: Asked,
    respect_idempotency: Respect = False,
    ignore: Ignore = None,
    tolerance: Tolerance = 0.0,
    fail_on: FailOn = None,
    html: Html = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it running, and don't wait for its end.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before a live run.")] = False,
    output: Output = "text",
) -> int:
    """Start a backfill and see it through. Ctrl-C pauses it: `penstock backfill resume` goes on.

    Exit code 1 when executions failed, or with --fail-on different when any is not as recorded.
    """
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    request = _request(
        asked,
        respect_idempotency=respect_idempotency,
        ignore=ignore or (),
        tolerance=tolerance,
    )
    ending = running.Ending(json=output == "json", html=html, fail_on_different=fail_on is not None)
    return running.start(
        flows, asked.with_ or [], asked.state, request, ending=ending, detach=detach, yes=yes
    )


@backfill.command(
    "list", epilog=examples("penstock backfill list shop.yaml", "penstock backfill list -o json")
)
def list_backfills(
    flows: OptionalFlows = None,
    *,
    limit: Limit = 50,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List a flow's backfills, newest first."""
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    running.show_list(flows, state, flow, limit, json=output == "json")


@backfill.command(
    epilog=examples(
        "penstock backfill status 7 shop.yaml", "penstock backfill status 7 shop.yaml --follow"
    )
)
def status(
    job: Job,
    flows: OptionalFlows = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its progress until it stops.")
    ] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Tell how far a backfill is."""
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    running.show_status(flows, state, flow, job, follow=follow, json=output == "json")


@backfill.command(epilog=examples("penstock backfill pause 7 shop.yaml"))
def pause(
    job: Job, flows: OptionalFlows = None, *, state: State = None, flow: FlowName = None
) -> None:
    """Pause a backfill: what is in flight is finished, and `resume` goes on behind it."""
    _ask(flows, state, flow, job, "pause")


@backfill.command(epilog=examples("penstock backfill cancel 7 shop.yaml"))
def cancel(
    job: Job, flows: OptionalFlows = None, *, state: State = None, flow: FlowName = None
) -> None:
    """End a backfill for good. What it has done stays done; its report tells what."""
    _ask(flows, state, flow, job, "cancel")


@backfill.command(
    epilog=examples(
        "penstock backfill resume 7 shop.yaml", "penstock backfill resume 7 shop.yaml --detach"
    )
)
def resume(
    job: Job,
    flows: Annotated[
        list[Path],
        typer.Argument(
            metavar="FLOW", help="The flow file that it was started with.", show_default=False
        ),
    ],
    *,
    fail_on: FailOn = None,
    html: Html = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it running, and don't wait for its end.")
    ] = False,
    state: State = None,
    output: Output = "text",
) -> int:
    """Go on with a backfill that was paused, failed or was killed, where it stood."""
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    ending = running.Ending(json=output == "json", html=html, fail_on_different=fail_on is not None)
    return running.resume(flows, state, job, ending=ending, detach=detach)


@backfill.command(
    epilog=examples(
        "penstock backfill report 7 shop.yaml",
        "penstock backfill report 7 shop.yaml --html report.html",
        "penstock backfill report 7 shop.yaml -o json --fail-on different",
    )
)
def report(
    job: Job,
    flows: OptionalFlows = None,
    *,
    fail_on: FailOn = None,
    html: Html = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Tell what a backfill has found: as text, as JSON, or as a page."""
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    ending = running.Ending(json=output == "json", html=html, fail_on_different=fail_on is not None)
    return running.show_report(flows, state, flow, job, ending)


def _ask(
    flows: list[Path] | None,
    state: str | None,
    flow: str | None,
    job: int,
    wanted: Literal["pause", "cancel"],
) -> None:
    from penstock.cli import backfill_running as running  # noqa: PLC0415 - loads the engine

    running.ask(flows, state, flow, job, wanted)


def _filter(type_: str | None, text: str | None, where: str | None) -> dict[str, Any] | str | None:
    """Return what the request has as its filter. Raises FlowFileError."""
    import orjson  # noqa: PLC0415 - only where there is one

    if where is not None:
        if type_ is not None or text is not None:
            raise FlowFileError(
                "--where is the whole filter: it can't be beside --type or --filter.",
                code="usage",
                hint='Say the type in jq: .type == "order.created" and …',
            )
        return where
    found: dict[str, Any] = {}
    if text is not None:
        try:
            read = orjson.loads(text)
        except orjson.JSONDecodeError:
            read = None
        if not isinstance(read, dict):
            raise FlowFileError(
                "--filter takes a JSON object.",
                code="backfill_filter",
                hint='Such as {"data.total": {"$gte": 100}}; jq goes with --where.',
            )
        found = read
    if type_ is not None:
        found["event_type"] = type_
    return found or None


def _request(asked: Asked, **more: Any) -> BackfillRequest:
    """Return what is asked for. Raises FlowFileError with what is wrong, by its option."""
    from pydantic import ValidationError  # noqa: PLC0415 - takes time to import

    from backfill.request import BackfillRequest  # noqa: PLC0415

    given = {
        "pipeline": asked.pipeline,
        "source": asked.source,
        "from": asked.from_,
        "to": "0s" if asked.to == "0" else asked.to,
        "filter": _filter(asked.type_, asked.filter_, asked.where),
        "mode": asked.mode,
        "concurrency": asked.concurrency,
        "rate_limit": asked.rate,
        "offline": asked.offline,
        **more,
    }
    try:
        return BackfillRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = (
            {"rate_limit": "rate"}.get(str(first["loc"][0]), str(first["loc"][0]))
            if first["loc"]
            else ""
        )
        said = first["msg"].removeprefix("Value error, ")
        raise FlowFileError(
            f"expected {'--' + option + ': ' if option else ''}{said}.",
            code="usage",
            hint="`penstock backfill start --help` shows how.",
        ) from None
