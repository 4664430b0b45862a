from __future__ import annotations

import time

import psycopg
import pytest

from penstock.demo.shop import Shop
from tests.services.fixtures import drop_database

pytestmark = pytest.mark.postgres


def all_orders(dsn):
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT id, customer_id, contact_email, status, total, currency, items FROM orders"
            " ORDER BY number"
        ).fetchall()


def make_changes(shop, dsn, count):
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(count):
            shop.change(connection)


def test_the_shop_opens_with_customers_and_orders_of_theirs_and_of_guests(database):
    shop = Shop(database)
    shop.create(customers=10, orders=100)
    orders = all_orders(database)
    assert len(orders) == 100
    with psycopg.connect(database) as connection:
        customers = connection.execute("SELECT id::text FROM customers").fetchall()
    assert {row[0] for row in customers} == set(shop.customers)
    assert any(order[1] is None for order in orders)
    assert any(order[1] is not None for order in orders)


def test_changes_are_real_rows_inserted_updated_and_deleted(database):
    shop = Shop(database)
    shop.create(customers=5, orders=50)
    before = shop.changes.copy()
    make_changes(shop, database, 400)
    with psycopg.connect(database) as connection:
        customers = connection.execute("SELECT count(*) FROM customers").fetchone()[0]
        orders = connection.execute("SELECT count(*) FROM orders").fetchone()[0]
        moved_on = connection.execute(
            "SELECT count(*) FROM orders WHERE status <> 'placed'"
        ).fetchone()[0]
    assert orders + customers == shop.changes["inserted"] - shop.changes["deleted"]
    assert moved_on > 0
    for kind in ("inserted", "updated", "deleted"):
        assert shop.changes[kind] > before[kind], kind


def test_every_change_is_a_transaction_of_its_own(database):
    shop = Shop(database)
    shop.create(customers=5, orders=0)
    make_changes(shop, database, 60)
    with psycopg.connect(database) as connection:
        rows, transactions = connection.execute(
            "SELECT count(*), count(DISTINCT xmin::text) FROM orders"
        ).fetchone()
    assert rows == transactions > 1


def test_some_orders_are_broken_in_both_ways(database):
    shop = Shop(database, broken_every=4)
    shop.create(customers=5, orders=120)
    orders = all_orders(database)
    negative = sum(total < 0 for _, _, _, _, total, _, _ in orders)
    nameless = sum(email is None for _, _, email, _, _, _, _ in orders)
    assert negative > 0
    assert nameless > 0
    assert negative + nameless == shop.changes["broken"] < len(orders)


def test_a_total_is_the_sum_of_its_items_unless_the_order_is_broken(database):
    shop = Shop(database)
    shop.create(customers=5, orders=60)
    for _, _, _, _, total, _, items in all_orders(database):
        cents = sum(int(i["unit_price"].replace(".", "")) * i["quantity"] for i in items)
        assert abs(int(total * 100)) == cents


def test_the_same_seed_gives_the_same_shop(postgres, database):
    other = postgres.create_database("the_same_shop")
    try:
        for dsn in (database, other):
            shop = Shop(dsn, seed=7)
            shop.create(customers=5, orders=20)
            make_changes(shop, dsn, 60)
        assert all_orders(database) == all_orders(other)
    finally:
        drop_database(postgres, "the_same_shop")


def test_an_open_shop_keeps_changing_until_it_is_closed(database):
    shop = Shop(database)
    shop.create(customers=5, orders=20)
    opened = shop.changes.total()
    shop.open(rate=500)
    deadline = time.monotonic() + 20
    while shop.changes.total() < opened + 50:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shop.close()
    assert shop.error is None
    closed = all_orders(database)
    assert all_orders(database) == closed


def test_a_shop_that_loses_its_database_says_why(postgres, database):
    shop = Shop(database)
    shop.create(customers=2, orders=2)
    shop.open(rate=1000)
    deadline = time.monotonic() + 20
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        while shop.error is None:
            assert time.monotonic() < deadline
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database.rpartition("/")[2]],
            )
            time.sleep(0.01)
    shop.close()
    assert "terminat" in str(shop.error)
