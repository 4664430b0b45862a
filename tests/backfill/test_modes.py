from __future__ import annotations

import json

import pytest

from connectors.errors import FlowFileError
from tests.backfill.past import SHOP, Past, at, orders

BUGGY = SHOP.replace(
    "total: (.data.price * .data.count)",
    "total: (if .data.n % 33 == 4 then null else .data.price * .data.count end)",
)


def test_a_dry_run_runs_every_event_and_publishes_none(past):
    past.record(orders(0, 60), orders(60, 100))
    report = past.run()
    assert (report["read"], report["done"], report["failed"]) == (100, 100, 0)
    assert report["effects_held_back"] == {"write": 100}
    assert not list(past.folder.glob("out*"))


def test_the_range_is_half_open_and_knows_time_zones(past):
    past.record(orders(0, 100))
    assert past.run(first=10, last=20)["read"] == 10
    east = {"from": "2026-01-09T13:00:10+01:00", "to": "2026-01-09T14:00:11+02:00"}
    job = past.ask(**east)
    assert job.until - job.since == 1000
    assert past.run(**east)["read"] == 1
    with pytest.raises(FlowFileError, match="empty"):
        past.ask(first=5, last=5)


def test_the_filter_chooses_and_what_it_leaves_out_is_counted(past):
    past.record(orders(0, 50), orders(50, 100, type_="order.shipped"))
    report = past.run(filter={"event_type": "order.created", "data.n": {"$gte": 40}})
    assert (report["read"], report["left_out"], report["done"]) == (100, 90, 10)


def test_a_shadow_of_an_unchanged_pipeline_finds_everything_as_recorded(past):
    past.record(orders(0, 60), orders(60, 100))
    compared = past.run("shadow")["comparison"]
    assert compared["executions"]["identical"] == 100
    assert compared["groups"] == []
    assert not list(past.folder.glob("out*"))


def test_a_shadow_finds_exactly_the_executions_of_a_bug_and_says_what_differs(past):
    past.record(*(orders(n, n + 100) for n in range(0, 1000, 100)))
    buggy = past.flow("buggy.yaml", BUGGY)
    compared = past.run("shadow", with_=buggy)["comparison"]
    planted = [n for n in range(1000) if n % 33 == 4]
    counts = compared["executions"]
    assert (counts["different"], counts["identical"]) == (len(planted), 1000 - len(planted))
    (shape,) = [group for group in compared["groups"] if group["step"] == "shape"]
    assert shape["shape"] == ["total: number → null"]
    assert shape["count"] == len(planted)
    assert {each["event_id"] for each in shape["samples"]} == {f"order-{n}" for n in planted[:3]}
    assert shape["samples"][0]["changes"][0]["now"] == "null"
    # Where the total had been large, a later step no longer runs: that is told as its own kind.
    (large,) = [group for group in compared["groups"] if group["step"] == "large"]
    assert large["kind"] == "missing"
    assert large["count"] == sum((n % 10 + 0.5) * (n % 7) > 20 for n in planted)
    assert past.run("shadow")["comparison"]["executions"]["different"] == 0


def published(compared):
    (row,) = compared["published"]
    return {name: count for name, count in row.items() if count}


def test_a_shadow_compares_what_is_published_too(past):
    past.record(*(orders(n, n + 50) for n in range(0, 200, 50)))
    compared = past.run("shadow")["comparison"]
    assert published(compared) == {"step": "write", "identical": 200}
    # Of a key alone no step's output tells.
    keyed = past.flow(
        "keyed.yaml", SHOP.replace("{sink: out,", "{sink: out, key: .data.n, type: order.priced,")
    )
    compared = past.run("shadow", with_=keyed)["comparison"]
    assert published(compared) == {"step": "write", "different": 200}
    assert compared["executions"]["different"] == 200
    (group,) = compared["groups"]
    assert group["step"] == "write"
    assert group["shape"] == [
        "attributes.partitionkey: text changed",
        "attributes.type: text changed",
        "key: text changed",
    ]
    changes = {each["path"]: each for each in group["samples"][0]["changes"]}
    assert (changes["key"]["recorded"], changes["key"]["now"]) == ('"c0"', '"0"')


