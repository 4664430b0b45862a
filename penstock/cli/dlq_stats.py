"""`penstock dlq stats`: what fails, how much of it, since when."""

from __future__ import annotations

import time

from penstock.cli.dlq_selecting import (
    Conditions,
    selection_of,
)
from penstock.cli.grouping import grouped
from penstock.cli.help import examples
from penstock.cli.options import FlowName, OptionalFlows, Output, State

STATS_EXAMPLES = examples(
    "penstock dlq stats shop.yaml",
    "penstock dlq stats shop.yaml --pipeline enrich-orders --since 24h",
    "penstock dlq stats shop.yaml --where '.data.total > 100'",
    "penstock dlq stats shop.yaml -o json | jq '.groups[0].hint'",
)


@grouped
def stats(
    flows: OptionalFlows = None,
    *,
    conditions: Conditions,
    state: State = None,
    flow: FlowName = None,
    output: Output = "text",
) -> None:
    """Group dead letters by step and error, over time, the likeliest cause first.

    That is a failure that began lately or grows, and makes up a good part of the latest ones; the
    others follow by their number. Each group is shown with its newest entry as a sample. With --where,
    each entry is read and asked.
    """
    from rich.console import Console  # noqa: PLC0415 - rich and SQLAlchemy take time to import

    from dlq.render_stats import print_statistics  # noqa: PLC0415
    from dlq.stats import document, statistics_of, statistics_where  # noqa: PLC0415
    from penstock.cli.output import print_json  # noqa: PLC0415
    from penstock.cli.stored import open_stored  # noqa: PLC0415

    with open_stored(flows, state, flow) as stored:
        selection = selection_of(stored, stored.flow, (), conditions)
        if conditions.where is None:
            found = statistics_of(stored.store, selection.wanted, now=time.time())
        else:
            found = statistics_where(stored.store, selection, now=time.time())
    if output == "json":
        print_json(document(found))
        return
    print_statistics(found, Console(highlight=False))
