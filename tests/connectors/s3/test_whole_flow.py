"""A flow from a table's changes to objects in S3, killed where it hurts: each change once."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.running import FlowFolder, cdc_source, pipeline, publish

pytestmark = [pytest.mark.postgres, pytest.mark.chaos]

POINTS = [
    "after_effects_before_settle:2",
    "after_settle_before_checkpoint",
    "after_effects_before_settle",
    "after_checkpoint_before_acknowledge",
]


def test_kills_at_named_points_leave_each_change_in_one_object(tmp_path, database, s3, bucket):
    flow = FlowFolder(tmp_path)
    config = s3.config(bucket, key="out/rows.jsonl", format="json", roll={"events": 150})
    flow.write(
        modules=[
            cdc_source(database, f"s3_{bucket[-12:]}", "orders"),
            {"name": "out", "type": "sink.s3", "config": config},
        ],
        pipelines={"copy": pipeline("rows", publish("out"))},
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("INSERT INTO orders SELECT generate_series(1, 400)")
        first = WorkerProcess(flow.path, "rows", until_caught_up=True)
        assert first.wait() == 0, first.text()
        rows = 400
        for point in POINTS:
            connection.execute(
                "INSERT INTO orders SELECT generate_series(%s::int, %s)", [rows + 1, rows + 100]
            )
            rows += 100
            worker = WorkerProcess(flow.path, "rows", fail_point=point, until_caught_up=True)
            assert worker.wait() in {-9, 0}, worker.text()
    last = WorkerProcess(flow.path, "rows", until_caught_up=True)
    assert last.wait() == 0, last.text()
    found = s3.objects(bucket, "out/").values()
    ids = [json.loads(line)["id"] for text in found for line in text.splitlines()]
    assert sorted(ids) == list(range(1, rows + 1))
