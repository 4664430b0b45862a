"""Once per key: what comes again is skipped, waits, or is refused; through crashes, in each store."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import pytest

from tests.flows.runtime.ordering import REFUSED, UNAVAILABLE, Ordering, Orders
from tests.flows.runtime.running import FlowFolder, step, wait_for
from tests.services.fixtures import fresh_database
from tests.transforms.steps.answering import serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def service():
    with serving() as receiver:
        yield Orders(receiver)


@pytest.fixture
def ordering(flow, kafka, service):
    return Ordering(flow, kafka, service)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "valkey"])
def stored(request, ordering):
    """The flow with its keys in each of the stores."""
    if request.param == "postgresql":
        ordering.flow.state_url = request.getfixturevalue("database")
    elif request.param == "valkey":
        ordering.key["store"] = request.getfixturevalue("redis_url")
    ordering.write_flow()
    return ordering


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "valkey"],
)
def done_twice(request, tmp_path_factory, kafka):
    """Two batches, in each of the stores, with everything that a key may come to meanwhile.

    Orders below 100 come again as they were, order 100 with other data, and order 200 fails once.
    """
    flow = FlowFolder(tmp_path_factory.mktemp("done_twice"))
    with ExitStack() as opened:
        opened.callback(flow.end)
        ordering = Ordering(flow, kafka, Orders(opened.enter_context(serving())))
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres")
            flow.state_url = opened.enter_context(fresh_database(server))
        elif request.param == "valkey":
            server = request.getfixturevalue("valkey")
            with server.client() as client:
                client.flushall()
            ordering.key["store"] = server.url
        ordering.write_flow()
        ordering.service.answers = lambda order, tries: (
            REFUSED if (order, tries) == (200, 1) else None
        )
        ordering.send(*range(10), *range(10), 3, 3)
        ordering.send(100)
        ordering.send(100, note="another")
        ordering.send(200, 200, 200)
        flow.catch_up()
        ordering.send(*range(5), *range(10, 15))
        ordering.send(100, note="a third")
        flow.catch_up()
        yield ordering


def codes(ordering, order):
    """The errors of the dead letters of an order."""
    letters = ordering.flow.letters()
    return [e.error_code for e in letters if json.loads(e.event)["data"]["order"] == order]


def test_each_key_is_done_once_within_a_batch_and_across(done_twice):
    calls = done_twice.service.calls
    assert {order: calls[order] for order in range(15)} == dict.fromkeys(range(15), 1)
    assert sorted(done_twice.published()) == [*range(15), 100, 200]
    assert len(done_twice.flow.letters()) == 3, "none but those of the tests below"
    assert done_twice.flow.totals() == {"ordering": (15 + 2, 2 + 1, 17 + 1)}


def test_the_same_key_with_other_data_is_a_dead_letter_and_not_a_silent_skip(done_twice):
    assert done_twice.service.calls[100] == 1
    assert codes(done_twice, 100) == ["idempotency_key_reused"] * 2


def test_what_fails_for_good_releases_its_key(done_twice):
    assert done_twice.service.calls[200] == 2
    assert done_twice.published().count(200) == 1
    assert len(codes(done_twice, 200)) == 1


def test_a_duplicate_links_to_its_original_and_has_its_result(ordering):
    ordering.write_flow()
    ordering.send(1, 2, 1)
    ordering.flow.catch_up()
    ordering.send(2)
    ordering.flow.catch_up()
    done = ordering.done()
    results = {line["data"]["order"]: line["data"] for line in ordering.flow.lines()}
    assert sorted(ordering.duplicates()) == sorted((done[n], results[n]) for n in (1, 2))


def test_a_dead_letter_that_is_replayed_has_its_key_again(ordering):
    ordering.write_flow()
    ordering.service.answers = lambda order, tries: REFUSED if tries == 1 else None
    ordering.send(1)
    ordering.flow.catch_up()
    answer = ordering.flow.penstock("dlq", "replay", "--all", "--yes", str(ordering.flow.path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    ordering.send(1)
    ordering.flow.catch_up()
    assert ordering.service.calls == {1: 2}
    assert ordering.published() == [1]
    assert ordering.flow.letters() == []


def test_what_waits_to_be_tried_again_keeps_its_key_and_others_wait_for_it(stored):
    mended = threading.Event()
    stored.service.answers = lambda order, tries: (
        UNAVAILABLE if order == 1 and not mended.is_set() else None
    )
    stored.write_flow(order="none")
    run = stored.flow.start()
    stored.send(1)
    wait_for(lambda: stored.service.calls[1] >= 2, "a first try that failed")
    stored.send(1, partition=1)
    stored.send(2)
    wait_for(lambda: stored.published() == [2], "the event of another key")
    mended.set()
    wait_for(lambda: sorted(stored.published()) == [1, 2], "the event that waited")
    wait_for(lambda: stored.flow.totals() == {"ordering": (2, 0, 1)}, "the duplicate")
    assert run.stop() == 0, run.text()
    assert stored.service.effects == {1: 1, 2: 1}


def test_an_event_without_a_key_is_a_dead_letter(ordering):
    ordering.write_flow(idempotency={"key_template": "{{ .data.customer }}"})
    ordering.send(1)
    ordering.send(2, customer="")
    ordering.send(3, customer="c")
    ordering.flow.catch_up()
    assert ordering.published() == [3]
    codes = [letter.error_code for letter in ordering.flow.letters()]
    assert codes == ["idempotency_key", "idempotency_key"]


def test_tenants_do_not_share_keys(ordering):
    ordering.write_flow(tenant=".data.tenant")
    ordering.send(1, tenant="a")
    ordering.send(1, tenant="b")
    ordering.send(1, tenant="a")
    ordering.flow.catch_up()
    assert ordering.service.calls == {1: 2}
    assert ordering.flow.totals() == {"ordering": (2, 0, 1)}


# --- workers, crashes, and stores that are away -----------------------------------------------


@pytest.mark.postgres
def test_workers_that_share_a_state_do_each_key_once(ordering, database):
    """The same orders in both partitions, so that each worker has each of them."""
    ordering.flow.state_url = database
    ordering.write_flow(order="none")
    ordering.send(*range(100))
    ordering.send(*reversed(range(100)), partition=1)
    run = ordering.flow.start("--until-caught-up", "--workers", "2")
    assert run.wait(90) == 0, run.text()
    assert ordering.service.effects == dict.fromkeys(range(100), 1)
    assert sorted(ordering.published()) == list(range(100))
    assert ordering.flow.totals() == {"ordering": (100, 0, 100)}


@pytest.mark.parametrize(
    ("point", "keys_in"),
    [
        ("after_effects_before_settle", "state"),
        ("after_settle_before_checkpoint", "state"),
        ("after_effects_before_settle", "redis"),
        ("before_keys_are_told", "redis"),
        ("after_checkpoint_before_acknowledge", "redis"),
    ],
)
def test_a_kill_leaves_no_key_held_for_nothing_and_none_that_was_done_forgotten(
    ordering, request, point, keys_in
):
    if keys_in == "redis":
        ordering.key["store"] = request.getfixturevalue("redis_url")
    # The call is idempotent itself: what a kill repeats, the service knows by its key.
    ordering.write_flow({"idempotency_key": "{{ .data.order }}"})
    ordering.send(*range(5), *range(5))
    ordering.flow.killed_at(point)
    ordering.flow.catch_up()
    ordering.send(*range(7))
    ordering.flow.catch_up()
    assert ordering.service.effects == dict.fromkeys(range(7), 1)
    assert sorted(ordering.published()) == list(range(7))
    assert ordering.flow.totals() == {"ordering": (7, 0, 10)}


def test_a_redis_that_is_away_holds_the_flow_back_and_nothing_is_lost_or_twice(
    ordering, valkey, redis_url
):
    ordering.key["store"] = redis_url
    ordering.write_flow()
    run = ordering.flow.start("--log-format", "json")
    ordering.send(*range(10))
    wait_for(lambda: len(ordering.published()) == 10, "the first events")
    valkey.stop()
    ordering.send(*range(20))
    run.wait_for_lines("idempotency store")
    assert len(ordering.published()) == 10
    valkey.start_again()
    wait_for(lambda: ordering.flow.totals() == {"ordering": (20, 0, 10)}, "all events")
    assert run.stop() == 0, run.text()
    assert ordering.service.effects == dict.fromkeys(range(20), 1)


# --- steps ------------------------------------------------------------------------------------


ONCE = {"idempotent": True, "idempotency_key": "call_{{ .data.order }}"}


@pytest.fixture
def once(ordering):
    """The call alone is idempotent, and not the pipeline."""
    ordering.key = None
    ordering.write_flow(ONCE)
    return ordering


def test_a_step_acts_once_per_key_and_others_get_its_output(once):
    once.send(*range(10), *range(10))
    once.flow.catch_up()
    once.send(3, 11, 3)
    once.flow.catch_up()
    assert once.service.calls == dict.fromkeys([*range(10), 11], 1)
    assert sorted(once.published()) == sorted([*range(10), *range(10), 3, 11, 3])
    lines = [line["data"] for line in once.flow.lines()]
    assert {(line["order"], line["receipt"]) for line in lines} == {
        (order, once.service.keys[f"call_{order}"]) for order in [*range(10), 11]
    }


def test_a_step_that_fails_for_now_is_tried_again_under_its_key_while_others_wait(once):
    once.write_flow(ONCE, order="none")
    mended = threading.Event()
    once.service.answers = lambda order, tries: None if mended.is_set() else UNAVAILABLE
    run = once.flow.start()
    once.send(1)
    wait_for(lambda: once.service.calls[1] == 1, "a first try")
    once.send(1, partition=1)
    mended.set()
    wait_for(lambda: once.published() == [1, 1], "both events")
    assert run.stop() == 0, run.text()
    assert once.service.effects == {1: 1}
    assert once.flow.totals() == {"ordering": (2, 0, 0)}


def test_a_step_that_fails_for_good_releases_its_key(once):
    once.service.answers = lambda order, tries: REFUSED if tries == 1 else None
    once.send(1, 1)
    once.flow.catch_up()
    assert (once.service.calls, once.published()) == ({1: 2}, [1])
    assert once.flow.totals() == {"ordering": (1, 1, 0)}


@pytest.mark.parametrize(
    ("point", "repeats"),
    [("after_idempotent_effect", True), ("after_effects_before_settle", False)],
)
def test_a_kill_after_a_steps_effect_shows_the_service_no_second_one(once, point, repeats):
    """What was stored is not called again; what was not is, under the same key."""
    once.write_flow({"idempotent": True})
    once.send(*range(20))
    once.flow.killed_at(point)
    once.flow.catch_up()
    assert once.service.effects == dict.fromkeys(range(20), 1)
    assert (once.service.calls.total() > 20) is repeats
    assert sorted(once.published()) == list(range(20))
    assert once.flow.totals() == {"ordering": (20, 0, 0)}


@pytest.mark.postgres
def test_workers_that_share_a_state_let_a_step_act_once_per_key(once, database):
    once.flow.state_url = database
    once.write_flow(ONCE, order="none")
    once.send(*range(100))
    once.send(*reversed(range(100)), partition=1)
    run = once.flow.start("--until-caught-up", "--workers", "2")
    assert run.wait(90) == 0, run.text()
    assert once.service.calls == dict.fromkeys(range(100), 1)
    assert sorted(once.published()) == sorted([*range(100), *range(100)])


def test_items_of_a_loop_have_keys_of_their_own(ordering):
    ordering.key = None
    call = {
        "method": "POST",
        "url": f"{ordering.service.receiver.url}/line",
        "body": {"order": "{{ .item }}"},
        "idempotent": True,
    }
    loop = {"collection": "data.lines", "steps": [step("charge", "http_call", call)]}
    ordering.write_flow(steps=[step("lines", "foreach", loop)])
    ordering.send(100, lines=[1, 2, 3, 1])
    ordering.flow.catch_up()
    assert ordering.service.effects == {100: 1, 1: 2, 2: 1, 3: 1}


def test_a_step_that_a_saga_has_undone_acts_again_when_its_event_is_replayed(ordering):
    url = ordering.service.receiver.url
    ordering.key = None
    refund = {"method": "POST", "url": f"{url}/refund", "body": {"order": "refund"}}
    check = {"method": "POST", "url": f"{url}/check", "body": {"order": "check"}}
    ordering.service.answers = lambda order, tries: (
        REFUSED if (order, tries) == ("check", 1) else None
    )
    ordering.write_flow(
        {"idempotent": True, "idempotency_key": "{{ .data.order }}"},
        steps=[step("check", "http_call", check)],
        undo={"type": "step.http_call", "config": refund},
        saga={"enabled": True},
    )
    ordering.send(1)
    ordering.flow.catch_up()
    assert ordering.service.calls == {1: 1, "check": 1, "refund": 1}
    answer = ordering.flow.penstock("dlq", "replay", "--all", "--yes", str(ordering.flow.path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert ordering.service.calls == {1: 2, "check": 2, "refund": 1}
    assert ordering.flow.letters() == []
