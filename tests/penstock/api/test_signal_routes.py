"""Signals over HTTP: recorded for the workers, refused for what has ended."""

from __future__ import annotations

import pytest

from connectors.batch import Batch
from flows.state.bodies import encode_each
from tests.flows.state.samples import chunk, commit, encode_chunk, parked, settlement
from tests.penstock.api.served import problem
from transforms.executions import Executions

ALL = "/api/v1/executions"


def executions(number):
    columns = {
        "raw": [b'{"total":%d}' % number],
        "id": [f"e{number}"],
        "source": ["/s"],
        "type": ["order.placed"],
        "partition": ["orders/0"],
        "position": [str(number)],
        "timestamp": [1000.0 * number],
    }
    return Executions(Batch(1, columns, after={}), "enrich", started=5000.0)


@pytest.fixture
def waits(store, lease):
    """The id of one that waits."""
    settled = settlement(0)
    settled.parked.append(parked(1, body=encode_each(executions(1), [0])[0]))
    commit(store, lease, [settled])
    return settled.parked[0].place.id


@pytest.mark.parametrize("name", ["pause", "resume", "retry", "skip", "cancel"])
def test_a_signal_is_recorded_with_who_asked_and_why(served, waits, store, name):
    answer = served.client.post(f"{ALL}/{waits}/{name}", json={"reason": "ordered twice"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["signal"], told["status"], told["pipeline"]) == (name, "waiting", "enrich")
    assert (told["requested_by"], told["reason"]) == ("somebody (API)", "ordered twice")
    assert served.client.get(f"{ALL}/{waits}").json()["signals"] == [told]
    events = served.client.get(f"{ALL}/{waits}/events").json()["events"]
    assert [each["event_type"] for each in events][-1] == "signal.requested"
    (found,) = store.signals.open("shop", "orders")
    assert found.execution == waits


def test_all_that_is_left_may_be_skipped(served, waits):
    answer = served.client.post(f"{ALL}/{waits}/skip", json={"execution": True})
    assert answer.json()["signal"] == "skip_execution"
    assert served.client.post(f"{ALL}/{waits}/skip").json()["signal"] == "skip"


def test_what_has_ended_or_is_nowhere_obeys_nothing(served, store, lease):
    made = executions(2)
    history = chunk(encode_chunk(made, meta={}), first_time=2000.0, last_time=2000.0, skipped=0)
    commit(store, lease, [settlement(1, history=history)])
    (ended,) = made.ids_of([0])
    answer = served.client.post(f"{ALL}/{ended}/cancel")
    assert problem(answer) == (409, "execution_ended")
    answer = served.client.post(f"{ALL}/01a1fcd0/cancel")
    assert problem(answer) == (404, "execution_unknown")
    store.release_lease(lease)
    answer = served.client.post(f"{ALL}/01a1fcd0-3d1c-7b10-9f3e-0c2d7f1d2a11/cancel")
    assert problem(answer) == (409, "execution_not_running")


def test_a_pipeline_is_started_by_hand(served, store):
    body = {"pipeline": "enrich", "data": {"total": 12}, "key": "k", "type": "order.created"}
    answer = served.client.post(ALL, json=body)
    assert answer.status_code == 202, answer.text
    replay = answer.json()
    assert (replay["total"], replay["created_by"]) == (1, "somebody (API)")
    (entry,) = store.replays.entries(replay["id"], 9)
    assert (entry.pipeline, entry.status) == ("enrich", "waiting")
    unknown = served.client.post(ALL, json={"pipeline": "x", "data": 1})
    assert problem(unknown) == (404, "unknown_pipeline")


@pytest.mark.parametrize("name", ["idempotency_key", "idempotencyKey"])
def test_the_same_key_again_is_answered_with_the_first_start(served, store, name):
    body = {"pipeline": "enrich", "data": {"total": 12}, name: "order_7"}
    first, again = (served.client.post(ALL, json=body).json() for _ in range(2))
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["execution_id"] == first["execution_id"]
    other = served.client.post(ALL, json={**body, "pipeline": "audit"}).json()
    assert other["repeated"] is False
    assert len(store.replays.newest("shop", 9)) == 2
    refused = served.client.post(ALL, json={**body, name: ""})
    assert problem(refused) == (422, "trigger_key")