def test_a_shadow_tells_what_is_no_longer_published_and_what_had_not_been(past):
    past.record(orders(0, 100))
    fewer = past.flow(
        "fewer.yaml",
        SHOP.replace(
            "type: step.publish,", 'type: step.publish, if: ".steps.shape.output.n % 10 != 3",'
        ),
    )
    compared = past.run("shadow", with_=fewer)["comparison"]
    assert published(compared) == {"step": "write", "identical": 90, "missing": 10}
    assert compared["executions"]["different"] == 10
    past.flow("shop.yaml", fewer.read_text())
    past.record(orders(100, 200))
    before = past.flow("before.yaml", SHOP)
    compared = past.run("shadow", first=100, with_=before)["comparison"]
    assert published(compared) == {"step": "write", "identical": 90, "new": 10}


def test_what_is_published_follows_the_way_that_a_conditional_took_then(past):
    routed = (
        SHOP.replace(
            "      - name: shape",
            """      - name: route
        type: step.conditional
        config: {field: data.customer, routes: {c1: done}}
      - name: shape""",
        )
        + '      - {name: done, type: step.log, config: {message: "done"}}\n'
    )
    past.flow("shop.yaml", routed)
    past.record(orders(0, 100))
    compared = past.run("shadow")["comparison"]
    assert published(compared) == {"step": "write", "identical": 80}
    other = past.flow("other.yaml", routed.replace("{c1: done}", "{c2: done}"))
    compared = past.run("shadow", with_=other)["comparison"]
    assert published(compared) == {"step": "write", "identical": 60, "missing": 20, "new": 20}


def test_what_is_ignored_is_ignored_in_what_is_published_too(past):
    past.record(orders(0, 20))
    newer = past.flow("newer.yaml", SHOP.replace("{n: .data.n,", "{n: .data.n, at: now,"))
    compared = past.run("shadow", with_=newer)["comparison"]
    assert published(compared) == {"step": "write", "different": 20}
    assert {group["step"] for group in compared["groups"]} == {"shape", "write"}
    compared = past.run("shadow", with_=newer, ignore=[".at"])["comparison"]
    assert published(compared) == {"step": "write", "identical": 20}
    topic = past.flow("topic.yaml", SHOP.replace("{sink: out,", "{sink: out, type: other,"))
    compared = past.run("shadow", with_=topic, ignore=["write.attributes.type"])["comparison"]
    assert compared["executions"]["identical"] == 20


def test_a_shadow_tells_failures_that_were_none(past):
    past.record(orders(0, 20))
    worse = past.flow(
        "worse.yaml",
        SHOP.replace(
            ".data.price * .data.count",
            "if .data.n == 7 then error(.data.customer) else .data.price * .data.count end",
        ),
    )
    report = past.run("shadow", with_=worse)
    (group,) = report["comparison"]["groups"]
    assert group["shape"] == ["outcome: done → failed at shape (jq_error)"]
    assert group["samples"][0]["event_id"] == "order-7"
    assert report["failures"][0]["code"] == "jq_error"
    assert past.letters() == []


def test_a_shadow_ignores_what_it_is_told_to_ignore(past):
    past.record(orders(0, 20))
    newer = past.flow("newer.yaml", SHOP.replace("{n: .data.n,", "{n: .data.n, at: now,"))
    assert past.run("shadow", with_=newer)["comparison"]["executions"]["different"] == 20
    compared = past.run("shadow", with_=newer, ignore=[".at"])["comparison"]
    assert compared["executions"]["identical"] == 20


