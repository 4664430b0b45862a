"""`penstock idempotency`: keys of idempotent pipelines and steps, who has them, and freed by hand."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from penstock.cli.help import examples
from penstock.cli.options import FlowName, Limit, OptionalFlows, Output, State

idempotency = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key's text, or its hash or the start of it.", show_default=False
    ),
]
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="NAME", help="This tenant's, where KEY is the key's text."),
]
Status = Literal["in_flight", "waiting", "done"]


@idempotency.callback()
def _group() -> None:
    """Look at idempotency keys: who has one, until when, and what came of it; free one by hand."""


@idempotency.command(
    "list",
    epilog=examples(
        "penstock idempotency list shop.yaml",
        "penstock idempotency list shop.yaml --status in_flight",
        "penstock idempotency list shop.yaml -o json | jq -r '.[] | [.key, .holder] | @tsv'",
    ),
)
def list_keys(
    flows: OptionalFlows = None,
    *,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", metavar="NAME", help="Only this one's and its steps'."),
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only those of this status.")
    ] = None,
    limit: Limit = 50,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List keys: those that are held first, and first those that end first.

    Keys in Redis are listed where the flow file is named, by their hashes.
    """
    from penstock.cli.idempotency_finding import open_shelves, page_of  # noqa: PLC0415 - SQLAlchemy
    from penstock.cli.idempotency_report import print_list, summary  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored, open_shelves(stored) as shelves:
        found = page_of(shelves, pipeline, [status] if status else [], limit)
        if pipeline is not None and not found:
            stored.check_pipeline(pipeline)
    if output == "json":
        print_json([summary(key) for key in found])
    else:
        print_list(found)


@idempotency.command(
    epilog=examples(
        "penstock idempotency show order_17 shop.yaml",
        "penstock idempotency show order_17 shop.yaml --tenant acme",
        "penstock idempotency show 8d1f03 shop.yaml    # the start of its hash",
    )
)
def show(
    key: Key,
    flows: OptionalFlows = None,
    *,
    tenant: Tenant = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Show a key: of what, which execution has it or has done it, until when, and its result."""
    from penstock.cli.idempotency_finding import find_key, open_shelves  # noqa: PLC0415
    from penstock.cli.idempotency_report import detail, print_key  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored, open_shelves(stored) as shelves:
        _, found = find_key(shelves, key, tenant)
    if output == "json":
        print_json(detail(found))
    else:
        print_key(found)


@idempotency.command(
    epilog=examples(
        "penstock idempotency release order_17 shop.yaml",
        "penstock idempotency release 8d1f03 shop.yaml --yes    # ask no question",
    )
)
def release(
    key: Key,
    flows: OptionalFlows = None,
    *,
    tenant: Tenant = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask no question.")] = False,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Free a key by hand: the next event with it acts, whatever was done before.

    Says what that means for this one, and asks. Without a terminal it needs --yes.
    """
    from penstock.cli.idempotency_finding import (  # noqa: PLC0415
        confirm_release,
        find_key,
        free_key,
        open_shelves,
    )
    from penstock.cli.idempotency_report import detail, meaning, named  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored, open_shelves(stored) as shelves:
        shelf, found = find_key(shelves, key, tenant)
        if not yes and not confirm_release(found):
            return
        free_key(shelf, found)
    if output == "json":
        print_json({"released": detail(found), "warning": meaning(found)})
    else:
        print(f"{named(found)} is free. {meaning(found)}")
