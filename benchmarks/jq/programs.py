"""The programs, each with the Python that a person would write by hand for the same result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Subject:
    """One program and its double in Python; both see the order as `.data`, or as `.trigger`."""

    name: str
    program: str
    by_hand: Callable[[dict[str, Any]], Any]
    root: str = "data"


def _spec_order(order):
    items = [
        {
            "sku": item["product_id"],
            "qty": item["quantity"],
            "subtotal": item["price"] * item["quantity"],
            "tax": item["price"] * item["quantity"] * 0.08,
        }
        for item in order["items"]
    ]
    total = sum([item["subtotal"] + item["tax"] for item in items])
    return {"items": items, "total": total, "item_count": len(items)}


def _grouped(order):
    def category(item):
        return item["category"]

    groups = [list(group) for _, group in groupby(sorted(order["items"], key=category), category)]
    return [
        {"category": group[0]["category"], "n": len(group), "sum": sum([i["price"] for i in group])}
        for group in groups
    ]


def _reduced(order):
    sums: dict[str, int] = {}
    for item in order["items"]:
        sums[item["category"]] = sums.get(item["category"], 0) + item["quantity"]
    return sums


_SKU = re.compile("^(?P<kind>[A-Z]+)-(?P<number>[0-9]+)$")


def _captured(order):
    found = [_SKU.search(item["product_id"]) for item in order["items"]]
    return [match.groupdict() for match in found if match is not None]


def _updated(order):
    items = [{**item, "price": item["price"] * 1.08} for item in order["items"]]
    address = {"city": order["customer"]["address"]["city"].upper()}
    customer = {**order["customer"], "address": address}
    return {**order, "items": items, "customer": customer, "status": "seen"}


def _lowered(value):
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if isinstance(value, dict):
        return {key: _lowered(item) for key, item in value.items()}
    return value


def _dates(order):
    parse, utc = datetime.strptime, timezone.utc
    return [
        parse(item["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=utc).strftime("%d.%m.%Y %H:%M")
        for item in order["items"]
    ]


def _depth(value):
    if isinstance(value, dict):
        return 1 + max([_depth(item) for item in value.values()], default=0)
    if isinstance(value, list):
        return 1 + max([_depth(item) for item in value], default=0)
    return 0


def _leaves(order):
    found: list[str] = []

    def visit(value, path):
        if isinstance(value, (dict, list)):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in pairs:
                visit(inner, f"{path}.{key}" if path else str(key))
        elif value is not None and value is not False:  # as `select` in paths/1 has it
            found.append(path)

    visit(order, "")
    return found


SUBJECTS = [
    Subject(
        "the spec's order",
        """.trigger.items | map({
             sku: .product_id,
             qty: .quantity,
             subtotal: (.price * .quantity),
             tax: (.price * .quantity * 0.08)
           }) | {
             items: .,
             total: (map(.subtotal + .tax) | add),
             item_count: length
           }""",
        _spec_order,
        root="trigger",
    ),
    Subject(
        "a path",
        ".data.customer.address.city",
        lambda order: order["customer"]["address"]["city"],
    ),
    Subject(
        "an object",
        "{id: .data.id, who: .data.customer.name, city: .data.customer.address.city,"
        ' paid: (.data.status == "PAID"), lines: (.data.items | length)}',
        lambda order: {
            "id": order["id"],
            "who": order["customer"]["name"],
            "city": order["customer"]["address"]["city"],
            "paid": order["status"] == "PAID",
            "lines": len(order["items"]),
        },
    ),
    Subject(
        "a condition",
        'if .data.status == "NEW" then "open" elif (.data.items | length) > 3 then "large"'
        ' else "small" end',
        lambda order: (
            "open" if order["status"] == "NEW" else "large" if len(order["items"]) > 3 else "small"
        ),
    ),
    Subject(
        "select",
        "[.data.items[] | select(.quantity > 2 and .price >= 10)]",
        lambda order: [
            item for item in order["items"] if item["quantity"] > 2 and item["price"] >= 10
        ],
    ),
    Subject(
        "group_by",
        ".data.items | group_by(.category)"
        " | map({category: .[0].category, n: length, sum: (map(.price) | add)})",
        _grouped,
    ),
    Subject(
        "sort_by",
        ".data.items | sort_by(.price, .product_id) | map(.product_id)",
        lambda order: [
            item["product_id"]
            for item in sorted(order["items"], key=lambda item: (item["price"], item["product_id"]))
        ],
    ),
    Subject(
        "reduce",
        "reduce .data.items[] as $item ({}; .[$item.category] += $item.quantity)",
        _reduced,
    ),
    Subject(
        "regex",
        '[.data.items[].product_id | capture("^(?<kind>[A-Z]+)-(?<number>[0-9]+)$")]',
        _captured,
    ),
    Subject(
        "interpolation",
        r'[.data.items[] | "\(.quantity) x \(.product_id) (\(.category))"] | join(", ")',
        lambda order: ", ".join(
            [f"{i['quantity']} x {i['product_id']} ({i['category']})" for i in order["items"]]
        ),
    ),
    Subject(
        "splitting text",
        '[.data.items[].product_id | split("-") | .[1] | tonumber] | max',
        lambda order: max([int(item["product_id"].split("-")[1]) for item in order["items"]]),
    ),
    Subject(
        "update-assignment",
        ".data | .items[].price |= . * 1.08 | .customer.address.city |= ascii_upcase"
        ' | .status = "seen"',
        _updated,
    ),
    Subject(
        "deep walk",
        '.data | walk(if type == "string" then ascii_downcase else . end)',
        _lowered,
    ),
    Subject(
        "dates",
        '[.data.items[].at | fromdate | strftime("%d.%m.%Y %H:%M")]',
        _dates,
    ),
    Subject(
        "a recursive function",
        'def depth: if type == "object" or type == "array" then 1 + ([.[] | depth] | max // 0)'
        " else 0 end; .data | depth",
        _depth,
    ),
    Subject(
        "with_entries",
        '.data | with_entries(select(.key != "items") | .key |= "order_" + .)',
        lambda order: {f"order_{key}": order[key] for key in order if key != "items"},
    ),
    Subject(
        "paths of leaves",
        '[.data | paths(scalars) | map(tostring) | join(".")]',
        _leaves,
    ),
]
