"""`penstock idempotency`, on a real state store and a real Valkey."""

from __future__ import annotations

import json
from contextlib import closing
from uuid import UUID

import pytest

from flows.state.idempotency import StateKeys, digest_of
from flows.state.records import Claim, KeyOutcome
from flows.state.redis_keys import RedisKeys
from flows.state.store import open_store
from penstock.cli.app import main
from tests.flows.state.samples import commit, settlement

FLOW = """
name: shop
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topics: [t]}}
  - {name: out, type: sink.stdout}
pipelines:
  orders:
    trigger: {source: jobs}
    idempotency: {key_template: "order_{{ .id }}", store: REDIS}
    steps: [{name: publish, type: step.publish}]
"""


def claim(key, holder=1, *, scope="orders", tenant="default"):
    digest = digest_of("pipeline", scope, tenant, key)
    return Claim(digest, scope, str(UUID(int=holder)), b"\0" * 16, key, tenant)


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Three keys in the default state: one done, one held, one of a step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    url = "sqlite:///penstock.db"
    with closing(open_store(url)) as store, closing(StateKeys(url, "shop")) as keys:
        lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
        commit(store, lease, [settlement(pipeline="orders")])
        held = [claim("order_1"), claim("order_2", 2), claim("charge_1", 3, scope="orders/charge")]
        keys.reserve(held, 600.0)
        keys.settle([KeyOutcome(held[0], "done", 18_000.0, '{"total":10.50}')])
    return tmp_path


def run(capsys, *arguments):
    code = main(["idempotency", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_list_shows_who_has_which_key_and_until_when(filled, capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    rows = [line.split("  ") for line in out.splitlines()]
    assert len(rows) == 4
    text = " ".join(out.split())
    assert f"done orders default order_1 5 h {UUID(int=1)}" in text
    assert f"in flight orders/charge default charge_1 10 min {UUID(int=3)}" in text


def test_list_as_json_by_pipeline_and_status(filled, capsys):
    code, out, _ = run(capsys, "list", "--pipeline", "orders", "--status", "done", "-o", "json")
    assert code == 0
    (key,) = json.loads(out)
    assert (key["key"], key["tenant"], key["status"]) == ("order_1", "default", "done")
    assert (key["scope"], key["store"], key["flow"]) == ("orders", "state", "shop")


def test_a_pipeline_that_never_ran_is_an_error(filled, capsys):
    code, _, err = run(capsys, "list", "--pipeline", "oders")
    assert code == 2
    assert "Did you mean orders?" in err


def test_show_has_the_result_digit_for_digit(filled, capsys):
    code, out, _ = run(capsys, "show", "order_1", "-o", "json")
    assert code == 0
    assert '"result":{"total":10.50}' in out.replace(" ", "").replace("\n", "")
    hash_ = json.loads(out)["hash"]
    code, out, _ = run(capsys, "show", hash_[:8])
    assert code == 0
    assert f"done by execution {UUID(int=1)}" in out
    assert "remembered for another 5 h" in out


def test_a_key_that_nobody_has_is_an_error(filled, capsys):
    for command in ("show", "release"):
        code, _, err = run(capsys, command, "order_9")
        assert code == 2
        assert "error[key_unknown]" in err


def test_release_frees_one_key_and_says_what_that_means(filled, capsys):
    code, out, _ = run(capsys, "release", "order_1", "--yes")
    assert code == 0
    assert "key order_1 of orders is free." in out
    assert "does the work again" in out
    assert "order_1" not in run(capsys, "list")[1]
    assert "order_2" in run(capsys, "list")[1]


def test_release_without_a_terminal_needs_a_yes(filled, capsys):
    code, _, err = run(capsys, "release", "order_2")
    assert code == 2
    assert "may act beside it" in err
    assert "--yes" in err
    assert "order_2" in run(capsys, "list")[1]


def test_a_key_of_two_steps_is_told_apart_by_its_hash(filled, capsys):
    with closing(StateKeys("sqlite:///penstock.db", "shop")) as keys:
        keys.reserve([claim("order_1", 4, scope="orders/ship")], 60.0)
    code, _, err = run(capsys, "release", "order_1", "--yes")
    assert code == 2
    assert "error[key_ambiguous]" in err
    assert "(orders/ship)" in err


def test_keys_in_redis_are_found_by_the_flow_file(filled, capsys, redis_url):
    (filled / "shop.yaml").write_text(FLOW.replace("REDIS", redis_url))
    with closing(RedisKeys(redis_url, "shop")) as keys:
        keys.reserve([claim("order_5", 5)], 60.0)
        keys.settle([KeyOutcome(claim("order_5", 5), "done", 3600.0, "[1]")])
    code, out, _ = run(capsys, "show", "order_5", "shop.yaml", "-o", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["status"], found["result"], found["scope"]) == ("done", [1], "orders")
    assert redis_url not in out or "@" not in redis_url
    listed = json.loads(run(capsys, "list", "shop.yaml", "-o", "json")[1])
    assert found["hash"] in {each["hash"] for each in listed}
    assert len(listed) == 4
    assert run(capsys, "release", found["hash"], "shop.yaml", "--yes")[0] == 0
    with closing(RedisKeys(redis_url, "shop")) as keys:
        assert keys.reserve([claim("order_5", 6)], 1.0) == [None]
