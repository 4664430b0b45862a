"""A snapshot asked for on the command line of a flow that runs, is killed, paused and cancelled."""

from __future__ import annotations

import psycopg
import pytest

from penstock.cli.app import main
from tests.flows.runtime.running import (
    FlowFolder,
    cdc_source,
    file_sink,
    pipeline,
    publish,
    wait_for,
)

pytestmark = [pytest.mark.postgres, pytest.mark.chaos]

ROWS = 6000


@pytest.fixture
def flow(database, tmp_path):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
        connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, %s::int) i", [ROWS])
    made = FlowFolder(tmp_path)
    made.write(
        modules=[
            cdc_source(database, "s_" + database.rpartition("test_")[2], "t"),
            file_sink(tmp_path),
        ],
        pipelines={"copy": pipeline("rows", publish("out"))},
    )
    yield made
    made.end()


def snapshot(flow, number):
    with flow.store() as store:
        return store.snapshots.get(number)


def test_it_is_read_through_kills_once_and_in_order_with_the_changes(flow, database):
    """The worker is killed in each life, and goes on where the one before was."""
    flow.catch_up("rows")
    assert main(["connectors", "snapshot", str(flow.path), "rows", "--table", "t"]) == 0
    with flow.store() as store:
        cancelled = store.snapshots.ask("flow", "rows", [], "me")
        store.snapshots.change(cancelled, ["waiting"], "cancelled")
        refused = store.snapshots.ask("flow", "rows", ["public.gone"], "me")
    run = flow.start(environ={"PENSTOCK_FAIL_POINT": "mid_snapshot:5"})
    wait_for(lambda: len(flow.lines()) > ROWS, "rows read again")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE t SET n = 1 WHERE id % 2 = 0")
    wait_for(lambda: snapshot(flow, 1).status == "done", "its end")
    wait_for(lambda: snapshot(flow, refused).status == "failed", "what can't be done")
    assert run.stop() == 0, run.text()
    assert run.text().count("worker started") > 1
    events = flow.lines()
    reads = [event["data"]["id"] for event in events if event["operation"] == "READ"]
    assert reads[:ROWS] == list(range(1, ROWS + 1))
    read = reads[ROWS:]
    assert read == sorted(set(read))
    assert len(read) >= ROWS / 2
    assert len({event["id"] for event in events}) == len(events)
    last = {event["data"]["id"]: event["data"]["n"] for event in events}
    assert last == {key: int(key % 2 == 0) for key in range(1, ROWS + 1)}
    assert snapshot(flow, cancelled).rows == 0
    assert snapshot(flow, refused).error_code == "snapshot_unknown_table"
