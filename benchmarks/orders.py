"""What the Kafka benchmarks do: orders of about 440 bytes of JSON, five items each, and the work on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
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


JQ_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "customer", "items"],
    "properties": {
        "id": {"type": "string", "minLength": 8, "maxLength": 40},
        "customer": {"type": "integer", "minimum": 1},
        "items": {
            "type": "array",
            "minItems": 1,
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
    },
}

JQ = """
.trigger.items | map({
  sku: .product_id,
  qty: .quantity,
  subtotal: (.price * .quantity),
  tax: (.price * .quantity * 0.08)
}) | {
  items: .,
  total: (map(.subtotal + .tax) | add),
  item_count: length
}
"""
"""The order expression that the jq benchmarks measure by itself."""


def jq_order(number: int, rng: random.Random) -> bytes:
    """Return an order for `JQ` as JSON."""
    return orjson.dumps(
        {
            "id": f"order-{number:012d}",
            "customer": rng.randrange(1, 100_000),
            "created_at": "2026-11-01T12:00:00Z",
            "items": [
                {
                    "product_id": f"SKU-{rng.randrange(100_000):05d}",
                    "quantity": rng.randrange(1, 9),
                    "price": rng.randrange(100, 99_900) / 100,
                    "note": "gift",
                }
                for _ in range(5)
            ],
        }
    )


def jq_by_hand(data: dict[str, Any]) -> dict[str, Any]:
    """Return what `JQ` makes of an order, as somebody would write it in Python."""
    items = []
    total = 0.0  # sum() rounds in another way from Python 3.12 on
    for item in data["items"]:
        price, quantity = item["price"], item["quantity"]
        subtotal = price * quantity
        tax = subtotal * 0.08
        items.append({"sku": item["product_id"], "qty": quantity, "subtotal": subtotal, "tax": tax})
        total += subtotal + tax
    return {"items": items, "total": total, "item_count": len(items)}


SEND = {"name": "send", "type": "step.publish", "config": {"sink": "out"}}


@dataclass(frozen=True)
class Work:
    """What is done with each order, by a flow and by hand."""

    order: Callable[[int, random.Random], bytes]
    steps: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    """None: values go on as they come."""
    by_hand: Callable[[dict[str, Any]], dict[str, Any]] | None = None


WORKS = {
    "pass": Work(order, [SEND]),
    "shape": Work(
        order,
        [
            {
                "name": "shape",
                "type": "step.python",
                "config": {"function": "benchmarks.orders:shape"},
            },
            SEND,
        ],
        SCHEMA,
        shape,
    ),
    "jq": Work(
        jq_order,
        [{"name": "totals", "type": "step.jq", "config": {"expression": JQ}}, SEND],
        JQ_SCHEMA,
        jq_by_hand,
    ),
}
