"""Prints the table of jq programs over payloads.

python -m benchmarks.jq [--seconds 0.2] [--only NAME]
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.jq.measure import ENGINES, Costs, measure, size_of
from benchmarks.jq.payloads import LINES
from benchmarks.jq.programs import SUBJECTS

_AT_ONCE = 200_000
"""Bytes of JSON that are run in one go: about a batch."""


def main() -> int:
    """Print the table; return 1 when a program is slower than libjq on any payload."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jq")
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(
        "| program | payload | by hand | column | single | libjq | jaq | libjq / column | column / by hand |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    slower = False
    for subject in SUBJECTS:
        if options.only not in subject.name:
            continue
        for payload, lines in LINES.items():
            count = max(4, min(500, _AT_ONCE // size_of(lines)))
            costs = measure(subject, lines, count, options.seconds)
            print(_row(subject.name, payload, costs), flush=True)
            slower = slower or (costs.ratio("single", "libjq") or 0) > 1
    return 1 if slower else 0


def _row(name: str, payload: str, costs: Costs) -> str:
    shown = " | ".join(_microseconds(costs.per_event[engine]) for engine in ENGINES)
    faster, slower = costs.ratio("libjq", "column"), costs.ratio("column", "by hand")
    return f"| {name} | {payload} | {shown} | **{faster or 0:.1f}** | {slower or 0:.2f} |"


def _microseconds(cost: float | None) -> str:
    if cost is None:
        return "-"
    return f"{cost:.2f}" if cost < 100 else f"{cost:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
