"""`penstock run`: runs a flow until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from connectors.errors import FlowFileError
from penstock.cli.help import examples
from penstock.cli.options import Flows, Level, LogFormat

EXAMPLES = examples(
    "penstock run shop.yaml",
    "penstock run shop.yaml --until-caught-up     # for cron, tests and migrations",
    "penstock run modules.yaml pipelines.yaml     # one flow in two files",
    "penstock run clicks.yaml --workers 4         # four processes share the partitions",
    "penstock run shop.yaml --address 127.0.0.1:0 # the API on any port that is free",
    "penstock run shop.yaml --drain-timeout 3s    # a stop leaves what is slow to the next start",
)


def run(
    flows: Flows,
    *,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-w",
            metavar="N",
            min=1,
            max=256,
            help="Processes per source that share its partitions out; a source with a single"
            " partition, such as a replication slot, has one.",
        ),
    ] = 1,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up",
            help="End with exit code 0 when each source has reached what was its end at the start.",
        ),
    ] = False,
    drain_timeout: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long a stop waits for what is in flight. What is not through by then is left unsettled,"
            " and comes again at the next start.",
        ),
    ] = "20s",
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            help="How log lines look; auto: console on a terminal, JSON elsewhere.",
            show_default="the flow file's, else auto",
        ),
    ] = None,
    log_level: Annotated[
        Level | None,
        typer.Option(
            help="The least level that is logged.", show_default="the flow file's, else info"
        ),
    ] = None,
    no_live: Annotated[
        bool,
        typer.Option("--no-live", help="Log lines every 10 s on a terminal too, no live table."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the HTTP API listens; port 0 takes any that is free.",
            show_default="the flow file's, else 127.0.0.1:8080",
        ),
    ] = None,
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Serve no HTTP API, and no metrics.")
    ] = False,
) -> int:
    """Run a flow until Ctrl-C or SIGTERM.

    Both finish and store what is in flight, for as long as --drain-timeout says. On a terminal a table shows each pipeline; elsewhere log lines do, every 10 seconds. A worker
    that dies is started again. A second copy of the same flow waits and takes over. The HTTP API, with /metrics
    for Prometheus, is served meanwhile.
    """
    from penstock.cli.running import RunSettings, run_flow  # noqa: PLC0415 - loads the engine

    if address is not None:
        address = _checked(address)
    return run_flow(
        flows,
        RunSettings(
            workers=workers,
            until_caught_up=until_caught_up,
            drain_timeout=_seconds("--drain-timeout", drain_timeout),
            log_format=log_format,
            log_level=log_level,
            live=not no_live,
            server=not no_server,
            address=address,
        ),
    )


def _seconds(option: str, text: str) -> float:
    from connectors.settings import parse_duration  # noqa: PLC0415 - loads pydantic

    try:
        return parse_duration(text)
    except ValueError as error:
        raise FlowFileError(
            f"{option}: expected {error}, found {text!r}.", code="duration_invalid"
        ) from None


def _checked(address: str) -> str:
    from flows.spec.server import check_address  # noqa: PLC0415 - loads pydantic

    try:
        return check_address(address)
    except ValueError as error:
        raise FlowFileError(
            f"--address: expected {error}, found {address!r}.",
            code="address_invalid",
            hint="IPv6 goes in brackets: [::1]:8080.",
        ) from None
