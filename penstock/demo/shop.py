"""A small shop in PostgreSQL whose orders never stop changing, some of them for the worse.

It is a client of its own database like any other: plain SQL, one transaction per change.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

_TABLES = """
CREATE TABLE customers (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    email       text NOT NULL,
    tier        text NOT NULL DEFAULT 'standard',
    created_at  timestamptz NOT NULL DEFAULT now()
);
-- As in many a real shop, the checks were left to the programs that write here.
CREATE TABLE orders (
    id             uuid PRIMARY KEY,
    number         bigint GENERATED ALWAYS AS IDENTITY,
    customer_id    uuid REFERENCES customers (id),   -- NULL: a guest
    contact_email  text,
    status         text NOT NULL,
    total          numeric(12, 2) NOT NULL,
    currency       text NOT NULL,
    items          jsonb NOT NULL,
    placed_at      timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_customer ON orders (customer_id);
"""

_INSERT_CUSTOMER = "INSERT INTO customers (id, name, email, tier) VALUES (%s, %s, %s, %s)"
_INSERT_ORDER = (
    "INSERT INTO orders"
    " (id, customer_id, contact_email, status, total, currency, items, placed_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_UPDATE_ORDER = "UPDATE orders SET status = %s, updated_at = now() WHERE id = %s"
_DELETE_ORDER = "DELETE FROM orders WHERE id = %s"

_NEXT_STATUS = {"placed": "paid", "paid": "packed", "packed": "shipped", "shipped": "delivered"}
_FIRST_NAMES = ("Ada", "Blaise", "Chien", "Dorothy", "Emmy", "Frances", "Grace", "Hedy", "Ida")
_LAST_NAMES = ("Abara", "Brandt", "Costa", "Dufour", "Eriksen", "Fontana", "Gupta", "Horvat")
_GOODS = (
    ("kettle", "34.90"),
    ("teapot", "27.50"),
    ("cup", "6.20"),
    ("sencha-100g", "11.80"),
    ("assam-250g", "14.40"),
    ("filter-papers", "3.10"),
)


@dataclass(frozen=True, slots=True)
class Customer:
    """What the shop, and the customer service beside it, know of a customer."""

    id: str
    name: str
    email: str
    tier: str


class Shop:
    """The shop's tables, and a thread that changes them.

    The same `seed` gives the same customers, orders and sequence of changes. `changes` counts
    what was committed: inserted, updated, deleted, and broken (inserted, but not as it should be).
    """

    def __init__(self, dsn: str, seed: int = 1, broken_every: int = 20) -> None:
        """Know the database; `broken_every`: one new order in that many breaks the flow's schema."""
        self.rate = 0.0
        """Changes per second; may be set while it runs."""
        self.customers: dict[str, Customer] = {}
        self.changes: Counter[str] = Counter()
        self.error: Exception | None = None
        """Why the thread ended before it was told to, if it did."""
        self._dsn = dsn
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._broken_every = broken_every
        self._orders: list[list[str]] = []  # [id, status] of each order there is
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def create(self, customers: int = 40, orders: int = 200) -> None:
        """Create the tables and their first rows, in one transaction."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(_TABLES)
            for _ in range(customers):
                self._add_customer(connection)
            for _ in range(orders):
                self._add_order(connection)

    def open(self, rate: float) -> None:
        """Start changing `rate` rows a second, until `close`."""
        self.rate = rate
        self._thread = threading.Thread(target=self._keep_changing, name="shop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop changing and wait for the last transaction."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def change(self, connection: psycopg.Connection[Any]) -> None:
        """Make one change, in one transaction.

        As many orders come as go, each after four changes of status: the shop keeps its size.
        """
        dice = self._random.random()
        with connection.transaction():
            if dice < 0.02:
                self._add_customer(connection)
            elif dice < 0.18 or not self._orders:
                self._add_order(connection)
            else:
                self._advance_order(connection)

    def _keep_changing(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                due = time.monotonic()
                while not self._stopping.wait(max(0.0, due - time.monotonic())):
                    self.change(connection)
                    # A pause of the machine is not made up for in one burst.
                    due = max(due, time.monotonic() - 1) + 1 / max(self.rate, 0.001)
        except psycopg.Error as error:
            self.error = error

    def _add_customer(self, connection: psycopg.Connection[Any]) -> None:
        name = f"{self._random.choice(_FIRST_NAMES)} {self._random.choice(_LAST_NAMES)}"
        number = len(self.customers) + 1
        customer = Customer(
            id=str(self._new_id()),
            name=name,
            email=f"{name.lower().replace(' ', '.')}.{number}@example.com",
            tier=self._random.choice(("standard", "standard", "standard", "gold")),
        )
        connection.execute(
            _INSERT_CUSTOMER, (customer.id, customer.name, customer.email, customer.tier)
        )
        self.customers[customer.id] = customer
        self.changes["inserted"] += 1

    def _add_order(self, connection: psycopg.Connection[Any]) -> None:
        items: list[dict[str, Any]] = [
            {"sku": sku, "quantity": self._random.randint(1, 4), "unit_price": price}
            for sku, price in self._random.sample(_GOODS, self._random.randint(1, 3))
        ]
        total = sum((Decimal(i["unit_price"]) * i["quantity"] for i in items), Decimal(0))
        customer = self._random.choice(list(self.customers.values()))
        customer_id: str | None = None if self._random.random() < 0.1 else customer.id
        email: str | None = customer.email
        if self._random.randrange(self._broken_every) == 0:
            self.changes["broken"] += 1
            if self._random.random() < 0.5:
                total = -total
            else:
                email = None
        order_id = str(self._new_id())
        connection.execute(
            _INSERT_ORDER,
            (
                *(order_id, customer_id, email, "placed", total),
                *(self._random.choice(("EUR", "EUR", "GBP")), Jsonb(items)),
                datetime.now(timezone.utc),
            ),
        )
        self._orders.append([order_id, "placed"])
        self.changes["inserted"] += 1

    def _advance_order(self, connection: psycopg.Connection[Any]) -> None:
        """Move an order on; one that has arrived is cleared away."""
        place = self._random.randrange(len(self._orders))
        order_id, status = self._orders[place]
        following = _NEXT_STATUS.get(status)
        if following is None:
            connection.execute(_DELETE_ORDER, (order_id,))
            self._orders[place] = self._orders[-1]
            self._orders.pop()
            self.changes["deleted"] += 1
            return
        connection.execute(_UPDATE_ORDER, (following, order_id))
        self._orders[place][1] = following
        self.changes["updated"] += 1

    def _new_id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)


__all__ = ["Customer", "Shop"]
