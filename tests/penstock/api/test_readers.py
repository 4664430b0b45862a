"""The threads that ask the state store, and what they can do to it: nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import wait
from contextlib import contextmanager

import psutil
import psycopg
import pytest
from sqlalchemy import text

from connectors.errors import PenstockError
from flows.state.reading import StateReader
from flows.state.store import open_store
from penstock.api.readers import ReaderThreads
from tests.flows.runtime.running import cdc_source, file_sink, pipeline, publish
from tests.penstock.api.served import client_of, problem


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request):
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "database")


def test_a_reader_can_change_nothing(url):
    open_store(url).close()
    reader = StateReader(url)
    try:
        for statement in ("DELETE FROM penstock_leases", "CREATE TABLE t (id int)"):
            with pytest.raises(PenstockError):
                reader._database.run(lambda c, s=statement: c.execute(text(s)))
        assert reader.totals("shop") == {}
    finally:
        reader.close()


def test_a_question_that_takes_too_long_fails_on_postgresql(database):
    open_store(database).close()
    reader = StateReader(database, timeout=0.2)
    try:
        with pytest.raises(PenstockError) as caught:
            reader._database.run(lambda c: c.execute(text("SELECT pg_sleep(60)")))
        assert caught.value.code == "state_unavailable"
        reader.ping()
    finally:
        reader.close()


def test_work_that_hangs_takes_its_thread_and_no_other(store, sqlite_url):
    threads = ReaderThreads(sqlite_url, threads=2)
    hang = threading.Event()
    try:
        stuck = threads.submit(lambda _: hang.wait())
        answers = [threads.submit(lambda stores: stores.reader.totals("shop")) for _ in range(20)]
        assert [each.result(20) for each in answers] == [{}] * 20
        assert not stuck.done()
        both = threads.submit(lambda _: hang.wait())
        late = threads.submit(lambda _: "never asked")
        assert late.cancel()
        hang.set()
        assert not wait([stuck, both], 20).not_done
    finally:
        hang.set()
        threads.close()


def frozen_processes(server):
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]


@contextmanager
def hanging(server):
    """Stop every process of a PostgreSQL, so that it neither answers nor closes a connection."""
    processes = frozen_processes(server)
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


@pytest.fixture
def run(flow, database, postgres16):
    """A run whose state is in a PostgreSQL of its own."""
    name = f"state_{os.getpid()}_{time.monotonic_ns()}"
    postgres16.create_database(name)
    flow.state_url = postgres16.dsn(name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    flow.write(
        modules=[cdc_source(database, name, "orders"), file_sink(flow.folder)],
        pipelines={"keep": pipeline("rows", publish("out"))},
    )
    return flow.start("--address", "127.0.0.1:0")


@pytest.mark.postgres
def test_a_store_that_hangs_is_a_503_for_those_who_ask_and_nothing_for_the_rest(run, postgres16):
    run.wait_until_started()
    with client_of(run) as client:
        assert client.get("/api/v1/parked").status_code == 200
        with hanging(postgres16):
            asking = [
                threading.Thread(target=client.get, args=["/api/v1/sources"]) for _ in range(6)
            ]
            for each in asking:
                each.start()
            for path in ("/healthz", "/api/v1/flows", "/api/v1/pipelines", "/api/v1/workers"):
                assert client.get(path).status_code == 200
            assert problem(client.get("/api/v1/parked")) == (503, "state_timeout")
            for each in asking:
                each.join(30)
        assert client.get("/api/v1/pipelines/keep").status_code == 200
    assert run.stop() == 0


@pytest.mark.postgres
def test_a_store_that_hangs_does_not_hold_up_the_end(run, postgres16):
    run.wait_until_started()
    with client_of(run) as client:
        assert client.get("/api/v1/parked").status_code == 200
        with hanging(postgres16):
            assert problem(client.get("/api/v1/parked")) == (503, "state_timeout")
            run.signal(signal.SIGTERM)
            for worker in run.workers():
                worker.kill()
            run.wait()
