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
Id = Annotated[
    str, typer.Argument(metavar="ID", help="Its id, or the start of it.", show_default=False)
]
FlowName = Annotated[
    str | None, typer.Option("--flow", metavar="NAME", help="Only this flow's; with --state.")
]

Pipeline = Annotated[
    str | None, typer.Option("--pipeline", metavar="NAME", help="Only this pipeline's.")
]
Error = Annotated[
    str | None, typer.Option("--error", metavar="CODE", help="Only those with this error code.")
]
Type = Annotated[
    str | None,
    typer.Option("--type", metavar="GLOB", help="Only events of this type: `public.orders.*`."),
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="JQ", help="Only events for which this is true."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many at most.")]
Cursor = Annotated[
    str | None,
    typer.Option(
        "--cursor", metavar="TEXT", help="Go on where a list ended: its last line says with what."
    ),
]
