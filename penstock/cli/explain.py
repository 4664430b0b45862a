"""`penstock explain`: what a flow will do, and what is promised of it."""

from __future__ import annotations

from penstock.cli.help import examples
from penstock.cli.options import Flows, Output

EXAMPLES = examples(
    "penstock explain shop.yaml",
    "penstock explain shop.yaml -o json | jq '.pipelines[].publishes'",
)


def explain(flows: Flows, *, output: Output = "text") -> None:
    """Show what a flow will do, and what is guaranteed.

    For each publish step the promise from source to sink; for each pipeline what is repeated
    after a crash; for each source how many workers it can use; for each expression the engine
    that evaluates it. Connects to nothing.
    """
    from flows.plan import load_flow  # noqa: PLC0415 - loads YAML, models and connectors
    from penstock.cli.explaining import explain_plan, print_explanation  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415

    explanation = explain_plan(load_flow(flows))
    if output == "json":
        print_json(explanation)
        return
    print_explanation(explanation)
