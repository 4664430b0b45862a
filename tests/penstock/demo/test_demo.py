"""The demo without its flow: everything around it, with a stand-in at the seam `RunFlow`."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import httpx
import orjson
import psycopg
import pytest

from connectors.errors import FatalError
from penstock.demo import FLOW, INTERRUPTED, run_demo
from penstock.demo.published import PublishedEvents
from penstock.embedded import postgres as embedded

REPOSITORY = Path(__file__).parents[3]


def enriched(number, **data):
    row = {"number": number, "status": "paid", "total": "12.40", "currency": "EUR", **data}
    customer = {"name": "Ada Abara", "tier": "gold"}
    event = {"type": "order.enriched", "data": {**row, "basket": {"pieces": 2}}}
    event["data"]["customer"] = customer
    return orjson.dumps(event) + b"\n"


@pytest.mark.postgres
def test_the_flow_finds_a_changing_shop_and_its_customer_service():
    seen = {}

    def run_flow(files, variables):
        seen["flow"] = files[0].read_text()
        seen["folder"] = Path(variables["SHOP_OUT"])
        with psycopg.connect(variables["SHOP_DATABASE_URL"], autocommit=True) as connection:
            assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
            rows = "SELECT count(*), max(xmin::text::bigint) FROM orders"
            first = connection.execute(rows).fetchone()
            deadline = time.monotonic() + 20
            while connection.execute(rows).fetchone() == first:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            (customer_id,) = connection.execute(
                "SELECT customer_id FROM orders WHERE customer_id IS NOT NULL LIMIT 1"
            ).fetchone()
        url = f"{variables['CUSTOMER_SERVICE_URL']}/api/customers/{customer_id}"
        deadline = time.monotonic() + 20
        while (answer := httpx.get(url, trust_env=False)).status_code != 200:
            assert time.monotonic() < deadline
        assert str(customer_id) in answer.text
        (seen["folder"] / "order.enriched.jsonl").write_bytes(enriched(1) + enriched(2))
        return 4

    said = []
    assert run_demo(run_flow, rate=200, say=said.append) == 4
    text = "\n".join(said)
    assert seen["flow"] == FLOW.read_text()
    assert "penstock dlq list" in text
    assert "The flow published 2 events." in text
    assert not seen["folder"].exists()


@pytest.mark.postgres
def test_what_is_kept_is_named_and_still_there(monkeypatch):
    said = []
    folders = []

    def run_flow(files, variables):
        folders.append(files[0].parent)
        return 0

    try:
        assert run_demo(run_flow, keep=True, say=said.append) == 0
        assert said[-1] == f"Kept: {folders[0]}"
        assert (folders[0] / "shop.yaml").read_text() == FLOW.read_text()
    finally:
        for folder in folders:
            shutil.rmtree(folder)


@pytest.mark.postgres
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_the_flow_stops_everything_without_a_traceback(number):
    seen = {}

    def run_flow(files, variables):
        seen.update(variables)
        os.kill(os.getpid(), number)
        time.sleep(30)
        return 0

    before = set(threading.enumerate())
    assert run_demo(run_flow, say=lambda _: None) == INTERRUPTED
    assert not Path(seen["SHOP_OUT"]).exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(seen["SHOP_DATABASE_URL"], connect_timeout=2)
    assert set(threading.enumerate()) <= before


def test_without_the_wheel_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(FatalError, match="pip install"):
        run_demo(lambda files, variables: 0, say=lambda _: None)


def test_published_events_are_counted_once_over_rotation_and_half_lines(tmp_path):
    path = tmp_path / "order.enriched.jsonl"
    published = PublishedEvents(tmp_path, lambda _: None)
    assert published.look() is None
    path.write_bytes(enriched(1) + enriched(2)[:20])
    assert published.look() == ("order.enriched  #1 paid: 2 pieces, 12.40 EUR, Ada Abara (gold)")
    with path.open("ab") as file:
        file.write(enriched(2)[20:])
    path.rename(tmp_path / "order.enriched.000001.jsonl")
    deleted = {"type": "order.deleted", "data": {"id": "7"}}
    (tmp_path / "order.deleted.jsonl").write_bytes(orjson.dumps(deleted) + b"\n")
    assert published.look() is not None
    assert published.count == 3
    assert published.look() is None


def test_the_example_in_the_repository_is_the_one_in_the_wheel():
    assert (REPOSITORY / "examples" / "shop.yaml").read_bytes() == FLOW.read_bytes()
