"""`penstock test`: the cases beside a flow, with nothing connected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.help import examples
from penstock.cli.options import Output

EXAMPLES = (
    examples(
        "penstock test shop.yaml                        # the cases in shop.test.yaml",
        "penstock test shop.yaml --case 'a guest is one'",
        "penstock test shop.yaml --watch                # again whenever a file changes",
        "penstock test flows/*.test.yaml --junit out.xml   # each with the flow it is named after",
    )
    + """

\b
A first test file, shop.test.yaml:
  tests:
    - name: an order is shaped
      data: { id: 7, status: paid }
      expect:
        published:
          - data: { id: 7, status: paid }
"""
)


def run_cases(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="The flow file (several are read as one flow), and test files; without those, the"
            " ones named after it. Test files alone are each about the flow they are named after.",
            show_default=False,
        ),
    ],
    *,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Only the case of this name; may be repeated."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run again whenever one of the files changes.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML, too.")
    ] = None,
    output: Output = "text",
) -> int:
    """Run the tests of a flow, with nothing connected.

    Each case sends events through a pipeline's own steps and compares outputs, dead letters and what
    is published. Steps that would reach outside answer what the case's `mocks` say. Exit code 0 when
    all pass, 1 when one fails, 2 when a file or the command is wrong.
    """
    from penstock.cli.testing import CasesCall  # noqa: PLC0415 - as every command

    return CasesCall(files, case or [], watch, junit, output)()
