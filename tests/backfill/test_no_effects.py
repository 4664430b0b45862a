"""Dry runs and shadows have no effect: every sink, service and table in here counts, and counts nothing."""

from __future__ import annotations

import sqlite3

import pytest

from tests.backfill.past import SHOP, Past, orders
from tests.transforms.steps.answering import as_json, serving

STEPS = """
      - name: customer
        type: step.http_call
        config: {url: "URL/customers/{{ .data.customer }}", method: GET}
      - name: charge
        type: step.http_call
        config: {url: "URL/charge", method: POST, body_from: data}
      - name: row
        type: step.db_exec
        config: {database: "sqlite:///FOLDER/shop.db", query: "INSERT INTO sold VALUES (?)", params: ["{{ .data.n }}"]}
      - name: count
        type: step.python
        config: {function: "counting:count", effect: true}
      - name: lines
        type: step.foreach
        config:
          collection: data.lines
          steps:
            - {name: pick, type: step.http_call, config: {url: "URL/pick", method: POST, body_from: data}}
      - name: gate
        type: step.branch
        config:
          field: data.customer
          branches:
            c1: [{name: greet, type: step.http_call, config: {url: "URL/greet", method: POST, body_from: data}}]
          default: []
      - name: result
        type: step.jq
        config: {expression: "{n: .data.n, paid: .steps.charge.output.paid, name: .steps.customer.output.name}"}
      - {name: tell, type: step.publish, config: {sink: hook, data_from: steps.result.output}}
"""

COUNTING = """
from pathlib import Path

def count(context):
    with (Path(__file__).parent / "counted.txt").open("a") as file:
        file.write("x")
    return {"counted": True}
"""


@pytest.fixture
def service():
    with serving() as server:
        server.answer = lambda seen: as_json({"paid": True, "name": "Ada"})
        yield server


@pytest.fixture
def shop(tmp_path, service):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE sold (n INTEGER)")
    connection.close()
    (tmp_path / "counting.py").write_text(COUNTING)
    head, _, _ = SHOP.partition("      - name: shape")
    text = head + STEPS.lstrip("\n").replace("URL", service.url)
    text = text.replace(
        "pipelines:",
        f'  - {{name: hook, type: sink.webhook, config: {{url: "{service.url}/hook"}}}}\npipelines:',
    )
    past = Past(tmp_path, text)
    past.record(orders(0, 20, lines=[1, 2]))
    yield past
    past.close()


def effects(shop, service):
    """What has happened so far: calls by method and path, rows, calls of the function."""
    calls: dict[str, int] = {}
    for seen in service.seen:
        name = (
            f"{seen.method} {seen.path.rpartition('/')[0] if seen.method == 'GET' else seen.path}"
        )
        calls[name] = calls.get(name, 0) + 1
    connection = sqlite3.connect(shop.folder / "shop.db")
    (rows,) = connection.execute("SELECT count(*) FROM sold").fetchone()
    connection.close()
    counted = len((shop.folder / "counted.txt").read_text())
    return calls, rows, counted


def test_a_dry_run_and_a_shadow_call_write_and_publish_nothing(shop, service):
    before = effects(shop, service)
    assert before[0]["POST /charge"] == before[1] == before[2] == 20  # live traffic had its effects
    assert before[0]["POST /pick"] == 40
    reading = before[0]["GET /customers"]
    for mode in ("dry_run", "shadow"):
        report = shop.run(mode)
        assert (report["done"], report["failed"], report["reached_effect"]) == (20, 0, 0), report
        assert report["effects_held_back"]["charge"] == 20
        assert report["effects_held_back"]["tell"] == 20
        calls, rows, counted = effects(shop, service)
        assert {**calls, "GET /customers": reading} == before[0]  # what reads is asked
        assert (rows, counted) == before[1:]
    assert calls["GET /customers"] == 3 * reading
    assert report["comparison"]["executions"]["identical"] == 20
    assert not list(shop.folder.glob("out*"))
    assert shop.letters() == []


def test_offline_not_even_what_reads_is_asked(shop, service):
    before = effects(shop, service)
    for mode in ("dry_run", "shadow"):
        report = shop.run(mode, offline=True)
        assert (report["done"], report["failed"]) == (20, 0)
        assert report["answered_from_history"]["customer"] == 20
    assert effects(shop, service) == before


def test_an_effect_whose_result_nobody_knows_ends_the_execution_there(shop, service):
    before = effects(shop, service)
    text = shop.path.read_text()
    shop.flow("shop.yaml", text + "\nhistory: {record: off}\n")
    service.seen.clear()
    shop.record(orders(100, 110, lines=[]))
    after = effects(shop, service)
    shop.flow("shop.yaml", text)
    report = shop.run(first=100)
    assert (report["reached_effect"], report["done"], report["failed"]) == (10, 0, 0)
    calls = effects(shop, service)[0]
    assert calls["POST /charge"] == after[0]["POST /charge"] == 10
    assert effects(shop, service)[1:] == (before[1] + 10, before[2] + 10)
