"""What the editing loop costs: `penstock test` in a fresh process, on a flow of 50 different jq steps.

python -m benchmarks.cold [--steps 50] [--runs 10]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.jq.payloads import orders

_PROGRAMS = [
    "{{id: .data.id, n: {n}, who: .data.customer.name, city: (.data.customer.address.city // null)}}",
    ".data.items | map({{sku: .product_id, subtotal: (.price * .quantity * {n})}})",
    "[.data.items[] | select(.quantity > {n} and .price >= 10) | .product_id]",
    'if .data.status == "NEW" then {n} elif (.data.items | length) > 3 then "large" else "small" end',
    ".data.items | group_by(.category) | map({{category: .[0].category, n: (length + {n})}})",
    "reduce .data.items[] as $item ({{}}; .[$item.category] += $item.quantity + {n})",
    r'[.data.items[] | "{n}: \(.quantity) x \(.product_id)"] | join(", ")',
    '.data | .items[].price |= . * {n} | .customer.address.city |= ascii_upcase | .status = "seen"',
    '[.data.items[].at | fromdate + {n} | strftime("%d.%m.%Y %H:%M")]',
    '[.data.items[].product_id | test("^[A-Z]+-{n}")] | any',
]


def write_flow(folder: Path, steps: int) -> Path:
    """Write a flow of so many jq steps and its test; return the flow's path."""
    lines = [
        "modules:",
        "  - { name: shop, type: source.kafka, config: { brokers: localhost:9092, topics: [orders] } }",
        "  - { name: out, type: sink.kafka, config: { brokers: localhost:9092, topic: orders.out } }",
        "pipelines:",
        "  shape:",
        "    trigger: { source: shop }",
        "    steps:",
    ]
    for number in range(steps):
        program = _PROGRAMS[number % len(_PROGRAMS)].format(n=number + 1)
        lines += [
            f"      - name: step{number}",
            "        type: step.jq",
            f"        config: {{ expression: {json.dumps(program)} }}",
        ]
    lines += ["      - { name: publish, type: step.publish, config: { sink: out, type: shaped } }"]
    flow = folder / "orders.yaml"
    flow.write_text("\n".join(lines) + "\n")
    data = json.dumps(orders(2, 1)[0])
    (folder / "orders.test.yaml").write_text(
        f"tests:\n  - name: an order goes through\n    data: {data}\n"
        "    expect:\n      published: [{ type: shaped }]\n"
    )
    return flow


def main() -> int:
    """Print seconds of CPU and of the clock of each run; return 1 where the test does not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flow = write_flow(Path(folder), options.steps)
        command = [sys.executable, "-m", "penstock", "test", str(flow)]
        cpu, wall = [], []
        for _ in range(options.runs):
            before, started = _cpu(), time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wall.append(time.perf_counter() - started)
            cpu.append(_cpu() - before)
            if done.returncode:
                print(done.stdout, done.stderr, sep="\n")
                return 1
    for name, seconds in (("CPU", cpu), ("clock", wall)):
        best, middle = min(seconds), statistics.median(seconds)
        print(f"{name}: {best * 1000:.0f} ms at best, {middle * 1000:.0f} ms in the middle")
    return 0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
