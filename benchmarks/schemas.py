"""Validation of events, and comparison of schemas: CPU time of the best of some rounds.

python -m benchmarks.schemas
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from schema_registry.comparing import compare
from schema_registry.documents import Document
from schema_registry.validation import Validator

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["order_id", "customer_id", "items", "total"],
    "properties": {
        "order_id": {"type": "string", "format": "uuid"},
        "customer_id": {"type": "string"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["product_id", "quantity", "price"],
                "properties": {
                    "product_id": {"type": "string"},
                    "quantity": {"type": "integer", "minimum": 1},
                    "price": {"type": "number", "minimum": 0},
                },
            },
        },
        "total": {"type": "number", "minimum": 0},
    },
}

BATCH, ROUNDS = 1_000, 50


def order(number: int) -> dict[str, Any]:
    item = {"product_id": "p1", "quantity": 2, "price": 9.5}
    return {
        "order_id": f"9f8a1f6e-3f1c-4f5e-9b1d-{number:012d}",
        "customer_id": f"c{number}",
        "items": [dict(item) for _ in range(3)],
        "total": 28.5,
    }


def best(work: Callable[[], object]) -> float:
    """Return the least CPU seconds that a round took."""
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    validator = Validator(ORDER)
    orders = [order(number) for number in range(BATCH)]
    wrong = [{**each, "total": "much"} for each in orders]
    changed = {**ORDER, "required": ["order_id"]}
    rows = (
        ("an order that fits", best(lambda: validator.all_problems(orders)) / BATCH),
        ("an order that does not, and why", best(lambda: validator.all_problems(wrong)) / BATCH),
        ("two versions compared", best(lambda: compare(Document(ORDER), Document(changed)))),
    )
    print("| | µs of CPU |\n|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {seconds * 1e6:.2f} |")


if __name__ == "__main__":
    main()
