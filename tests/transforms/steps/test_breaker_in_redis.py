"""Circuits that workers share through Redis, on a real Valkey."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from transforms.steps.breaker import Breaker, SharedCircuit
from transforms.steps.circuit import Rules

RULES = Rules(failure_threshold=5, success_threshold=2, timeout=0.05, probe_timeout=10.0)
SLOW = Rules(failure_threshold=5, success_threshold=2, timeout=60.0, probe_timeout=10.0)


def workers(redis_url, rules, count=2):
    key = f"test:{uuid4().hex}"
    return [Breaker("api", rules, SharedCircuit(redis_url, key)) for _ in range(count)]


async def failing(breaker, times):
    for _ in range(times):
        name, _ = await breaker.enter()
        await breaker.leave(name, "failure", "it answered 503")


async def verdict_of(breaker, wanted):
    """Look until the breaker says so: another worker's change is seen within a moment."""
    for _ in range(200):
        name, entry = await breaker.enter()
        if entry.verdict == wanted:
            return name
        if entry.verdict == "probe":
            await breaker.leave(name, "neither")
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never said {wanted}")


def test_failures_of_all_workers_count_together(redis_url):
    async def scene():
        one, other = workers(redis_url, SLOW)
        await failing(one, 3)
        assert (await other.enter())[1].verdict == "call"
        await failing(other, 2)
        await verdict_of(one, "refused")
        await verdict_of(other, "refused")
        assert "is open" in one.status
        for each in (one, other):
            await each.close()

    asyncio.run(scene())


def test_a_new_worker_finds_it_open(redis_url):
    async def scene():
        key = f"test:{uuid4().hex}"
        one = Breaker("api", SLOW, SharedCircuit(redis_url, key))
        await failing(one, 5)
        late = Breaker("api", SLOW, SharedCircuit(redis_url, key))
        assert (await late.enter())[1].verdict == "refused"
        for each in (one, late):
            await each.close()

    asyncio.run(scene())


def test_probes_are_shared_out_and_their_successes_close_it_for_all(redis_url):
    async def scene():
        one, other = workers(redis_url, RULES)
        await failing(one, 5)
        first = await verdict_of(one, "probe")
        second = await verdict_of(other, "probe")
        third = asyncio.create_task(one.enter())
        await asyncio.sleep(0)
        await one.leave(first, "success")
        await other.leave(second, "success")
        assert (await asyncio.wait_for(third, 10))[1].verdict == "call"
        assert one.status == ""
        await verdict_of(other, "call")
        for each in (one, other):
            await each.close()

    asyncio.run(scene())


def test_many_failures_at_once_are_each_counted(redis_url):
    async def scene():
        rules = Rules(failure_threshold=40, success_threshold=1, timeout=60.0, probe_timeout=10.0)
        both = workers(redis_url, rules)
        await asyncio.gather(*(failing(each, 4) for each in both for _ in range(5)))
        for each in both:
            await verdict_of(each, "refused")
            await each.close()

    asyncio.run(scene())


def test_without_redis_each_worker_goes_by_what_it_sees_itself(valkey, redis_url):
    async def scene():
        one, other = workers(redis_url, SLOW)
        await failing(one, 1)
        valkey.stop()
        await failing(one, 5)
        assert (await one.enter())[1].verdict == "refused"
        assert (await other.enter())[1].verdict == "call"
        for each in (one, other):
            await each.close()

    asyncio.run(scene())


def test_the_url_with_its_password_is_in_no_log(redis_url, capfd):
    url = redis_url.replace("redis://", "redis://user:hunter2@")

    async def scene():
        (one,) = workers(url, SLOW, 1)
        await failing(one, 5)  # the server knows no such user
        assert "is open" in one.status
        await one.close()

    asyncio.run(scene())
    said = capfd.readouterr()
    assert "can't be shared" in said.out + said.err
    assert "hunter2" not in said.out + said.err
