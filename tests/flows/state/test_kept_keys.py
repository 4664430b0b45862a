"""Idempotency keys as operators see them, in each store that may keep them."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import UUID

import pytest

from flows.state.idempotency import StateKeys, digest_of
from flows.state.records import Claim, KeyOutcome
from flows.state.redis_keys import RedisKeys
from flows.state.redis_shelf import RedisShelf
from flows.state.store import open_store
from tests.flows.state.samples import commit, parked, settlement


def claim(key, holder=1, *, scope="orders", tenant="default"):
    digest = digest_of("pipeline", scope, tenant, key)
    return Claim(digest, scope, str(UUID(int=holder)), b"\0" * 16, key, tenant)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "valkey"])
def both(request):
    """A hand on the keys, and the shelf that shows them."""
    with ExitStack() as opened:
        if request.param == "valkey":
            url = request.getfixturevalue("redis_url")
            keys, shelf = RedisKeys(url, "shop"), RedisShelf(url, "shop", ["orders"])
            opened.callback(shelf.close)
        else:
            url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "database")
            store = open_store(url)
            opened.callback(store.close)
            keys, shelf = StateKeys(url, "shop"), store.kept_keys("shop")
        opened.callback(keys.close)
        yield keys, shelf


def hold(keys, *claims, seconds=60.0):
    assert keys.reserve(claims, seconds) == [None] * len(claims)


def finish(keys, of, result=None, seconds=3600.0):
    keys.settle([KeyOutcome(of, "done", seconds, result)])


def test_held_ones_come_before_done_ones_and_each_says_who_has_it_and_until_when(both):
    keys, shelf = both
    hold(keys, claim("a", 1), claim("b", 2))
    finish(keys, claim("a", 1), '{"x":1}')
    held, done = shelf.page(pipeline=None, statuses=[], limit=10)
    assert (held.status, held.holder, held.result) == ("in_flight", str(UUID(int=2)), None)
    assert (done.status, done.holder, done.result) == ("done", str(UUID(int=1)), '{"x":1}')
    assert 0 < held.ends_in <= 60 < done.ends_in <= 3600
    assert {held.scope, held.flow, done.scope} == {"orders", "shop"}
    (only,) = shelf.page(pipeline="orders", statuses=["done"], limit=10)
    assert only.digest == done.digest


def test_no_more_than_asked_for_and_none_of_another_pipeline(both):
    keys, shelf = both
    hold(keys, *(claim(f"k{number}") for number in range(8)))
    assert len(shelf.page(pipeline="orders", statuses=[], limit=3)) == 3
    assert list(shelf.page(pipeline="ord", statuses=[], limit=3)) == []


def test_one_is_found_by_its_text_and_by_the_start_of_its_hash(both):
    keys, shelf = both
    wanted = claim("order_17")
    hold(keys, wanted, *(claim(f"k{number}") for number in range(40)))
    digest = wanted.digest.hex()
    (by_text,) = shelf.find_text("order_17", None)
    assert (by_text.digest, by_text.key, by_text.tenant) == (digest, "order_17", "default")
    for length in (8, 9, 32):
        (by_hash,) = shelf.find(digest[:length])
        assert by_hash.digest == digest
    assert list(shelf.find_text("order_18", None)) == []


def test_the_same_text_of_two_tenants_are_two_keys(both):
    keys, shelf = both
    hold(keys, claim("a", 1, tenant="north"), claim("a", 2, tenant="south"))
    (found,) = shelf.find_text("a", "south")
    assert found.holder == str(UUID(int=2))


def test_a_key_that_is_freed_is_anybodys(both):
    keys, shelf = both
    hold(keys, claim("a", 1))
    finish(keys, claim("a", 1))
    (found,) = shelf.find_text("a", None)
    assert shelf.free(found)
    assert list(shelf.find_text("a", None)) == []
    hold(keys, claim("a", 2))


def test_a_key_that_somebody_else_has_by_now_is_not_freed(both):
    keys, shelf = both
    hold(keys, claim("a", 1))
    (found,) = shelf.find_text("a", None)
    keys.settle([KeyOutcome(claim("a", 1), "released")])
    hold(keys, claim("a", 2))
    assert not shelf.free(found)
    assert keys.reserve([claim("a", 3)], 1.0) != [None]


def test_a_key_that_is_free_is_not_shown(both):
    keys, shelf = both
    hold(keys, claim("a", 1))
    keys.settle([KeyOutcome(claim("a", 1), "released")])
    assert list(shelf.page(pipeline=None, statuses=[], limit=10)) == []


def test_one_whose_execution_is_parked_waits(url, store, lease):
    keys = StateKeys(url, "shop")
    waits = parked(1)
    hold(keys, claim("a", UUID(waits.place.id).int), claim("b", 99), seconds=600.0)
    keys.close()
    settled = settlement()
    settled.parked.append(waits)
    commit(store, lease, [settled])
    shelf = store.kept_keys("shop")
    assert [each.key for each in shelf.page(pipeline=None, statuses=["waiting"], limit=5)] == ["a"]
    assert [each.key for each in shelf.page(pipeline=None, statuses=["in_flight"], limit=5)] == [
        "b"
    ]


def test_keys_of_steps_are_their_pipelines_too(url, store):
    keys = StateKeys(url, "shop")
    hold(keys, claim("a", scope="orders/charge"), claim("b", scope="orders-2"))
    keys.close()
    (found,) = store.kept_keys("shop").page(pipeline="orders", statuses=[], limit=5)
    assert found.scope == "orders/charge"


def test_a_text_of_any_length_and_characters_is_found(url, store):
    keys = StateKeys(url, "shop")
    odd = "\x00" + "ö" * 5000 + "\ud800"
    hold(keys, claim(odd))
    keys.close()
    (found,) = store.kept_keys(None).find_text(odd, None)
    assert len(found.key) == 200
