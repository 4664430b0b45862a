"""`penstock connectors snapshot` and `snapshots`: have a source read its rows again as it runs."""

from __future__ import annotations

import getpass
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connectors.errors import FlowFileError
from penstock.cli.help import examples
from penstock.cli.options import FlowName, Limit, OptionalFlows, Output, State
from penstock.cli.output import print_json, print_table

if TYPE_CHECKING:
    from flows.plan import FlowPlan
    from flows.state.snapshot_store import Snapshot, Snapshots, Status

SNAPSHOT_EXAMPLES = examples(
    "penstock connectors snapshot shop.yaml order-changes                        # all its tables",
    "penstock connectors snapshot shop.yaml order-changes --table public.orders",
    "penstock connectors snapshots shop.yaml                                     # how far they are",
)
SNAPSHOTS_EXAMPLES = examples(
    "penstock connectors snapshots shop.yaml",
    "penstock connectors snapshots shop.yaml --pause 3",
    "penstock connectors snapshots shop.yaml --resume 3",
    "penstock connectors snapshots shop.yaml --cancel 3",
)


def snapshot(
    flow_file: Annotated[Path, typer.Argument(metavar="FLOW", help="The flow file.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source module's name.")],
    *,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only this table; may be given again."),
    ] = None,
    state: State = None,
    output: Output = "text",
) -> None:
    """Have a source read the rows there are once more, while it goes on with their changes.

    Each row comes as it is by then, in order with its changes, as an event whose operation is READ.
    A flow that runs begins within a second; one that is stopped begins when it runs. It goes on after
    a stop or a crash, not from its start.
    """
    from penstock.cli.stored import open_stored  # noqa: PLC0415 - loads the engine

    with open_stored([flow_file], state, None, create=True) as stored:
        tables = _tables(stored.plan, source, table or [])
        flow = stored.one_flow()
        number = stored.store.snapshots.ask(flow, source, tables, getpass.getuser())
        served = source in stored.store.replays.served_sources(flow)
    if output == "json":
        print_json({"id": number, "running": served})
        return
    where = "the running flow begins within a second" if served else "it begins when the flow runs"
    print(f"Snapshot {number}: {where}. See: penstock connectors snapshots {flow_file}")


def snapshots(
    flows: OptionalFlows = None,
    *,
    pause: Annotated[
        int | None, typer.Option("--pause", metavar="NUMBER", help="Have this one wait.")
    ] = None,
    resume: Annotated[
        int | None, typer.Option("--resume", metavar="NUMBER", help="Have this one go on.")
    ] = None,
    cancel: Annotated[
        int | None,
        typer.Option(
            "--cancel", metavar="NUMBER", help="Give this one up; what was read stays read."
        ),
    ] = None,
    limit: Limit = 50,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """List the snapshots that were asked for, the newest first; have one wait, go on or end."""
    from penstock.cli.stored import open_stored  # noqa: PLC0415 - loads the engine

    chosen = [each for each in (pause, resume, cancel) if each is not None]
    if len(chosen) > 1:
        raise FlowFileError(
            "one of --pause, --resume and --cancel at a time.",
            code="usage",
            hint="Call it once for each.",
        )
    with open_stored(flows, state, flow) as stored:
        store = stored.store.snapshots
        if pause is not None:
            _change(store, stored.flow, pause, ("waiting", "running"), "paused")
        elif resume is not None:
            _change(store, stored.flow, resume, ("paused",), "waiting")
        elif cancel is not None:
            _change(store, stored.flow, cancel, ("waiting", "running", "paused"), "cancelled")
        found = store.newest(stored.flow, None, limit)
    if output == "json":
        print_json([asdict(each) for each in found])
        return
    if not found:
        print("No snapshot was asked for.")
        return
    print_table(
        ["NUMBER", "SOURCE", "TABLES", "STATUS", "ROWS", "ASKED", "NOW"],
        [_row(each) for each in found],
    )


def _row(each: Snapshot) -> tuple[str, ...]:
    now = f"{each.error_code}: {each.error_message}" if each.error_code else each.table
    asked = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.created_at))
    tables = ", ".join(each.tables) or "all"
    return str(each.id), each.source, tables, each.status, str(each.rows), asked, now


def _change(
    store: Snapshots, flow: str | None, number: int, before: tuple[Status, ...], to: Status
) -> None:
    found = store.get(number)
    if found is None or (flow is not None and found.flow != flow):
        raise FlowFileError(
            f"there is no snapshot {number}.",
            code="unknown_snapshot",
            hint="`penstock connectors snapshots` lists them.",
        )
    if not store.change(number, before, to):
        raise FlowFileError(
            f"snapshot {number} is {found.status}.",
            code="snapshot_status",
            hint=f"Only one that is {' or '.join(before)} can become {to}.",
        )


def _tables(plan: FlowPlan | None, source: str, wanted: list[str]) -> list[str]:
    """Check what is asked for against the flow. Raises FlowFileError."""
    from flows.spec.problems import did_you_mean  # noqa: PLC0415 - loads the engine

    sources = {} if plan is None else {each.name: each for each in plan.source_modules}
    found = sources.get(source)
    if found is None:
        raise FlowFileError(
            f"the flow reads no source {source}.",
            code="unknown_module",
            hint=did_you_mean(source, sources, none="It has none."),
        )
    listed: list[Any] | None = getattr(found.settings, "tables", None)
    if listed is None or getattr(found.settings, "snapshot", "only") == "only":
        raise FlowFileError(
            f"{source} can't read its rows again while it runs.",
            code="snapshot_unsupported",
            hint="Sources of type source.postgres_cdc can, but for `snapshot: only`.",
        )
    known = [each.name for each in listed]
    found_tables = []
    for name in wanted:
        full = name if "." in name else f"public.{name}"
        if full not in known:
            raise FlowFileError(
                f"{source} doesn't read the table {name}.",
                code="snapshot_unknown_table",
                hint=did_you_mean(full, known, none=""),
            )
        found_tables.append(full)
    return found_tables
