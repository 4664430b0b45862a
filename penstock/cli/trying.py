"""`penstock try`: play with one expression."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connectors.errors import FlowFileError
from flows.runtime import exits
from penstock.cli.help import examples

EXAMPLES = examples(
    "penstock try '.items | map(.price) | add' --input order.json",
    "echo '{\"id\": 7}' | penstock try '{order: .id}' --compact",
    "penstock try '.data.total > 100' --event --input order.json   # as a flow's steps see it",
    "penstock try --template 'order {{ .id | upper }}' --input order.json",
    "penstock try '.a + 1' --source                  # the Python it becomes",
)


def try_expression(
    program: Annotated[
        str | None, typer.Argument(metavar="JQ", help="The jq program.", show_default=False)
    ] = None,
    *,
    template: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A text with {{ … }} in it, instead of a jq program."),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="A file of JSON values, one after the other; may be repeated.",
            show_default="standard input",
        ),
    ] = None,
    event: Annotated[
        bool,
        typer.Option(
            "--event",
            help="Each input is an event's data, or a CloudEvent in JSON: the program sees .data,"
            " .trigger, .event and the attributes, as in a flow.",
        ),
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", "-r", help="Print texts as they are, without quotes.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", "-c", help="Print each output on one line.")
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Print the Python that the expression becomes.")
    ] = False,
) -> int:
    """Try a jq program or a template on some JSON.

    Prints every output, and on standard error which engine evaluates it. On a terminal without
    --input the input is null. Exit code 0 when all inputs went well, 1 when one failed, 2 when the
    expression or an input can't be read.
    """
    if (program is None) == (template is None):
        raise FlowFileError(
            "expected a jq program or --template, one of them.",
            code="usage",
            hint="penstock try '.id' --input FILE, or penstock try --template '{{ .id }}'.",
        )
    from penstock.cli.evaluating import Trial, print_source, run, show_error  # noqa: PLC0415
    from transforms.expressions import ExpressionError  # noqa: PLC0415

    try:
        trial = Trial(program, template, on_event=event)
    except ExpressionError as error:
        show_error(program or template or "", error)
        return exits.USAGE
    if source:
        return print_source(trial)
    return run(trial, inputs or [], raw=raw, compact=compact)
