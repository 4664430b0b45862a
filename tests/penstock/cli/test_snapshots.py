"""`penstock connectors snapshot` and `snapshots`, on a real state store."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from flows.state.store import open_store
from penstock.cli.app import main
from tests.flows.state.samples import commit, settlement

FLOW = """
name: shop
modules:
  - name: rows
    type: source.postgres_cdc
    config: { connection: "postgresql://127.0.0.1/shop", slot_name: shop, tables: [{ table: t }, { table: u }] }
  - { name: jobs, type: source.kafka, config: { brokers: "127.0.0.1:9092", topics: [t] } }
  - { name: out, type: sink.stdout }
pipelines:
  orders: { trigger: { source: rows }, steps: [{ name: publish, type: step.publish }] }
  others: { trigger: { source: jobs }, steps: [{ name: publish, type: step.publish }] }
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    (tmp_path / "shop.yaml").write_text(FLOW)
    with closing(open_store("sqlite:///penstock.db")) as store:
        lease = store.acquire_lease("shop", "rows/0", "me", 60.0)
        commit(store, lease, [settlement(pipeline="orders")])
    return "shop.yaml"


def run(capsys, *arguments):
    code = main(["connectors", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_one_that_is_asked_for_is_listed_and_can_wait_go_on_and_end(flow, capsys):
    code, out, _ = run(capsys, "snapshot", flow, "rows", "--table", "t", "--table", "public.u")
    assert code == 0
    assert "Snapshot 1: the running flow begins within a second" in out
    code, out, _ = run(capsys, "snapshot", flow, "rows", "-o", "json")
    assert json.loads(out) == {"id": 2, "running": True}
    for option, status in (
        ("--pause", "paused"),
        ("--resume", "waiting"),
        ("--cancel", "cancelled"),
    ):
        code, out, _ = run(capsys, "snapshots", flow, option, "1", "-o", "json")
        assert code == 0
        assert [(each["id"], each["status"]) for each in json.loads(out)] == [
            (2, "waiting"),
            (1, status),
        ]
    code, out, _ = run(capsys, "snapshots", flow)
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["2", "rows"], ["1", "rows"]]
    assert "public.t, public.u" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("snapshot", "shop.yaml", "out"), "unknown_module"),
        (("snapshot", "shop.yaml", "jobs"), "snapshot_unsupported"),
        (("snapshot", "shop.yaml", "rows", "--table", "nope"), "snapshot_unknown_table"),
        (("snapshots", "shop.yaml", "--cancel", "77"), "unknown_snapshot"),
        (("snapshots", "shop.yaml", "--resume", "1"), "snapshot_status"),
        (("snapshots", "shop.yaml", "--cancel", "1", "--pause", "1"), "usage"),
    ],
)
def test_what_can_not_be_asked_for_is_a_mistake_of_the_command(flow, capsys, arguments, code):
    assert run(capsys, "snapshot", flow, "rows")[0] == 0
    exit_code, _, error = run(capsys, *arguments)
    assert exit_code == 2
    assert code in error
