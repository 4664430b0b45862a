"""A secret that somebody says back in an error is masked wherever the error goes on living."""

from __future__ import annotations

import sqlite3

import pytest

from tests.transforms.steps.inside import foreach, jq, step

SECRET = "tok-7f3a9c21"
FAILS = 'error("denied to \\(.data.said)")'


@pytest.fixture
def modules():
    """A step module whose token is a secret of the flow."""
    config = {"url": "http://127.0.0.1:9/", "auth": {"bearer": SECRET}}
    return [{"name": "api", "type": "step.http_call", "config": config}]


def said(value):
    text = str(value)
    assert SECRET not in text
    return "denied to ***" in text


def test_in_the_errors_that_a_loop_collects(steps, executions, modules):
    lines = foreach(jq("deny", FAILS), error_strategy="collect_errors", collection="data.items")
    ran = steps(lines, modules=modules).run(executions({"said": SECRET, "items": [1]}))
    assert said(ran.outputs["lines"][0]["errors"][0]["message"])


def test_in_the_errors_that_parallel_steps_collect(steps, executions, modules):
    both = step(
        "both", "parallel", {"steps": [jq("deny", FAILS)], "error_strategy": "collect_errors"}
    )
    ran = steps(both, modules=modules).run(executions({"said": SECRET}))
    assert said(ran.outputs["both"][0]["errors"][0]["message"])


def test_in_the_error_of_a_step_that_is_passed_over(steps, executions, modules):
    ran = steps(jq("deny", FAILS, on_error="skip"), modules=modules).run(
        executions({"said": SECRET})
    )
    assert said(ran.passed_over["deny"][0].message)


def test_in_the_error_that_ends_an_execution_and_in_what_it_is_about(steps, executions, modules):
    ran = steps(jq("deny", FAILS), modules=modules).run(executions({"said": SECRET}))
    error = ran.ended[0].error
    assert said(error.message)
    assert said(str(error))
    assert SECRET not in str(error.context)


def test_in_the_output_of_a_statement_whose_error_is_ignored(steps, executions, modules, tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE t (id)")
        shop.execute(
            "CREATE TRIGGER no BEFORE INSERT ON t BEGIN"
            f" SELECT RAISE(ABORT, 'denied to {SECRET}'); END"
        )
    shop.close()
    config = {
        "database": f"sqlite:///{tmp_path}/shop.db",
        "query": "INSERT INTO t VALUES (1)",
        "ignore_error": True,
    }
    ran = steps(step("save", "db_exec", config), modules=modules).run(executions({}))
    assert said(ran.outputs["save"][0]["ignored_error"]["message"])
