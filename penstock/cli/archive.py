"""`penstock archive`: what the event archives of a flow hold, and whether it is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

archive = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Source = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="Only this module's archive.")
]


@archive.callback()
def _group() -> None:
    """Look at the events that sources keep (`archive:`): what there is, what is missing, is it whole."""


@archive.command(
    "list",
    epilog=examples(
        "penstock archive list shop.yaml",
        "penstock archive list shop.yaml -o json | jq '.[] | select(.gaps != [])'",
    ),
)
def list_archives(
    flows: OptionalFlows = None,
    *,
    source: Source = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List archives: the times of their events, how many, how large, and what is missing.

    Reads the state store's indexes and no event. `penstock archive verify` reads them all.
    """
    from penstock.cli.archive_report import print_list, summaries  # noqa: PLC0415 - SQLAlchemy
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        found = summaries(stored, source)
        if output == "json":
            print_json(found)
        else:
            print_list(found, stored.place)


@archive.command(
    epilog=examples(
        "penstock archive verify shop.yaml",
        "penstock archive verify shop.yaml --source order-changes -o json",
        "penstock archive verify shop.yaml --give-up    # go on without what is damaged",
    )
)
def verify(
    flows: OptionalFlows = None,
    *,
    source: Source = None,
    give_up: Annotated[
        bool,
        typer.Option(
            "--give-up",
            help="Let go of chunks that are damaged: backfills then pass them over, and their"
            " plans show a gap. They can't be had back.",
        ),
    ] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Read every archived chunk and compare its checksum. Exit code 1 names what is damaged.

    May run beside the flow. It takes as long as reading everything does.
    """
    from penstock.cli.archive_report import print_verified, verify_archives  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        found = verify_archives(stored, source, give_up=give_up)
    if output == "json":
        print_json(found)
    else:
        print_verified(found)
    return 1 if any(each["damaged"] for each in found) else 0
