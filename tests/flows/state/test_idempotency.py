"""Idempotency keys, in each store that may keep them."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from hashlib import blake2b
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.errors import FatalError, RetryableError
from flows.state.idempotency import NotedOutcomes, StateKeys
from flows.state.records import Claim, Counts, Held, KeyOutcome, Settlement
from flows.state.redis_keys import RedisKeys
from flows.state.store import open_store

LONG = 3600.0


def claim(key: str, holder: int = 1, payload: str = "") -> Claim:
    digest = blake2b(key.encode(), digest_size=16).digest()
    fingerprint = blake2b(payload.encode(), digest_size=16).digest()
    return Claim(digest, "orders", str(UUID(int=holder)), fingerprint)


def done(of: Claim, result: str | None = None, seconds: float = LONG) -> KeyOutcome:
    return KeyOutcome(of, "done", seconds, result)


def remembered(of: Claim, result: str | None = None) -> Held:
    return Held(of.holder, of.fingerprint, done=True, result=result)


def in_flight(of: Claim) -> Held:
    return Held(of.holder, of.fingerprint, done=False)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "valkey"],
)
def hands(request):
    """Open another hand on the same keys; closed afterwards."""
    if request.param == "valkey":
        url = request.getfixturevalue("redis_url")
    else:
        name = "sqlite_url" if request.param == "sqlite" else "database"
        url = request.getfixturevalue(name)
        open_store(url).close()
    opened = []

    def open_another(flow="shop"):
        keys = RedisKeys if request.param == "valkey" else StateKeys
        opened.append(keys(url, flow))
        return opened[-1]

    yield open_another
    for keys in opened:
        keys.close()


@pytest.fixture
def keys(hands):
    return hands()


def test_a_free_key_is_taken_once(keys):
    first, second = claim("a", 1), claim("a", 2)
    assert keys.reserve([first], LONG) == [None]
    assert keys.reserve([second, claim("b", 2)], LONG) == [in_flight(first), None]


def test_its_holder_may_claim_it_again_and_another_may_not(keys):
    keys.reserve([claim("a", 1)], LONG)
    assert keys.reserve([claim("a", 1)], LONG) == [None]
    assert keys.reserve([claim("a", 2)], LONG) == [in_flight(claim("a", 1))]


def test_what_is_done_is_remembered_with_its_result_for_its_holder_too(keys):
    first = claim("a", 1, "payload")
    keys.reserve([first], LONG)
    keys.settle([done(first, '{"total":3,"name":"Zoë"}')])
    found = remembered(first, '{"total":3,"name":"Zoë"}')
    assert keys.reserve([claim("a", 2, "other")], LONG) == [found]
    assert keys.reserve([first], LONG) == [found]


def test_what_is_done_without_a_result_has_none(keys):
    keys.reserve([claim("a")], LONG)
    keys.settle([done(claim("a"))])
    assert keys.reserve([claim("a", 2)], LONG) == [remembered(claim("a"))]


def test_a_released_key_is_anybodys(keys):
    keys.reserve([claim("a", 1)], LONG)
    keys.settle([KeyOutcome(claim("a", 1), "released")])
    assert keys.reserve([claim("a", 2)], LONG) == [None]


def test_nobody_settles_a_key_that_another_holds_or_that_is_done(keys):
    keys.reserve([claim("a", 1), claim("b", 1)], LONG)
    keys.settle([KeyOutcome(claim("a", 2), "released"), done(claim("b", 2), '"theirs"')])
    keys.settle([done(claim("b", 1), '"ours"')])
    keys.settle([KeyOutcome(claim("b", 1), "released")])
    assert keys.reserve([claim("a", 3), claim("b", 3)], LONG) == [
        in_flight(claim("a", 1)),
        remembered(claim("b", 1), '"ours"'),
    ]


def test_a_hold_ends_and_the_key_is_the_next_ones(keys):
    keys.reserve([claim("a", 1)], 0.05)
    wait_for_the_end(keys, claim("a", 2))
    keys.settle([done(claim("a", 1), '"late"')])
    assert keys.reserve([claim("a", 3)], LONG) == [in_flight(claim("a", 2))]


def test_what_is_remembered_is_forgotten_after_its_time(keys):
    keys.reserve([claim("a", 1)], LONG)
    keys.settle([done(claim("a", 1), seconds=0.05)])
    wait_for_the_end(keys, claim("a", 2))


def wait_for_the_end(keys, of):
    deadline = time.monotonic() + 10
    while keys.reserve([of], LONG) != [None]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_hold_that_has_ended_and_that_nobody_took_is_finished_by_its_holder(keys):
    keys.reserve([claim("a", 1)], 0.01)
    time.sleep(0.05)
    keys.settle([done(claim("a", 1), '"late"')])
    assert keys.reserve([claim("a", 2)], LONG) == [remembered(claim("a", 1), '"late"')]


def test_a_hold_is_prolonged_by_its_holder_alone_and_never_shortened(keys):
    keys.reserve([claim("a", 1), claim("b", 1), claim("c", 1)], 0.3)
    keys.prolong([claim("a", 1), claim("b", 2)], LONG)
    keys.settle([KeyOutcome(claim("c", 1), "held", LONG)])
    keys.prolong([claim("c", 1)], 0.01)
    keys.reserve([claim("c", 1)], 0.01)
    wait_for_the_end(keys, claim("b", 3))
    assert keys.reserve([claim("a", 2), claim("c", 2)], LONG) == [
        in_flight(claim("a", 1)),
        in_flight(claim("c", 1)),
    ]


def test_flows_do_not_share_keys(hands):
    shop, mill = hands("shop"), hands("mill")
    assert shop.reserve([claim("a", 1)], LONG) == [None]
    assert mill.reserve([claim("a", 2)], LONG) == [None]


def test_of_many_that_claim_at_once_each_key_has_one_that_gets_it(hands):
    """Eight hands claim the same keys in different orders: nobody waits for ever, none is shared."""
    names = [f"k{number}" for number in range(60)]
    got, errors = [], []
    barrier = threading.Barrier(8)

    def work(holder):
        hand = hands()
        order = names[holder * 7 :] + names[: holder * 7]
        barrier.wait()
        try:
            for start in range(0, 60, 20):
                claims = [claim(name, holder + 1) for name in order[start : start + 20]]
                for each, held in zip(claims, reserve(hand, claims), strict=True):
                    if held is None:
                        got.append(each.digest)
        except Exception as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    def reserve(hand, claims):
        while True:
            try:
                return hand.reserve(claims, LONG)
            except RetryableError:
                continue  # SQLite's writers wait for each other, and may be told to come again

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(got) == sorted(claim(name).digest for name in names)


# --- against a model --------------------------------------------------------------------------

NAMES, HOLDERS, PAYLOADS = ["a", "b", "c"], [1, 2, 3], ["x", "y"]
STRANGER = 9
ACTIONS = st.one_of(
    st.tuples(
        st.just("reserve"),
        st.lists(
            st.builds(
                claim, st.sampled_from(NAMES), st.sampled_from(HOLDERS), st.sampled_from(PAYLOADS)
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda each: each.digest,
        ),
    ),
    st.tuples(st.sampled_from(["done", "held", "released"]), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["expires", "stranger", "prolong"]), st.sampled_from(NAMES)),
)


class Model:
    """What keys do, in so few lines."""

    def __init__(self):
        self.keys = {}
        self.last = {}

    def reserve(self, claims):
        found = []
        for each in claims:
            held = self.keys.get(each.digest)
            if held is None or (held.holder, held.done) == (each.holder, False):
                self.keys[each.digest] = in_flight(each)
                self.last[each.digest] = each
                held = None
            found.append(held)
        return found

    def settle(self, each):
        digest = each.claim.digest
        if each.outcome == "released":
            self.keys.pop(digest, None)
            del self.last[digest]
        elif each.outcome == "held":
            self.keys[digest] = in_flight(each.claim)
        else:
            self.keys[digest] = remembered(each.claim, each.result)
            del self.last[digest]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_keys_do_what_the_model_does(hands, actions):
    model, flow = Model(), f"flow-{time.monotonic_ns()}"
    with closing(hands(flow)) as keys:
        for number, (kind, about) in enumerate(actions):
            if kind == "reserve":
                assert keys.reserve(about, LONG) == model.reserve(about)
                continue
            last = model.last.get(claim(about).digest)
            live = claim(about).digest in model.keys
            if kind == "stranger":
                if live:
                    stranger = claim(about, STRANGER)
                    keys.settle(
                        [done(stranger), KeyOutcome(stranger, "released")][number % 2 :][:1]
                    )
            elif kind == "expires":
                expire(keys, claim(about).digest)
                model.keys.pop(claim(about).digest, None)
            elif last is not None and kind == "prolong":
                keys.prolong([last], LONG)
            elif last is not None:
                outcome = KeyOutcome(last, kind, 0.0 if kind == "released" else LONG)
                outcome = done(last, str(number)) if kind == "done" else outcome
                keys.settle([outcome])
                model.settle(outcome)
        for name in NAMES:
            stranger = claim(name, STRANGER)
            assert keys.reserve([stranger], LONG) == model.reserve([stranger])


def expire(keys, digest):
    """Let a key's time be over at once."""
    if isinstance(keys, RedisKeys):
        keys.client.delete(f"{keys.prefix}{digest.hex()}")
        return
    keys._database.run(
        lambda connection: connection.exec_driver_sql(
            "UPDATE penstock_idempotency_keys SET expires_at = 1"
            f" WHERE flow = '{keys._flow}' AND digest = "
            + (
                f"x'{digest.hex()}'"
                if keys._database.dialect == "sqlite"
                else f"'\\x{digest.hex()}'"
            )
        )
    )


