"""Steps that reach outside, and the sandboxed one, in a flow that `penstock run` runs."""

from __future__ import annotations

import psycopg
import pytest

from tests.flows.runtime.running import (
    FlowFolder,
    cdc_source,
    file_sink,
    pipeline,
    publish,
    step,
)
from tests.transforms.steps.answering import as_json, serving


@pytest.fixture
def flow(tmp_path):
    folder = FlowFolder(tmp_path)
    yield folder
    folder.end()


@pytest.fixture
def shop(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, customer int, total int);"
            "CREATE TABLE customers (id int PRIMARY KEY, name text, credit numeric);"
            "CREATE TABLE audit (order_id int PRIMARY KEY, total int CHECK (total < 1000));"
            "INSERT INTO customers VALUES (1, 'Ada', 12345678901234567890.10);"
            "INSERT INTO orders VALUES (1, 1, 10), (2, 9, 20), (3, 1, 5000)"
        )
        yield connection


def test_rows_are_read_changed_and_shaped_and_what_fails_is_a_dead_letter(flow, shop, database):
    with serving() as login, serving() as prices:
        login.answer = lambda seen: as_json({"access_token": "t-s3cret", "expires_in": 600})
        prices.answer = lambda seen: as_json({"price": 7, "as": seen.headers["authorization"]})
        flow.write(
            modules=[cdc_source(database, "outside", "orders"), file_sink(flow.folder)],
            pipelines={
                "enrich": pipeline(
                    "rows",
                    step(
                        "customer",
                        "db_query",
                        {
                            "database": database,
                            "query": "SELECT name, credit FROM customers WHERE id = ?",
                            "params": ["{{ .data.customer }}"],
                            "mode": "single",
                        },
                    ),
                    step(
                        "audit",
                        "db_exec",
                        {
                            "database": database,
                            "query": "INSERT INTO audit VALUES ($1, $2)",
                            "params": ["{{ .data.id }}", "{{ .data.total }}"],
                        },
                    ),
                    step(
                        "price",
                        "http_call",
                        {
                            "url": prices.url + "/{{ .data.id }}",
                            "auth": {
                                "token_url": login.url,
                                "client_id": "shop",
                                "client_secret": "hush-hush",
                            },
                        },
                    ),
                    step(
                        "shape",
                        "js",
                        {
                            "code": "function transform(ctx) {\n"
                            "  const { found, row } = ctx.steps.customer;\n"
                            "  return { id: ctx.data.id, name: found ? row.name : null,\n"
                            "    credit: found ? row.credit : null, price: ctx.steps.price.output.price,\n"
                            "    changed: ctx.steps.audit.output.affected_rows };\n}"
                        },
                    ),
                    publish("out"),
                )
            },
        )

        flow.run()

    assert [line["data"] for line in flow.lines()] == [
        {"id": 1, "name": "Ada", "credit": "12345678901234567890.10", "price": 7, "changed": 1},
        {"id": 2, "name": None, "credit": None, "price": 7, "changed": 1},
    ]
    (letter,) = flow.letters()
    assert (letter.step, letter.error_code) == ("audit", "db_constraint")
    assert '"sqlstate":"23514"' in letter.context.replace(" ", "")
    assert shop.execute("SELECT order_id FROM audit ORDER BY 1").fetchall() == [(1,), (2,)]
    assert len(login.seen) == 1


def test_javascript_that_runs_away_is_a_dead_letter_and_the_flow_goes_on(flow, shop, database):
    code = """function transform(ctx) {
      if (ctx.data.id === 2) for (;;) {}
      if (ctx.data.id === 3) return ctx.data.no.such;
      return ctx.data.id;
    }"""
    flow.write(
        modules=[cdc_source(database, "runaway", "orders"), file_sink(flow.folder)],
        pipelines={
            "shape": pipeline(
                "rows", step("shape", "js", {"code": code, "timeout": "200ms"}), publish("out")
            )
        },
    )

    flow.run()

    assert [line["data"] for line in flow.lines()] == [1]
    assert [(one.error_code, one.error_kind) for one in flow.letters()] == [
        ("js_timeout", "permanent"),
        ("js_error", "permanent"),
    ]
    assert "line 3" in flow.letters()[1].error_message


def test_a_host_inside_that_an_event_names_is_not_called(flow, shop, database):
    with serving() as inside:
        flow.write(
            modules=[cdc_source(database, "guarded", "orders"), file_sink(flow.folder)],
            pipelines={
                "call": pipeline(
                    "rows",
                    step(
                        "call",
                        "http_call",
                        {"url": f"http://127.0.0.{{{{ .data.customer }}}}:{inside.port}/"},
                    ),
                    publish("out"),
                )
            },
        )

        flow.run()

        assert [one.error_code for one in flow.letters()] == ["http_private_address"] * 3
        assert inside.connections == 0


def test_mistakes_in_these_steps_are_found_before_anything_runs(flow, database):
    flow.write(
        modules=[cdc_source(database, "wrong", "orders"), file_sink(flow.folder)],
        pipelines={
            "p": pipeline(
                "rows",
                step("a", "db_query", {"database": database, "query": "SELECT {{ .data.id }}"}),
                step("b", "js", {"code": "function transform(ctx) {\n return 1 +;\n}"}),
                step("c", "http_call", {"url": "http://x", "tls": {"min_version": "1.0"}}),
            )
        },
    )

    done = flow.penstock("validate", str(flow.path))

    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "params: [" in said
    assert "line 2" in said
    assert "min_version" in said
