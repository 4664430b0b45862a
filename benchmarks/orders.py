"""The orders that the Kafka benchmarks move: about 440 bytes of JSON, five items each."""

from __future__ import annotations

import random
from typing import Any

import orjson

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["order_id", "customer_id", "status", "currency", "items", "created_at"],
    "properties": {
        "order_id": {"type": "string", "minLength": 8, "maxLength": 40},
        "customer_id": {"type": "integer", "minimum": 1},
        "status": {"type": "string", "enum": ["new", "paid", "shipped"]},
        "currency": {"type": "string", "minLength": 3, "maxLength": 3},
        "created_at": {"type": "string"},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["sku", "qty", "unit_price"],
                "properties": {
                    "sku": {"type": "string"},
                    "qty": {"type": "integer", "minimum": 1},
                    "unit_price": {"type": "number", "minimum": 0},
                },
            },
        },
    },
}


def order(number: int, rng: random.Random) -> bytes:
    """Return order `number` as JSON."""
    return orjson.dumps(
        {
            "order_id": f"order-{number:012d}",
            "customer_id": rng.randrange(1, 100_000),
            "status": rng.choice(["new", "paid", "shipped"]),
            "currency": "EUR",
            "created_at": "2026-11-01T12:00:00Z",
            "items": [
                {
                    "sku": f"SKU-{rng.randrange(100_000):05d}",
                    "qty": rng.randrange(1, 9),
                    "unit_price": rng.randrange(100, 99_900) / 100,
                    "note": "gift",
                }
                for _ in range(5)
            ],
        }
    )


def shape(data: dict[str, Any]) -> dict[str, Any]:
    """Return the shaped order; both the bare loop and the flow's `python` step call this."""
    items = data["items"]
    return {
        "order_id": data["order_id"],
        "customer": data["customer_id"],
        "total": sum([item["qty"] * item["unit_price"] for item in items]),
        "skus": [item["sku"] for item in items],
        "status": data["status"].upper(),
    }
