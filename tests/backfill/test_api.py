"""Backfills over HTTP, in processes of their own."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
import pytest

from flows.plan import load_flow
from penstock.api.live import Live
from penstock.api.serving import ApiServer, bind
from tests.backfill.past import at, orders
from tests.flows.runtime.running import wait_for

pytestmark = [pytest.mark.slow]


@contextmanager
def client_of(past):
    api = ApiServer(load_flow([past.path]), Live(), bind("127.0.0.1:0"))
    api.start()
    try:
        with httpx.Client(base_url=api.url, timeout=30.0) as client:
            yield client
    finally:
        api.close()


BODY = {"pipeline": "price", "source": "orders", "from": at(0), "to": at(50)}


def test_a_backfill_is_asked_for_followed_and_reported_over_http(past):
    past.record(orders(0, 100))
    with client_of(past) as client:
        body = {
            **BODY,
            "filter": {"event_type": "order.created", "data.n": {"$gte": 10}},
            "mode": "shadow",
            "concurrency": 10,
            "rate_limit": "100000/s",
        }
        asked = client.post("/api/v1/backfill", json=body)
        assert asked.status_code == 202, asked.text
        path = f"/api/v1/backfill/{asked.json()['id']}"
        wait_for(lambda: client.get(path).json()["status"] == "done", "its end", 120)
        (listed,) = client.get("/api/v1/backfill").json()["backfills"]
        assert (listed["from"], listed["to"]) == (
            "2026-01-09T12:00:00.000Z",
            "2026-01-09T12:00:50.000Z",
        )
        assert listed["requested_by"] == "somebody (API)"
        report = client.get(f"{path}/report").json()["report"]
        assert (report["read"], report["left_out"]) == (50, 10)
        assert report["comparison"]["executions"]["identical"] == 40
        page = client.get(f"{path}/report.html")
        assert page.headers["content-type"].startswith("text/html")
        assert "come out as recorded" in page.text
        over = client.post(f"{path}/pause")
        assert (over.status_code, over.json()["code"]) == (409, "backfill_over")


def test_one_that_waits_is_cancelled_over_http(past):
    past.record(orders(0, 10))
    job = past.ask()
    with client_of(past) as client:
        path = f"/api/v1/backfill/{job.id}"
        assert client.post(f"{path}/pause").json()["status"] == "paused"
        assert client.post(f"{path}/cancel").json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"pipeline": "price"}, 422, None),
        ({**BODY, "mode": "wet"}, 422, None),
        ({**BODY, "to": at(0)}, 422, "backfill_window"),
        ({**BODY, "pipeline": "prize"}, 404, "unknown_pipeline"),
        ({**BODY, "filter": {"data.n": {"$near": 1}}}, 422, "backfill_filter"),
        ({**BODY, "offline": True, "mode": "live"}, 422, None),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(past, body, status, code):
    with client_of(past) as client:
        refused = client.post("/api/v1/backfill", json=body)
        assert refused.status_code == status, refused.text
        assert code in {None, refused.json()["code"]}
        assert client.get("/api/v1/backfill").json()["backfills"] == []


def test_one_that_is_not_there_is_told(past):
    with client_of(past) as client:
        for name in ("7", "seven", "9" * 30):
            missing = client.get(f"/api/v1/backfill/{name}")
            assert (missing.status_code, missing.json()["code"]) == (404, "backfill_unknown")
