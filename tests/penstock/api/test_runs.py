"""The API of flows that `penstock run` runs: what it says while they work, hang, die and end."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.cli.app import main
from tests.flows.runtime.running import cdc_source, file_sink, pipeline, publish, step, wait_for
from tests.penstock.api.served import client_of, problem, url_of
from tests.transforms.steps.answering import Answer, serving

pytestmark = pytest.mark.postgres

ANY_PORT = ("--address", "127.0.0.1:0")


def rows(dsn, first, last):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY)")
        connection.execute(
            "INSERT INTO orders SELECT * FROM generate_series(%s::int, %s::int)", [first, last]
        )


def write(flow, dsn, *steps, **more):
    """A flow of rows through `steps` into a file; every fifth fails."""
    shape = '{id: (if .data.id % 5 == 0 then error("no") else .data.id end)}'
    flow.write(
        modules=[
            cdc_source(dsn, f"slot_{flow.folder.name}"[:60], "orders"),
            file_sink(flow.folder),
        ],
        pipelines={
            "keep": pipeline(
                "rows", step("shape", "jq", {"expression": shape}), *steps, publish("out")
            )
        },
        **more,
    )


@contextmanager
def frozen(process):
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def metrics(client):
    """Return (name, labels in the order of their names) → value, as Prometheus reads it."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def reached(client, done, failed):
    """Wait until so many have ended; return the metrics of then."""

    def there():
        found = metrics(client)
        name = "workflow_pipeline_executions_total"
        ended = found[name, "keep", "completed"] + found[name, "keep", "failed"]
        return found if ended == done + failed else None

    return wait_for(there, f"{done} done and {failed} failed")


def test_the_metrics_equal_what_was_done_also_when_a_worker_was_killed(flow, database):
    rows(database, 1, 100)
    write(flow, database)
    run = flow.start(*ANY_PORT)
    with client_of(run) as client:
        found = reached(client, 80, 20)
        assert found["workflow_pipeline_executions_total", "keep", "completed"] == 80
        assert found["workflow_pipeline_executions_total", "keep", "failed"] == 20
        assert found["workflow_pipeline_duration_seconds_count", "keep"] == 100
        assert found["workflow_step_executions_total", "keep", "completed", "shape"] == 80
        assert found["workflow_step_executions_total", "keep", "failed", "shape"] == 20
        assert found["workflow_step_executions_total", "keep", "completed", "write"] == 80
        timed = "workflow_step_duration_seconds_count"
        assert found[timed, "keep", "shape", "step.jq"] == 100
        assert found[timed, "keep", "write", "step.publish"] == 80
        assert found["workflow_event_store_events_total", "keep"] == 100
        assert found["workflow_pipeline_error_rate", "keep"] == 20.0
        assert found["workflow_connector_health", "rows", "source.postgres_cdc"] == 1
        assert found["workflow_connector_health", "out", "sink.file"] == 1
        wait_for(lambda: metrics(client)["workflow_dlq_depth", "keep"] == 20, "the stored letters")
        assert found["workflow_worker_resident_memory_bytes", "0", "rows"] > 10_000_000
        assert found["workflow_worker_cpu_seconds_total", "0", "rows"] > 0

        (worker,) = run.workers()
        worker.kill()
        restarts = ("workflow_worker_restarts_total", "0", "rows")
        wait_for(lambda: metrics(client)[restarts] == 1, "the restart")
        rows(database, 101, 110)
        after = reached(client, 88, 22)
        assert after["workflow_step_executions_total", "keep", "completed", "write"] == 88
        assert after["workflow_pipeline_duration_seconds_count", "keep"] == 110
        cpu = ("workflow_worker_cpu_seconds_total", "0", "rows")
        assert after[cpu] > found[cpu]
    assert run.stop() == 0
    assert len(flow.lines()) == 88
    assert flow.totals() == {"keep": (88, 22, 0)}


def test_it_answers_while_a_worker_is_saturated_and_while_one_does_not_answer(flow, database):
    rows(database, 1, 3000)
    busy = {"function": "busy:busy"}
    (flow.folder / "busy.py").write_text("def busy(row): return sum(range(200_000))\n")
    write(flow, database, step("spin", "python", busy))
    run = flow.start(*ANY_PORT)
    with client_of(run) as client:
        spinning = ("workflow_pipeline_active_executions", "keep")
        wait_for(lambda: metrics(client)[spinning] > 0, "a batch in its steps")
        for path in ("/healthz", "/api/v1/pipelines", "/api/v1/pipelines/keep", "/api/v1/sources"):
            assert client.get(path).status_code == 200
        wait_for(lambda: client.get("/readyz").status_code == 200, "the flow to be ready")
        (worker,) = run.workers()
        with frozen(worker):
            assert client.get("/api/v1/sources").status_code == 200
            not_ready = wait_for(
                lambda: (a := client.get("/readyz")).status_code == 503 and a.json(),
                "the worker to be missed",
            )
            (check,) = [each for each in not_ready["checks"] if not each["ok"]]
            assert check["name"] == "rows/0"
            assert check["detail"].startswith("it has not reported for ")
            assert metrics(client)["workflow_worker_up", "0", "rows"] == 0
        wait_for(lambda: client.get("/readyz").status_code == 200, "the worker to be back")
    run.kill_all()