# --- in the state store -----------------------------------------------------------------------


@pytest.fixture
def state_keys(url, store):
    with closing(StateKeys(url, "shop")) as keys:
        yield keys


def test_a_key_is_done_when_its_settlement_is_stored_and_not_before(store, lease, state_keys):
    state_keys.reserve([claim("a"), claim("b"), claim("c")], LONG)
    settlement = Settlement(
        "p",
        Counts(done=1),
        keys=[done(claim("a"), "1"), KeyOutcome(claim("b"), "released")],
    )
    stranger = [claim("a", 2), claim("b", 2), claim("c", 2)]
    assert state_keys.reserve(stranger[:1], LONG) == [in_flight(claim("a"))]
    store.commit(lease, "orders", [settlement], {"0": "1"}, {})
    assert state_keys.reserve(stranger, LONG) == [
        remembered(claim("a"), "1"),
        None,
        in_flight(claim("c")),
    ]


def test_a_worker_that_has_lost_its_lease_finishes_no_key(store, lease, state_keys):
    state_keys.reserve([claim("a")], LONG)
    store.release_lease(lease)
    store.acquire_lease("shop", "orders/0", "another", 60.0)
    with pytest.raises(FatalError) as raised:
        store.commit(
            lease, "orders", [Settlement("p", Counts(done=1), keys=[done(claim("a"))])], {}, {}
        )
    assert raised.value.code == "lease_lost"
    assert state_keys.reserve([claim("a", 2)], LONG) == [in_flight(claim("a"))]


