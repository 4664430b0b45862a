"""The mistakes an operator makes: one clear error that says what to do, and a documented exit code."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from penstock.cli.app import main
from penstock.embedded.postgres import PostgresServer
from penstock.embedded.processes import free_port
from tests.flows.runtime.running import (
    cdc_source,
    file_sink,
    kafka_sink,
    kafka_source,
    pipeline,
    publish,
    step,
)
from tests.services.fixtures import open_folder

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture
def both(flow):
    """Run the flow, and validate it with --connect; return (code, text) of each."""

    def both():
        run = flow.start("--until-caught-up")
        ran = run.wait(40), run.text()
        done = flow.told("validate", "--connect", str(flow.path))
        checked = done.returncode, done.stdout + done.stderr
        for _, text in (ran, checked):
            assert "Traceback" not in text
            assert "error[bug]" not in text
        return ran, checked

    return both


def one_error(text):
    """Return the code of the one error that `penstock run` ends with."""
    codes = re.findall(r"^error\[([a-z0-9_]+)\]", text, re.MULTILINE)
    assert len(codes) == 1, text
    return codes[0]


def cdc(flow, dsn, **config):
    flow.write(
        modules=[cdc_source(dsn, "mistaken", "t", **config), file_sink(flow.folder)],
        pipelines={"copy": pipeline("rows", publish("out"))},
    )


@pytest.fixture
def table(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    return database


@pytest.fixture(scope="module")
def strict_postgres():
    """A server that asks for passwords, and one role that may not replicate."""
    with open_folder() as folder, PostgresServer.start(folder, 18) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE TABLE t (id int PRIMARY KEY)")
            admin.execute("CREATE ROLE shop LOGIN REPLICATION PASSWORD 'right'")
            admin.execute("CREATE ROLE reader LOGIN PASSWORD 'right'")
            admin.execute("GRANT SELECT ON t TO shop, reader")
            (hba,) = admin.execute("SHOW hba_file").fetchone()
            rules = "".join(
                f"host {what} shop,reader 127.0.0.1/32 scram-sha-256\n"
                for what in ("all", "replication")
            )
            path = Path(hba)
            path.write_text(rules + path.read_text())
            admin.execute("SELECT pg_reload_conf()")
        yield server


def test_a_wrong_password(flow, both, strict_postgres):
    cdc(flow, f"postgresql://shop:wr0ng-pass@127.0.0.1:{strict_postgres.port}/postgres")
    (code, text), (checked, table) = both()
    assert code == 4
    assert "password" in text
    assert one_error(text)
    assert checked == 1
    assert "password" in table
    assert "wr0ng-pass" not in text + table


def test_a_role_without_the_replication_right(flow, both, strict_postgres):
    cdc(flow, f"postgresql://reader:right@127.0.0.1:{strict_postgres.port}/postgres")
    (code, text), (checked, table) = both()
    assert code == 4
    assert one_error(text)
    assert "REPLICATION" in text
    assert "ALTER ROLE" in text
    assert checked == 1
    assert "REPLICATION" in table


def test_a_missing_table(flow, both, database):
    cdc(flow, database)
    (code, text), (checked, table) = both()
    assert code == 4
    assert one_error(text)
    assert "public.t" in text
    assert checked == 1
    assert "public.t" in table


def test_wal_level_replica(flow, both):
    with (
        open_folder() as folder,
        PostgresServer.start(folder, 18, {"wal_level": "replica"}) as server,
    ):
        cdc(flow, server.dsn())
        (code, text), (checked, table) = both()
    assert code == 4
    assert one_error(text)
    assert "wal_level" in text
    assert "logical" in text
    assert checked == 1
    assert "wal_level" in table


def test_an_unreachable_postgres(flow, both):
    cdc(flow, f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    (code, text), (checked, table) = both()
    assert code == 3
    assert one_error(text)
    assert checked == 3
    assert "127.0.0.1" in text
    assert "127.0.0.1" in table


@pytest.mark.slow
def test_an_unreachable_broker_to_read_from(flow, both):
    broker = f"127.0.0.1:{free_port()}"
    flow.write(
        modules=[
            {
                "name": "orders",
                "type": "source.kafka",
                "config": {"brokers": broker, "topics": ["orders"]},
            },
            file_sink(flow.folder),
        ],
        pipelines={"copy": pipeline("orders", publish("out"))},
    )
    (code, text), (checked, table) = both()
    assert code == 3
    assert one_error(text)
    assert broker in text
    assert checked == 3
    assert broker in table


@pytest.mark.slow
def test_an_unreachable_broker_to_publish_to(flow, both, table):
    broker = f"127.0.0.1:{free_port()}"
    flow.write(
        modules=[cdc_source(table, "mistaken", "t"), kafka_sink(broker, "orders")],
        pipelines={"copy": pipeline("rows", publish("topic"))},
    )
    (code, text), (checked, shown) = both()
    assert code == 3
    assert one_error(text)
    assert broker in text
    assert checked == 3
    assert broker in shown


@pytest.mark.slow
@pytest.mark.parametrize("role", ["source", "sink"])
def test_a_missing_topic(flow, both, kafka, table, role):
    source = (
        kafka_source(kafka, "no-such-topic")
        if role == "source"
        else cdc_source(table, "mistaken", "t", name="orders")
    )
    sink = (
        file_sink(flow.folder)
        if role == "source"
        else kafka_sink(kafka.bootstrap, "no-such-topic", "out")
    )
    if role == "sink":
        with psycopg.connect(table, autocommit=True) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
    flow.write(modules=[source, sink], pipelines={"copy": pipeline("orders", publish("out"))})
    (code, text), (checked, shown) = both()
    assert code == 4
    assert one_error(text)
    assert "no-such-topic" in text
    assert checked == 1
    assert "no-such-topic" in shown


def test_a_state_store_that_is_away(flow, both, kafka):
    flow.state_url = f"postgresql://postgres:s3cr3t-word@127.0.0.1:{free_port()}/postgres"
    flow.write(
        modules=[kafka_source(kafka, kafka.create_topic()), file_sink(flow.folder)],
        pipelines={"copy": pipeline("orders", publish("out"))},
    )
    (code, text), (checked, shown) = both()
    assert code == 3
    assert one_error(text).startswith("state_")
    assert checked == 3
    assert "s3cr3t-word" not in text + shown


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda path: path.unlink(), "flow.json"),
        (lambda path: path.write_text("modules: [\n  - }"), "flow.json:2"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00name: x"), "flow.json"),
        (lambda path: (path.unlink(), path.mkdir()), "flow.json"),
        (lambda path: _replace(path, '"source": "rows"', '"source": "rwos"'), "rows"),
        (lambda path: _replace(path, ".data.id}", ".data.id |}"), "flow.json:"),
        (lambda path: _replace(path, "source.postgres_cdc", "source.postgres_cd"), "postgres_cdc"),
    ],
    ids=[
        "not there",
        "not YAML",
        "not text",
        "a folder",
        "an unknown source",
        "a bad jq program",
        "an unknown type",
    ],
)
def test_a_flow_file_that_is_wrong(flow, capsys, spoil, wanted):
    flow.write(
        modules=[cdc_source("postgresql://127.0.0.1/x", "s", "t"), file_sink(flow.folder)],
        pipelines={
            "copy": pipeline(
                "rows", step("shape", "jq", {"expression": "{id: .data.id}"}), publish("out")
            )
        },
    )
    spoil(flow.path)
    for command in (["run", "--until-caught-up"], ["validate", "--connect"]):
        assert main([*command, str(flow.path)]) == 2
        told = capsys.readouterr()
        text = told.out + told.err
        assert wanted in text
        assert "Traceback" not in text
        assert "error[bug]" not in text


def _replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
