from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from penstock.demo.service import CustomerService, Misbehaviour
from penstock.demo.shop import Customer

ADA = Customer("1", "Ada Abara", "ada@example.com", "gold")
KNOWN = {
    str(n): Customer(str(n), f"Customer {n}", f"{n}@example.com", "standard") for n in range(9)
}
FAULTLESS = Misbehaviour(slow=0, error=0, garbage=0, missing=0)


def always(**share):
    return Misbehaviour(**{"slow": 0, "error": 0, "garbage": 0, "missing": 0, **share})


def ask(service, customer_id="1"):
    return httpx.get(f"{service.url}/api/customers/{customer_id}", trust_env=False, timeout=10)


def test_a_customer_is_answered_as_json():
    with CustomerService({"1": ADA}.get, misbehaviour=FAULTLESS) as service:
        answer = ask(service)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "id": "1",
        "name": "Ada Abara",
        "email": "ada@example.com",
        "tier": "gold",
    }


@pytest.mark.parametrize("path", ["/api/customers/2", "/api/customers/", "/", "/api/orders/1"])
def test_what_is_not_known_is_not_found(path):
    with CustomerService({"1": ADA}.get, misbehaviour=FAULTLESS) as service:
        assert httpx.get(service.url + path, trust_env=False, timeout=10).status_code == 404


@pytest.mark.parametrize(("mood", "status"), [("error", 500), ("missing", 404)])
def test_a_wrong_answer_is_wrong_in_its_status(mood, status):
    with CustomerService({"1": ADA}.get, misbehaviour=always(**{mood: 1})) as service:
        assert ask(service).status_code == status
        assert service.answered == {mood: 1}


def test_a_garbage_answer_says_it_is_json_and_is_not():
    with CustomerService({"1": ADA}.get, misbehaviour=always(garbage=1)) as service:
        answer = ask(service)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


def test_a_slow_answer_is_right_all_the_same():
    slow = Misbehaviour(slow=1, slow_seconds=0.05, error=0, garbage=0, missing=0)
    with CustomerService({"1": ADA}.get, misbehaviour=slow) as service:
        assert ask(service).json()["name"] == "Ada Abara"
        assert service.answered == {"slow": 1}


@pytest.mark.slow
def test_the_same_seed_misbehaves_the_same_in_whatever_order_requests_come():
    third = Misbehaviour(slow=0, error=0.2, garbage=0.2, missing=0.2)

    def statuses(seed, threads):
        with CustomerService(KNOWN.get, seed=seed, misbehaviour=third) as service:
            with ThreadPoolExecutor(threads) as pool:
                answers = list(pool.map(lambda key: (key, ask(service, key)), list(KNOWN) * 5))
            return sorted((key, answer.status_code, answer.content) for key, answer in answers)

    assert statuses(seed=3, threads=1) == statuses(seed=3, threads=4)
    assert statuses(seed=3, threads=1) != statuses(seed=4, threads=1)


def test_shares_of_moods_are_as_asked_for():
    service = CustomerService(
        KNOWN.get, misbehaviour=Misbehaviour(slow=0.5, error=0.25, garbage=0, missing=0)
    )
    with service:
        moods = [service.mood(key, turn) for key in KNOWN for turn in range(200)]
    assert 0.45 < moods.count("slow") / len(moods) < 0.55
    assert 0.2 < moods.count("error") / len(moods) < 0.3
    assert moods.count("garbage") == moods.count("missing") == 0


def test_it_ends_with_connections_open_and_answers_under_way_and_leaves_no_thread():
    before = set(threading.enumerate())
    slow = Misbehaviour(slow=1, slow_seconds=60, error=0, garbage=0, missing=0)
    with httpx.Client(trust_env=False, timeout=30) as idle, ThreadPoolExecutor(1) as pool:
        with CustomerService({"1": ADA}.get, misbehaviour=slow) as service:
            assert idle.get(f"{service.url}/nothing").status_code == 404
            under_way = pool.submit(ask, service)
            while not service.answered:
                assert not under_way.done()
        assert under_way.result(10).json()["name"] == "Ada Abara"
    assert set(threading.enumerate()) <= before
