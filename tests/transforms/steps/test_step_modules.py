"""A step module's limits hold for all steps that use it together."""

from __future__ import annotations

import threading

import psycopg
import pytest

from flows.plan import FlowErrors
from tests.flows.runtime.running import wait_for
from tests.transforms.steps.answering import as_json, serving
from tests.transforms.steps.inside import step

AT_ONCE = 3


@pytest.fixture
def server():
    with serving() as found:
        yield found


def crowding(server):
    """Answer only once AT_ONCE calls are under way, then each at once."""
    together = threading.Barrier(AT_ONCE)
    counted = threading.Semaphore(AT_ONCE)

    def answer(seen):
        if counted.acquire(blocking=False):
            together.wait(20)
        return as_json(seen.path)

    return answer


def user(server, name):
    return {"name": name, "use": "api", "config": {"url": f"{server.url}/{name}/{{{{ .n }}}}"}}


@pytest.mark.parametrize(
    "limit", [{"concurrency": AT_ONCE}, {"connections": {"per_host": AT_ONCE}}]
)
def test_calls_of_steps_side_by_side_are_no_more_than_their_module_allows(
    steps, executions, server, limit
):
    server.answer = crowding(server)
    api = {"name": "api", "type": "step.http_call", "config": limit}
    both = step("both", "parallel", {"steps": [user(server, "a"), user(server, "b")]})
    run = steps(both, modules=[api])
    found = run.run(executions(*({"n": n} for n in range(30))))
    assert [one["results"] for one in found.outputs["both"]] == [
        {"a": f"/a/{n}", "b": f"/b/{n}"} for n in range(30)
    ]
    assert server.most_under_way == AT_ONCE


def test_users_of_different_modules_do_not_wait_for_each_other(steps, executions, server):
    server.answer = crowding(server)
    modules = [
        {"name": name, "type": "step.http_call", "config": {"concurrency": AT_ONCE - 1}}
        for name in ("api", "other")
    ]
    both = [user(server, "a"), {**user(server, "b"), "use": "other"}]
    run = steps(step("both", "parallel", {"steps": both}), modules=modules)
    found = run.run(executions(*({"n": n} for n in range(10))))
    assert not found.ended
    assert AT_ONCE <= server.most_under_way <= 2 * (AT_ONCE - 1)


@pytest.mark.parametrize("name", ["concurrency", "connections"])
def test_a_step_can_not_set_what_holds_for_all_users_of_its_module(steps, name):
    value = 4 if name == "concurrency" else {"per_host": 4}
    api = {"name": "api", "type": "step.http_call", "config": {"url": "http://h/"}}
    with pytest.raises(FlowErrors) as caught:
        steps({"name": "call", "use": "api", "config": {name: value}}, modules=[api])
    (problem,) = caught.value.problems
    assert problem.code == "shared_setting"
    assert f"{name} holds for all steps that use api" in problem.message
    assert "the module api" in problem.hint


@pytest.mark.postgres
def test_steps_that_use_one_module_share_its_connections_whatever_they_ask(
    steps, executions, database
):
    asks = {"database": database, "connections": 2}
    shop = {"name": "shop", "type": "step.db_query", "config": asks}
    together = "SELECT count(*)::int AS n, $1::{} AS value FROM pg_stat_activity"
    where = " WHERE application_name = 'penstock step' AND datname = current_database()"

    count = f"SELECT count(*) FROM pg_stat_activity{where}"

    def user(name, kind, **more):
        query = together.format(kind) + where
        config = {"query": query, "params": ["{{ .value }}"], "mode": "single", **more}
        return {"name": name, "use": "shop", "config": config}

    same = [user("whole", "int"), user("text", "text")]
    other = user("slow", "text", timeout="20s")  # needs a connection that is set up in another way
    for users in (same, [*same, other]):
        run = steps(step("all", "parallel", {"steps": users}), modules=[shop])
        for _ in range(3):  # later batches find what the others have left
            found = run.run(executions(*({"value": n} for n in range(20))))
            results = [one["results"] for one in found.outputs["all"]]
            assert [{name: one[name]["value"] for name in one} for one in results] == [
                {"whole": n, "text": str(n)} | ({"slow": str(n)} if other in users else {})
                for n in range(20)
            ]
            if other not in users:  # else one that is being closed may still be seen
                assert max(one[name]["n"] for one in results for name in one) <= 2
        with psycopg.connect(database, autocommit=True) as connection:
            wait_for(lambda c=connection: c.execute(count).fetchone() <= (2,), "two connections")
        run.close()
