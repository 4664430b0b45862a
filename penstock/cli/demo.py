"""`penstock demo`: the whole of it on a machine that has nothing installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.help import examples

EXAMPLES = examples("penstock demo", "penstock demo --rate 200 --keep")


def demo(
    rate: Annotated[
        float, typer.Option(min=0.1, max=10_000, help="Changes per second that the shop makes.")
    ] = 20.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the data folder when it ends, and say where.")
    ] = False,
    seed: Annotated[int, typer.Option(help="What happens is drawn from it.")] = 1,
) -> int:
    """See it work: a shop in PostgreSQL, its changes flowing.

    Starts a PostgreSQL of its own, a shop that keeps changing and a customer service that is sometimes slow
    and sometimes wrong, and runs a flow on them. Ctrl-C stops all of it; nothing is left behind.
    """
    from penstock.cli.running import RunSettings, run_flow  # noqa: PLC0415 - loads the engine
    from penstock.demo import run_demo  # noqa: PLC0415

    def run(files: list[Path], variables: Mapping[str, str]) -> int:
        os.environ.update(variables)  # the workers load the flow too, and inherit them
        # Somebody is looking, also where it goes through a pipe: no JSON.
        return run_flow(files, RunSettings(log_format="console"))

    return run_demo(run, rate=rate, keep=keep, seed=seed)
