"""`penstock dlq`: the events that failed, why, and running them again."""

from __future__ import annotations

from typing import Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli import dlq_moving, dlq_replay, dlq_stats
from penstock.cli.dlq_selecting import (
    Conditions,
    selection_of,
)
from penstock.cli.grouping import grouped
from penstock.cli.help import examples
from penstock.cli.options import Cursor, FlowName, Limit, OptionalFlows, Output, State

dlq = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@dlq.callback()
def _group() -> None:
    """Look at dead letters, the events that failed and why, and replay them."""


@dlq.command(
    "list",
    epilog=examples(
        "penstock dlq list shop.yaml",
        "penstock dlq list shop.yaml --pipeline enrich-orders --limit 200",
        "penstock dlq list shop.yaml --error http_status --step charge --since 2h",
        "penstock dlq list shop.yaml --type 'public.orders.*' --where '.data.total > 100'",
        "penstock dlq list --state postgresql://penstock@db/penstock --flow shop",
        "penstock dlq list shop.yaml -o json | jq -r '.dead_letters[].error.code' | sort | uniq -c",
    ),
)
@grouped
def list_dead_letters(
    flows: OptionalFlows = None,
    *,
    conditions: Conditions,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List dead letters, newest failure first. Outside a terminal columns are parted by tabs."""
    from rich.console import Console  # noqa: PLC0415 - rich and SQLAlchemy take time to import

    from dlq.query import page_document, select_letters  # noqa: PLC0415
    from dlq.render import print_page  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        selection = selection_of(stored, stored.flow, (), conditions)
        page = select_letters(stored.store, selection, limit=limit, cursor=cursor)
    if output == "json":
        print_json(page_document(page))
        return
    print_page(page, Console(highlight=False))


@dlq.command(
    epilog=examples(
        "penstock dlq show 0199f2a1 shop.yaml        # the start of an id is enough",
        "penstock dlq show 0199f2a1 shop.yaml -o json | jq .event",
    )
)
def show(
    id: Annotated[  # noqa: A002 - the argument's name in help and errors
        str, typer.Argument(metavar="ID", help="Its id, or the start of it.", show_default=False)
    ],
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Show a dead letter: the error, the event as it came, the outputs of the steps so far."""
    from rich.console import Console  # noqa: PLC0415

    from dlq.query import find_letter  # noqa: PLC0415
    from dlq.render import print_letter  # noqa: PLC0415
    from flows.state.letter_documents import detail  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    if id.endswith((".yaml", ".yml")):
        raise FlowFileError(
            f"{id} is a flow file, not the id of a dead letter.",
            code="dead_letter_unknown",
            hint=f"The id comes first: penstock dlq show ID {id}",
        )
    with open_stored(flows, state, flow) as stored:
        letter = find_letter(stored.store, id, flow=stored.flow)
        copy = stored.store.copies.of_letter(letter.flow, letter.id)
    if output == "json":
        print_json(detail(letter, copy))
        return
    print_letter(letter, Console(highlight=False), copy)


dlq.command("stats", epilog=dlq_stats.STATS_EXAMPLES)(dlq_stats.stats)
dlq.command("discard", epilog=dlq_moving.DISCARD_EXAMPLES)(dlq_moving.discard)
dlq.command("export", epilog=dlq_moving.EXPORT_EXAMPLES)(dlq_moving.export)
dlq.command("import", epilog=dlq_moving.IMPORT_EXAMPLES)(dlq_moving.import_)
dlq.command("replay", epilog=dlq_replay.REPLAY_EXAMPLES)(dlq_replay.replay)
dlq.command("replays", epilog=dlq_replay.REPLAYS_EXAMPLES)(dlq_replay.replays)