def test_a_state_store_that_is_stopped_is_503_and_back_again_afterwards(flow, database, postgres16):
    rows(database, 1, 10)
    postgres16.create_database(f"state_{flow.folder.name}"[:60])
    flow.state_url = postgres16.dsn(f"state_{flow.folder.name}"[:60])
    write(flow, database)
    run = flow.start(*ANY_PORT)
    try:
        with client_of(run) as client:
            reached(client, 8, 2)
            postgres16.stop()
            answer = client.get("/api/v1/dlq/pipelines/keep")
            status, code = problem(answer)
            assert (status, code) in {(503, "state_unavailable"), (503, "state_unreachable")}
            assert int(answer.headers["retry-after"]) > 0
            checks = client.get("/readyz")
            assert checks.status_code == 503
            assert [each["name"] for each in checks.json()["checks"] if not each["ok"]] == ["state"]
            assert client.get("/api/v1/pipelines").status_code == 200
            assert metrics(client)["workflow_state_store_up",] == 0
            postgres16.start_again()
            wait_for(
                lambda: client.get("/api/v1/dlq/pipelines/keep").status_code == 200,
                "the state store to be back",
            )
            # Counted in memory at once; stored, perhaps, only when the store is back.
            wait_for(
                lambda: len(client.get("/api/v1/dlq/pipelines/keep").json()["dead_letters"]) == 2,
                "both dead letters",
            )
            wait_for(lambda: client.get("/readyz").status_code == 200, "the flow to be ready")
        assert run.stop() == 0
    finally:
        postgres16.start_again()


def test_the_server_ends_with_the_flow_and_says_before_that_it_is_not_ready(flow, database):
    rows(database, 1, 5)
    (flow.folder / "slow.py").write_text(
        "import time\ndef slow(row):\n    time.sleep(3)\n    return row\n"
    )
    write(flow, database, step("wait", "python", {"function": "slow:slow"}))
    run = flow.start(*ANY_PORT)
    with client_of(run) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "the flow to run")
        run.signal(signal.SIGTERM)
        wait_for(lambda: client.get("/readyz").status_code == 503, "the drain to show")
    assert run.wait() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url_of(run)}/healthz")


def test_an_open_circuit_is_seen_and_seen_to_close(flow, database):
    rows(database, 1, 5)
    with serving() as service:
        service.answer = lambda _: Answer(status=503)
        breaker = {"failure_threshold": 2, "success_threshold": 1, "timeout": "1s"}
        call = {"url": f"{service.url}/do", "method": "POST", "circuit_breaker": breaker}
        flow.write(
            modules=[cdc_source(database, "circuit", "orders"), file_sink(flow.folder)],
            pipelines={
                "keep": pipeline(
                    "rows",
                    step("call", "http_call", call),
                    publish("out"),
                    retry={"max_attempts": 1000, "initial_delay": "100ms", "max_delay": "100ms"},
                )
            },
        )
        run = flow.start(*ANY_PORT)
        with client_of(run) as client:
            health = ("workflow_connector_health", "keep/call", "step.http_call")
            wait_for(lambda: metrics(client).get(health) == 0, "the open circuit")
            assert metrics(client)["workflow_pipeline_parked_executions", "keep"] > 0
            retries = ("workflow_step_retries_total", "keep", "call")
            wait_for(lambda: metrics(client)[retries] > 0, "a retry")
            service.answer = lambda _: Answer(status=200, body=b"{}")
            wait_for(lambda: metrics(client)[health] == 1, "the closed circuit")
            found = reached(client, 5, 0)
            assert found["workflow_step_executions_total", "keep", "completed", "call"] == 5
            assert found["workflow_step_executions_total", "keep", "failed", "call"] == 0
        assert run.stop() == 0


def test_a_port_that_is_taken_is_told_with_its_key_and_the_flow_runs_without(flow, database):
    rows(database, 1, 5)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write(flow, database, server={"address": address})
        log = flow.run()
    assert f"the API can't be served at {address}: another process listens there." in log
    assert "server.address" in log
    assert len(flow.lines()) == 4


def test_without_a_server_nothing_listens(flow, database):
    rows(database, 1, 5)
    write(flow, database)
    log = flow.run("--no-server")
    assert "/api/v1" not in log
    assert len(flow.lines()) == 4


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.com:80"])
def test_an_address_that_others_reach_needs_tokens(flow, database, capsys, address):
    write(flow, database)
    assert main(["run", str(flow.path), "--address", address]) == 2
    assert "error[server_tokens_missing]" in capsys.readouterr().err
    write(flow, database, server={"address": address})
    assert main(["validate", str(flow.path)]) == 2
    assert "server_tokens_missing" in capsys.readouterr().err


def test_an_address_that_is_none_is_refused(flow, database, capsys):
    write(flow, database)
    assert main(["run", str(flow.path), "--address", "localhost"]) == 2
    assert "error[address_invalid]" in capsys.readouterr().err
