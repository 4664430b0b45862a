"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

Flows = Annotated[
    list[Path],
    typer.Argument(
        metavar="FLOW",
        help="The flow file; several are read as one flow.",
        show_default=False,
    ),
]
OptionalFlows = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FLOW", help="The flow whose state it is.", show_default=False),
]
Output = Annotated[
    Literal["text", "json"],
    typer.Option("--output", "-o", help="Text for people, or JSON for programs."),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="URL",
        envvar="PENSTOCK_STATE_URL",
        show_envvar=True,
        help="The state store, instead of the flow's: sqlite:///penstock.db or postgresql://…",
    ),
]
FlowName = Annotated[
    str | None, typer.Option("--flow", metavar="NAME", help="Only this flow's; with --state.")
]