def test_events_that_nothing_is_recorded_of_are_new_and_those_no_longer_taken_missing(past):
    past.record(orders(0, 20))
    later = past.flow(
        "shop.yaml",
        SHOP.replace("trigger: {source: orders}", "trigger: {source: orders, when: .data.n != 3}"),
    )
    past.record(orders(20, 25))
    counts = past.run("shadow", with_=later)["comparison"]["executions"]
    assert counts["missing"] == 1
    past.flow("shop.yaml", SHOP.replace("name: shop", "name: shop\nhistory: {record: off}"))
    past.record(orders(100, 110))
    past.flow("shop.yaml", SHOP)
    assert past.run("shadow", first=100)["comparison"]["executions"]["new"] == 10


def test_a_live_backfill_delivers_and_tells_its_executions_apart(past):
    past.record(orders(0, 40))
    report = past.run("live")
    assert (report["read"], report["done"]) == (40, 40)
    assert [each["data"]["n"] for each in past.written()] == list(range(40))
    # Readers of what is published can tell that it is the same event again.
    assert {each["id"] for each in past.written()} == {
        each.attributes["id"] for each in past.published
    }
    assert past.store.checkpoints("shop", "orders") == {"orders/0": f"{40:012}"}
    # A shadow compares with what live traffic did, not with a job.
    assert past.run("shadow")["comparison"]["executions"]["identical"] == 40


def test_failures_of_a_live_backfill_are_dead_letters_that_name_it(past):
    past.record(orders(0, 20))
    past.flow(
        "shop.yaml",
        SHOP.replace(
            ".data.price * .data.count",
            "if .data.n == 7 then error(.data.customer) else .data.price * .data.count end",
        ),
    )
    report = past.run("live")
    assert (report["done"], report["failed"]) == (19, 1)
    assert report["failures"][0]["samples"][0]["event_id"] == "order-7"
    (letter,) = past.letters()
    assert (letter.source, letter.event_id) == ("orders", "order-7")
    assert json.loads(letter.context)["backfill"] == 1


def test_idempotency_keys_are_the_jobs_own_unless_they_are_to_be_respected(tmp_path):
    once = SHOP.replace(
        "    key: .data.customer\n",
        '    key: .data.customer\n    idempotency: {key_template: "order-{{ .data.n }}", ttl: 1h}\n',
    )
    past = Past(tmp_path, once)
    try:
        past.record(orders(0, 20))
        assert past.run("live")["done"] == 20
        assert past.run("live")["done"] == 20  # another job, other keys
        assert past.run("live", respect_idempotency=True)["done"] == 20
        again = past.run("live", respect_idempotency=True)
        assert (again["done"], again["skipped"]) == (0, 20)
        assert len(past.written()) == 60
    finally:
        past.close()


def test_what_can_not_be_read_again_is_told_with_what_to_do(past):
    past.flow(
        "shop.yaml",
        SHOP.replace("    archive: {retention: 36500d}\n", "")
        .replace("source.kafka", "source.postgres_cdc")
        .replace(
            '{brokers: "127.0.0.1:1", topics: [orders]}',
            '{connection: "postgresql://127.0.0.1:1/x", slot_name: s, tables: [{schema: public, table: t}]}',
        ),
    )
    with pytest.raises(FlowFileError) as refused:
        past.ask()
    assert refused.value.code == "backfill_no_past"
    assert "archive:" in refused.value.hint


def test_mistakes_in_a_request_are_told(past):
    for more, code in (
        ({"pipeline": "prize"}, "unknown_pipeline"),
        ({"source": "order"}, "backfill_source"),
        ({"mode": "shadow", "ignore": ["nothing"]}, "backfill_ignore"),
    ):
        with pytest.raises(FlowFileError) as refused:
            past.ask(**more)
        assert refused.value.code == code


def test_the_report_tells_of_times_as_a_command_takes_them():
    assert at(0) == "2026-01-09T12:00:00Z"
