"""`penstock dlq replay` and `penstock dlq replays`: run dead letters again."""

from __future__ import annotations

from typing import Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli.dlq_selecting import (
    Conditions,
    Targets,
    split_targets,
)
from penstock.cli.grouping import any_given, grouped
from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

REPLAY_EXAMPLES = examples(
    "penstock dlq replay 0199f2a1 shop.yaml",
    "penstock dlq replay --all shop.yaml --dry-run      # what would come of it, touching nothing",
    "penstock dlq replay --error http_status --since 2h shop.yaml --rate 50/s",
    "penstock dlq replay 0199f2a1 shop.yaml --edit '.total |= tonumber'",
    "penstock dlq replay --resume 7 shop.yaml           # go on with one that was interrupted",
)

REPLAYS_EXAMPLES = examples(
    "penstock dlq replays shop.yaml",
    "penstock dlq replays shop.yaml --id 7              # what became of each of its dead letters",
)


@grouped
def replay(
    targets: Targets = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="All that wait; together with a filter, all it finds.")
    ] = False,
    conditions: Conditions,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run the steps with effects off and say which would pass now; nothing is stored.",
        ),
    ] = False,
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="JQ", help="Replay each with what this makes of its data; the original is kept."
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="At most so many: 50/s or 600/m.")
    ] = None,
    from_step: Annotated[
        bool,
        typer.Option(
            "--from-step",
            help="Go on at the step that failed, with the outputs so far, instead of the first.",
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Ask a running flow for it, and don't wait for its end."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask no question.")] = False,
    resume: Annotated[
        int | None,
        typer.Option("--resume", metavar="NUMBER", help="Go on with this replay."),
    ] = None,
    cancel: Annotated[
        int | None,
        typer.Option(
            "--cancel", metavar="NUMBER", help="Give back what this replay has not begun."
        ),
    ] = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Run dead letters again: one, those that a filter finds, or all.

    A flow that runs does it, in order with the live events of each key; otherwise it is done here,
    with the flow's own workers and nothing read from its source. What succeeds is no dead letter
    any more; what fails again is the same entry. Exit code 1 when any did.
    """
    from penstock.cli.replaying import (  # noqa: PLC0415 - loads the engine
        Wanted,
        cancel_replay,
        dry_run_replay,
        go_on,
        start_replay,
    )
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    ids, files = split_targets(targets)
    number = resume if resume is not None else cancel
    _check_usage(ids, conditions, every=every, number=number, both=None not in (resume, cancel))
    with open_stored(files or None, state, flow) as stored:
        wanted = Wanted(
            stored=stored,
            flow=stored.one_flow(),
            files=files,
            state=state,
            json=output == "json",
            edit=edit,
            rate=_rate(rate),
            from_step=from_step,
            wait=not no_wait,
            yes=yes,
        )
        if cancel is not None:
            return cancel_replay(wanted, cancel)
        if resume is not None:
            return go_on(wanted, resume)
        if dry_run:
            return dry_run_replay(wanted, ids, conditions)
        return start_replay(wanted, ids, conditions)


def replays(
    flows: OptionalFlows = None,
    *,
    number: Annotated[
        int | None,
        typer.Option("--id", metavar="NUMBER", help="Show what became of this one's dead letters."),
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows at most.")] = 20,
    after: Annotated[
        str, typer.Option("--after", metavar="ID", help="With --id: go on behind this dead letter.")
    ] = "",
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List replays, newest first: who asked for what and when, and how far each is."""
    from penstock.cli.replay_report import (  # noqa: PLC0415 - loads SQLAlchemy
        show_entries,
        show_replays,
    )
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        if number is None:
            found = stored.store.replays.newest(stored.flow, limit)
            show_replays(found, json=output == "json")
        else:
            show_entries(stored.store, number, limit, after, json=output == "json")


def _check_usage(
    ids: list[str], conditions: Conditions, *, every: bool, number: int | None, both: bool
) -> None:
    chosen = bool(ids) or any_given(conditions) or every
    if both or (number is not None and chosen):
        raise FlowFileError(
            "--resume and --cancel each take the number of a replay and nothing that selects.",
            code="usage",
            hint="penstock dlq replay --resume 7 FLOW",
        )
    if number is None and not chosen:
        raise FlowFileError(
            "which dead letters? Give ids, a filter, or --all.",
            code="usage",
            hint="penstock dlq replay ID FLOW, … --error CODE FLOW, or … --all FLOW.",
        )
    if ids and every:
        raise FlowFileError(
            "--all and ids can't be combined.", code="usage", hint="Leave one of them out."
        )


def _rate(text: str | None) -> float | None:
    from connectors.settings import parse_rate  # noqa: PLC0415

    if text is None:
        return None
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise FlowFileError(
            f"--rate {text!r} is none: expected {error}.", code="usage", hint="--rate 50/s"
        ) from None
    if rate <= 0:
        raise FlowFileError("a rate of nothing would never end.", code="usage", hint="--rate 50/s")
    return rate
