"""`penstock saga`: sagas that failed, what was undone of them, and what a person has to see to."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from penstock.cli.help import examples
from penstock.cli.options import FlowName, Id, Limit, OptionalFlows, Output, Pipeline, State

saga = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Status = Literal[
    "running", "compensating", "compensated", "compensation_failed", "retrying", "resolved"
]


@saga.callback()
def _group() -> None:
    """Look at sagas that failed; try compensations again, or settle them by hand."""


@saga.command(
    "list",
    epilog=examples(
        "penstock saga list shop.yaml",
        "penstock saga list shop.yaml --status compensation_failed   # those that need somebody",
        "penstock saga list shop.yaml -o json | jq -r '.[] | [.id, .status, .step] | @tsv'",
    ),
)
def list_sagas(
    flows: OptionalFlows = None,
    *,
    pipeline: Pipeline = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only those of this status.")
    ] = None,
    limit: Limit = 50,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List sagas, those that changed last first. One that completes leaves no trace here."""
    from penstock.cli.output import print_json  # noqa: PLC0415 - SQLAlchemy takes time to import
    from penstock.cli.saga_report import print_list, summary  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        found = stored.store.sagas.page(
            stored.flow, pipeline=pipeline, statuses=[status] if status else (), limit=limit
        )
        if pipeline is not None and not found:
            stored.check_pipeline(pipeline)
    if output == "json":
        print_json([summary(flow_name, each) for flow_name, each in found])
    else:
        print_list(found, time.time())


@saga.command(
    epilog=examples(
        "penstock saga show 0199f2a1 shop.yaml        # the start of an id is enough",
        "penstock saga show 0199f2a1 shop.yaml -o json | jq '.steps[] | select(.compensation)'",
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
    """Show a saga: its steps, what was undone of them, why it failed, what is left to do."""
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.saga_finding import find_saga  # noqa: PLC0415
    from penstock.cli.saga_report import detail, print_saga  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        name, found = find_saga(stored, id)
    if output == "json":
        print_json(detail(name, found))
    else:
        print_saga(name, found)


@saga.command(
    epilog=examples(
        "penstock saga retry 0199f2a1 shop.yaml",
        "penstock saga retry 0199f2a1 shop.yaml --done charge   # it was refunded by hand",
        "penstock saga retry 0199f2a1 shop.yaml --no-wait",
    )
)
def retry(
    id: Id,  # noqa: A002
    flows: OptionalFlows = None,
    *,
    done: Annotated[
        list[str] | None,
        typer.Option(
            "--done",
            metavar="STEP",
            help="This step is undone already, by hand: its compensation is not run.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or only ask for it.")
    ] = True,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> int:
    """Run the compensations that are left of a saga whose compensation failed.

    A running flow does it; where none runs, it is done here, if the flow file is named. Exit code 1:
    it failed again.
    """
    from penstock.cli.saga_retrying import Wanted, retry_saga  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        wanted = Wanted(
            stored, flows or [], state, done=done or [], wait=wait, json=output == "json"
        )
        return retry_saga(wanted, id)


@saga.command(
    epilog=examples(
        "penstock saga resolve 0199f2a1 shop.yaml --note 'refunded by hand, ticket 4711'",
    )
)
def resolve(
    id: Id,  # noqa: A002
    flows: OptionalFlows = None,
    *,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What was done about it; kept with it.")
    ],
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Mark a saga as settled by hand: nothing more of it is compensated."""
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.saga_finding import resolve_saga  # noqa: PLC0415
    from penstock.cli.saga_report import detail  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        name, found = resolve_saga(stored, id, note)
    if output == "json":
        print_json(detail(name, found))
    else:
        print(f"Saga {found.id} is resolved: {note}")
