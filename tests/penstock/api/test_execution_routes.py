"""Executions over HTTP: listed, shown, and run again."""

from __future__ import annotations

import pytest

from connectors.batch import Batch
from tests.flows.state.samples import chunk, commit, encode_chunk, settlement
from tests.penstock.api.served import problem
from transforms.executions import Executions

ALL = "/api/v1/executions"


@pytest.fixture
def ids(store, lease):
    """Three orders that went through `enrich`."""
    numbers = range(1, 4)
    columns = {
        "raw": [b'{"total":%d}' % n for n in numbers],
        "id": [f"e{n}" for n in numbers],
        "source": ["/s"] * 3,
        "type": ["order.placed"] * 3,
        "partition": ["orders/0"] * 3,
        "position": [str(n) for n in numbers],
        "timestamp": [1000.0 * n for n in numbers],
    }
    made = Executions(Batch(3, columns, after={}), "enrich", started=5000.0)
    made.outputs["charge"] = [{"total": n} for n in numbers]
    history = chunk(
        encode_chunk(made, meta={}), first_time=1000.0, last_time=3000.0, count=3, skipped=0
    )
    commit(store, lease, [settlement(3, history=history)])
    return made.ids_of(range(3))


def test_a_list_pages_and_filters(served, ids):
    first = served.client.get(ALL, params={"limit": 2}).json()
    assert [each["event_id"] for each in first["executions"]] == ["e3", "e2"]
    rest = served.client.get(ALL, params={"cursor": first["cursor"]}).json()
    assert [each["id"] for each in rest["executions"]] == ids[:1]
    assert rest["cursor"] is None
    found = served.client.get(ALL, params={"where": ".data.total == 2"}).json()
    assert [each["event_id"] for each in found["executions"]] == ["e2"]
    assert problem(served.client.get(ALL, params={"cursor": "x"})) == (422, "cursor_unknown")
    assert problem(served.client.get(ALL, params={"pipeline": "x"})) == (404, "unknown_pipeline")


def test_one_is_shown_by_its_id(served, ids):
    shown = served.client.get(f"{ALL}/{ids[1]}").json()
    assert shown["event"]["data"] == {"total": 2}
    steps = served.client.get(f"{ALL}/{ids[1]}/timeline").json()["steps"]
    assert [each["name"] for each in steps] == ["charge"]
    assert problem(served.client.get(f"{ALL}/{'0' * 36}")) == (404, "execution_unknown")


def test_a_replay_is_asked_for_once_and_called_off_without_a_trace(served, ids, store):
    path = f"{ALL}/{ids[0]}/replay"
    answer = served.client.post(path, json={"mode": "modified", "edit": ".total = 7"})
    assert answer.status_code == 202, answer.text
    replay = answer.json()
    assert (replay["total"], replay["status"], replay["edit"]) == (1, "running", ".total = 7")
    (letter,) = store.dead_letter("shop", ids[0])
    assert (letter.error_code, letter.status) == ("replay_requested", "replaying")
    assert problem(served.client.post(path)) == (409, "dead_letter_replaying")
    cancelled = served.client.post(f"/api/v1/dlq/replays/{replay['id']}/cancel").json()
    assert (cancelled["status"], cancelled["returned"]) == ("cancelled", 1)
    assert store.dead_letter("shop", ids[0]) == []


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "modified"},
        {"edit": ".total = 7"},
        {"mode": "step_from"},
        {"mode": "exact", "from_step": "charge"},
        {"record_as": "first"},
        {"mode": "modified", "edit": ".["},
    ],
)
def test_what_does_not_fit_the_mode_is_refused(served, ids, store, body):
    answer = served.client.post(f"{ALL}/{ids[0]}/replay", json=body)
    assert answer.status_code in {400, 422}
    assert store.dead_letter("shop", ids[0]) == []


def test_an_edit_that_fails_leaves_no_dead_letter(served, ids, store):
    body = {"mode": "modified", "edit": "error"}
    answer = served.client.post(f"{ALL}/{ids[0]}/replay", json=body)
    assert problem(answer) == (422, "edit_failed")
    assert store.dead_letter("shop", ids[0]) == []
