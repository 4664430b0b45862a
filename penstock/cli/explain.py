"""`penstock explain`: what a flow will do, and what is promised of it."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.help import examples
from penstock.cli.options import Flows, Output

EXAMPLES = examples(
    "penstock explain shop.yaml",
    "penstock explain shop.yaml --source            # with the Python that its jq becomes",
    "penstock explain shop.yaml -o json | jq '.pipelines[].publishes'",
)


def explain(
    flows: Flows,
    *,
    source: Annotated[
        bool,
        typer.Option("--source", help="Show the Python that each expression becomes, too."),
    ] = False,
    output: Output = "text",
) -> None:
    """Show what a flow will do, and what is guaranteed.

    For each publish step the promise from source to sink; for each pipeline what is repeated
    after a crash; for each source how many workers it can use; for each expression the engine
    that evaluates it. Connects to nothing.
    """
    from penstock.cli.explaining import explain_plan, without_sources  # noqa: PLC0415
    from penstock.cli.loading import load_checked  # noqa: PLC0415 - loads models and connectors
    from penstock.cli.output import print_json  # noqa: PLC0415

    explanation = explain_plan(load_checked(flows))
    if not source:
        explanation = without_sources(explanation)
    if output == "json":
        print_json(explanation.as_dict())
        return
    from penstock.cli.explanation_tree import print_explanation  # noqa: PLC0415 - loads rich

    print_explanation(explanation)
