"""`penstock state`: how far a flow has come."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

if TYPE_CHECKING:
    from flows.plan import FlowPlan
    from flows.state.records import Parked
    from penstock.cli.stored import Stored

state = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@state.callback()
def _group() -> None:
    """Show how far a flow has come: positions, lag, counts."""


@state.command(
    epilog=examples(
        "penstock state show shop.yaml",
        "penstock state show --state sqlite:///shop.db      # every flow in it",
        "penstock state show shop.yaml -o json | jq '.[0].pipelines'",
    )
)
def show(
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Show the stored position of every source partition, its lag, and totals per pipeline.

    Reads the state store and nothing else, so it works while the flow runs and when it doesn't. With
    the flow's file, each pipeline's `dead_letter.alert_threshold` stands beside its dead letters.
    Copies of dead letters that are not at their `dead_letter.sink` follow, if there are any, and what
    sources have archived.
    """
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415 - loads SQLAlchemy

    with open_stored(flows, state, flow) as stored:
        names = [stored.flow] if stored.flow is not None else stored.store.flows()
        shown = [_flow(stored, name) for name in names]
        if output == "json":
            print_json(shown)
            return
        if not shown:
            print(f"No flow has stored anything in {stored.place} yet.")
        for one in shown:
            _print_flow(one, stored.place, time.time())


def _flow(stored: Stored, name: str) -> dict[str, Any]:
    store, plan = stored.store, stored.plan
    alerts: dict[str, int | None] = {}
    if plan is not None and plan.name == name:
        alerts = {each.name: each.dead_letter.alert_threshold for each in plan.pipelines}
    return {
        "flow": name,
        "partitions": [asdict(row) for row in store.partitions(name) if "@" not in row.source],
        "pipelines": [
            asdict(row) | {"alert_threshold": alerts.get(row.pipeline)}
            for row in store.totals(name)
        ],
        "copies": [
            {"pipeline": pipeline, **asdict(counts), **_sink_of_copies(plan, name, pipeline)}
            for pipeline, counts in sorted(store.copies.counts(name).items())
        ],
        "archives": [
            {
                "source": each.source,
                "events": each.events,
                "bytes": each.bytes,
                "oldest_archived_at": each.oldest,
            }
            for each in store.archive.totals(name)
        ],
    }


def _sink_of_copies(plan: FlowPlan | None, flow: str, pipeline: str) -> dict[str, Any]:
    """Return where a pipeline's copies of dead letters go; nothing is known without the flow's file."""
    from flows.runtime.retention import retention_of_copies, sink_of_copies  # noqa: PLC0415

    if plan is None or plan.name != flow:
        return {"sink": None, "deliverable": None, "kept_for": None}
    sink = sink_of_copies(plan, pipeline)
    kept_for = None if sink is not None else retention_of_copies(plan, pipeline) or None
    return {"sink": sink, "deliverable": sink is not None, "kept_for": kept_for}


def _print_flow(one: dict[str, Any], place: str, now: float) -> None:
    from connectors.contracts import Lag  # noqa: PLC0415
    from penstock.cli.amounts import show_age, show_lag  # noqa: PLC0415
    from penstock.cli.output import print_table  # noqa: PLC0415

    print(f"{one['flow']}, in {place}\n")
    if not one["partitions"] and not one["pipelines"]:
        print("Nothing is settled yet: run the flow first.\n")
        return
    print_table(
        ["SOURCE", "PARTITION", "POSITION", ">LAG", ">LAST EVENT", ">STORED"],
        [
            (
                row["source"],
                row["partition"],
                row["position"],
                show_lag(Lag(row["lag_events"], row["lag_bytes"])),
                "-" if row["lag_seconds"] is None else f"{show_age(row['lag_seconds'])} old",
                f"{show_age(now - row['updated_at'])} ago",
            )
            for row in one["partitions"]
        ],
    )
    print()
    print_table(
        ["PIPELINE", ">DONE", ">FAILED", ">SKIPPED", ">PARKED", ">DEAD LETTERS"],
        [
            (
                row["pipeline"],
                f"{row['done']:,}",
                f"{row['failed']:,}",
                f"{row['skipped']:,}",
                f"{row['parked']:,}",
                _letters(row["dead_letters"], row["alert_threshold"]),
            )
            for row in one["pipelines"]
        ],
    )
    print()
    if one["copies"]:
        _print_copies(one["copies"])
    if one["archives"]:
        _print_archives(one["archives"], now)


