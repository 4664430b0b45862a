"""`penstock connectors`: what there is, and how each is configured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from penstock.cli.help import examples
from penstock.cli.options import Output
from penstock.cli.output import print_json, print_table
from penstock.cli.snapshots import SNAPSHOT_EXAMPLES, SNAPSHOTS_EXAMPLES, snapshot, snapshots

connectors = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@connectors.callback()
def _group() -> None:
    """List connectors and steps, describe their configuration, have rows read again."""


@connectors.command(
    "list", epilog=examples("penstock connectors list", "penstock connectors list -o json")
)
def list_types(output: Output = "text") -> None:
    """List every `type:` a flow file can name: sources, sinks and steps, plugins included."""
    from penstock.reference.types import all_types  # noqa: PLC0415 - imports every connector

    found = all_types()
    if output == "json":
        print_json([_as_dict(one) for one in found])
        return
    print_table(
        ["TYPE", "IS A", "READY", "WHAT IT DOES"],
        [(t.name, t.role, "yes" if t.built else "not yet", t.summary) for t in found],
    )


@connectors.command(
    epilog=examples(
        "penstock connectors describe source.postgres_cdc",
        "penstock connectors describe step.http_call",
    )
)
def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="As `connectors list` shows it; `http_call` does for `step.http_call`.",
        ),
    ],
    output: Output = "text",
) -> None:
    """Show the configuration of a type: its keys with their types, defaults and meanings."""
    from penstock.reference.fields import describe_model  # noqa: PLC0415
    from penstock.reference.types import find_type  # noqa: PLC0415

    found = find_type(name)
    fields = describe_model(found.settings)
    if output == "json":
        print_json({**_as_dict(found), "config": [asdict(field) for field in fields]})
        return
    print(f"{found.name}: {found.summary}")
    if not found.built:
        print("It can be written and validated; `penstock run` refuses it until it is built.")
    if "source" in found.role:
        past = (
            "can be read again by time" if found.by_time else "needs an `archive:` to be read again"
        )
        print(f"As a source, its past {past}.")
    if not fields:
        print("It has no configuration.")
        return
    print()
    print_table(
        ["KEY", "TYPE", "DEFAULT", "MEANING"],
        [(f.name, f.type, "required" if f.required else f.default, f.description) for f in fields],
    )


connectors.command("snapshot", epilog=SNAPSHOT_EXAMPLES)(snapshot)
connectors.command("snapshots", epilog=SNAPSHOTS_EXAMPLES)(snapshots)


def _as_dict(found: Any) -> dict[str, Any]:
    return {
        "type": found.name,
        "role": found.role,
        "built": found.built,
        "summary": found.summary,
        "by_time": found.by_time,
    }
