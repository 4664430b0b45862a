"""`penstock schema`: the JSON Schemas of flow files and test files, for editors."""

from __future__ import annotations

import typer

from penstock.cli.help import examples
from penstock.cli.output import print_json

schema = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="JSON Schemas, for editors and other tools."
)


@schema.command(
    epilog=examples(
        "penstock schema yaml > flow.schema.json",
        "# then, as the first line of a flow file:",
        "# yaml-language-server: $schema=flow.schema.json",
    )
)
def yaml() -> None:
    """Print the JSON Schema of flow files, connectors and steps of this installation included."""
    from flows.spec.json_schema import flow_json_schema  # noqa: PLC0415 - imports every connector

    print_json(flow_json_schema())


@schema.command(
    epilog=examples(
        "penstock schema tests > tests.schema.json",
        "# then, as the first line of a test file:",
        "# yaml-language-server: $schema=tests.schema.json",
    )
)
def tests() -> None:
    """Print the JSON Schema of test files."""
    from flows.testing.json_schema import cases_json_schema  # noqa: PLC0415 - imports the models

    print_json(cases_json_schema())


@schema.callback()
def _group() -> None:
    """JSON Schemas, for editors and other tools."""