def test_keys_whose_time_is_long_over_are_pruned_and_no_others(store, state_keys):
    state_keys.reserve([claim(f"k{n}") for n in range(500)], LONG)
    for number in range(450):
        expire(state_keys, claim(f"k{number}").digest)
    nothing = {"dead_letters_before": {}, "history_before": None, "history_max_bytes": None}
    assert store.prune("mill", **nothing) == 0
    assert store.prune("shop", **nothing) == 450
    assert store.prune("shop", **nothing) == 0
    assert state_keys.reserve([claim("k499", 2)], LONG) == [in_flight(claim("k499"))]


class Told:
    """Another store of keys, which notes what it is told."""

    def __init__(self):
        self.outcomes = []

    def settle(self, outcomes):
        self.outcomes += outcomes


def test_what_another_store_was_not_told_before_a_crash_is_told_at_the_next_start(
    url, store, lease
):
    def settle(position, *outcomes):
        settlement = Settlement("p", Counts(done=1), keys_elsewhere=list(outcomes))
        store.commit(lease, "orders", [settlement], {"0": position}, {})

    told = Told()
    settle("1", done(claim("a"), '"ä"'))
    untold = [done(claim("b", 1, "x"), "2"), KeyOutcome(claim("c"), "released")]
    settle("2", *untold)
    with closing(NotedOutcomes(url, "shop", "another")) as of_another:
        of_another.tell(told)
    assert told.outcomes == []
    with closing(NotedOutcomes(url, "shop", "p")) as noted:
        noted.tell(told)
        assert told.outcomes == untold
        noted.tell(told)
        assert told.outcomes == untold


# --- Redis ------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_waited_for_and_comes_back_with_its_keys(valkey, redis_url):
    with closing(RedisKeys(redis_url, "shop")) as keys:
        keys.reserve([claim("a")], LONG)
        valkey.stop()
        with pytest.raises(RetryableError) as raised:
            keys.reserve([claim("b")], LONG)
        assert raised.value.code == "idempotency_unavailable"
        valkey.start_again()
        assert keys.reserve([claim("a", 2), claim("b", 2)], LONG) == [in_flight(claim("a")), None]


def test_a_preflight_asks_for_all_that_keys_need_and_changes_nothing(valkey, redis_url):
    with closing(RedisKeys(redis_url, "shop")) as keys, valkey.client() as client:
        assert [check.ok for check in keys.preflight()] == [True, True]
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            answers, kept = keys.preflight()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        assert (answers.ok, kept.ok, kept.severity) == (True, False, "warning")
        assert "allkeys-lru" in kept.found
        assert client.dbsize() == 0


def test_a_wrong_password_is_an_error_that_does_not_say_it(redis_url):
    url = redis_url.replace("redis://", "redis://someone:hunter2@")
    with closing(RedisKeys(url, "shop")) as keys, pytest.raises(FatalError) as raised:
        keys.reserve([claim("a")], LONG)
    assert raised.value.code == "idempotency_login_refused"
    assert "hunter2" not in str(raised.value)


def test_a_url_that_is_none_is_an_error():
    with pytest.raises(FatalError) as raised:
        RedisKeys("redis://host:port/zero", "shop")
    assert raised.value.code == "idempotency_url"


def test_a_key_whose_work_was_taken_back_is_free_and_one_of_another_is_not(
    store, lease, state_keys
):
    state_keys.reserve([claim("a"), claim("b", 2)], LONG)
    state_keys.settle([done(claim("a"), "1"), done(claim("b", 2), "2")])
    forgotten = [KeyOutcome(claim("a"), "forgotten"), KeyOutcome(claim("b", 1), "forgotten")]
    settlement = Settlement("p", Counts(failed=1), keys=forgotten)
    store.commit(lease, "orders", [settlement], {"0": "1"}, {})
    assert state_keys.reserve([claim("a", 3), claim("b", 3)], LONG) == [
        None,
        remembered(claim("b", 2), "2"),
    ]
