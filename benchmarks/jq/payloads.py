"""Orders of about 0.2, 2 and 50 kB of JSON, as Python values."""

from __future__ import annotations

import random
from typing import Any

LINES = {"0.2 kB": 1, "2 kB": 14, "50 kB": 375}
"""Payload → number of order lines; a line is about 130 bytes."""

_CATEGORIES = ["books", "garden", "music", "tools"]


def orders(lines: int, count: int) -> list[dict[str, Any]]:
    """Return `count` different orders of so many lines, always the same ones."""
    rng = random.Random(20261121 + lines)
    return [_order(number, lines, rng) for number in range(count)]


def _order(number: int, lines: int, rng: random.Random) -> dict[str, Any]:
    order: dict[str, Any] = {
        "id": 9_000_000 + number,
        "status": rng.choice(["NEW", "PAID", "SHIPPED"]),
        "customer": {"name": "Ann Lee", "address": {"city": "Oslo"}},
    }
    order["items"] = [_line(rng, full=lines > 1) for _ in range(lines)]
    return order


def _line(rng: random.Random, *, full: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "product_id": f"{rng.choice(['SKU', 'BOX'])}-{rng.randrange(100_000):05d}",
        "quantity": rng.randrange(1, 9),
        "price": rng.randrange(100, 99_900) / 100,
        "category": rng.choice(_CATEGORIES),
    }
    if full:
        line["at"] = f"2026-11-{rng.randrange(1, 29):02d}T{rng.randrange(24):02d}:15:00Z"
        line["note"] = rng.choice([None, "gift"])
    else:
        line["at"] = "2026-11-21T09:15:00Z"
    return line