def _print_copies(copies: list[dict[str, Any]]) -> None:
    """Print what copies of dead letters are not at their sink (`dead_letter.sink`)."""
    from penstock.cli.amounts import show_age  # noqa: PLC0415
    from penstock.cli.output import print_table  # noqa: PLC0415

    def where(row: dict[str, Any]) -> str:
        if row["deliverable"] is not False:
            return row["sink"] or "-"
        kept = "" if row["kept_for"] is None else f": forgotten after {show_age(row['kept_for'])}"
        return f"none any more{kept}"

    print_table(
        ["COPIES OF DEAD LETTERS", ">WAITING", ">REFUSED", "SINK"],
        [
            (row["pipeline"], f"{row['waiting']:,}", f"{row['refused']:,}", where(row))
            for row in copies
        ],
    )
    print()


def _print_archives(archives: list[dict[str, Any]], now: float) -> None:
    """Print what sources have kept of their events; `penstock archive list` tells more."""
    from penstock.cli.amounts import show_age, show_size  # noqa: PLC0415
    from penstock.cli.output import print_table  # noqa: PLC0415

    print_table(
        ["ARCHIVE OF", ">EVENTS", ">SIZE", ">OLDEST"],
        [
            (
                row["source"],
                f"{row['events']:,}",
                show_size(row["bytes"]),
                "-"
                if row["oldest_archived_at"] is None
                else f"{show_age(now - row['oldest_archived_at'])} ago",
            )
            for row in archives
        ],
    )
    print()


def _letters(count: int, alert: int | None) -> str:
    """Return the number of dead letters, and of how many the operator wants to be told."""
    if alert is None:
        return f"{count:,}"
    return f"{count:,} (alert: more than {alert:,})" if count > alert else f"{count:,} of {alert:,}"


@state.command(
    epilog=examples(
        "penstock state parked shop.yaml",
        "penstock state parked shop.yaml -n 1000 -o json | jq -r '.[].error_code' | sort | uniq -c",
    )
)
def parked(
    flows: OptionalFlows = None,
    *,
    state: State = None,
    flow: FlowName = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows at most.")] = 50,
    output: Output = "text",
) -> None:
    """Show the executions that wait to be tried again, the next one first.

    Each waits for its step, or behind an earlier one of its key or partition (see `order:`).
    """
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415 - loads SQLAlchemy

    with open_stored(flows, state, flow) as stored:
        names = [stored.flow] if stored.flow is not None else stored.store.flows()
        shown = [
            {"flow": name, **_waiting(row)}
            for name in names
            for row in stored.store.parked_next(name, limit)
        ]
        if output == "json":
            print_json(shown)
        elif shown:
            _print_parked(shown, time.time())
        else:
            print("Nothing waits to be tried again.")


def _waiting(parked: Parked) -> dict[str, Any]:
    row = asdict(parked)
    del row["body"]
    place: dict[str, Any] = row.pop("place")
    return place | row


def _print_parked(rows: list[dict[str, Any]], now: float) -> None:
    from penstock.cli.amounts import show_age  # noqa: PLC0415
    from penstock.cli.output import print_table  # noqa: PLC0415

    print_table(
        ["PIPELINE", "STEP", "KEY", ">TRIES", ">DUE IN", ">PARKED", "EVENT", "ERROR"],
        [
            (
                row["pipeline"],
                row["step"] or "-",
                row["lane"] or "-",
                str(row["attempts"]) if row["attempts"] else "-",
                show_age(max(0.0, row["due_at"] - now)) if row["attempts"] else "behind",
                f"{show_age(now - row['parked_at'])} ago",
                row["event_id"],
                row["error_code"] or "-",
            )
            for row in rows
        ],
    )
