"""Servers that go away under load: the flow waits, loses nothing, and makes no dead letters of it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from urllib.parse import quote

import psycopg
import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    FlowFolder,
    cdc_source,
    file_sink,
    kafka_sink,
    kafka_source,
    pipeline,
    publish,
    wait_for,
)
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.postgres, pytest.mark.kafka]


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


class Ticker:
    """Inserts numbered rows until it is stopped, through whatever happens to the server."""

    def __init__(self, dsn):
        self.dsn, self.count = dsn, 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                with psycopg.connect(self.dsn, autocommit=True) as connection:
                    while not self._stop.wait(0.005):
                        # A commit that got no answer may have happened: then it is there already.
                        connection.execute(
                            "INSERT INTO t VALUES (%s) ON CONFLICT DO NOTHING", [self.count]
                        )
                        self.count += 1
            except psycopg.Error:
                self._stop.wait(0.05)

    def wait_for(self, more):
        wanted = self.count + more
        wait_for(lambda: self.count >= wanted, "rows")

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def ticker(database):
    made = Ticker(database)
    yield made
    made.stop()


def copying(flow, source, *sinks):
    """A pipeline per sink; return nothing."""
    flow.write(
        modules=[source, *sinks],
        pipelines={
            f"to-{sink['name']}": pipeline(source["name"], publish(sink["name"])) for sink in sinks
        },
    )


def ids(flow):
    return [line["data"]["id"] for line in flow.lines()]


def in_topic(kafka, topic):
    """The rows in the order of their first arrival; a repeat has the same id and data."""
    first = {}
    for message in kafka.read_all(topic, 0):
        event = json.loads(message.value())
        assert first.setdefault(event["id"], event) == event
    return [event["data"]["id"] for event in first.values()]


def test_a_broker_that_is_stopped_and_started_loses_nothing(flow, ticker, kafka):
    topic = kafka.create_topic()
    copying(
        flow,
        cdc_source(ticker.dsn, "broker_away", "t"),
        kafka_sink(kafka.bootstrap, topic),
        file_sink(flow.folder),
    )
    run = flow.start()
    run.wait_until_started()
    ticker.wait_for(100)
    for stop in (kafka.stop, kafka.kill):
        stop()
        ticker.wait_for(100)
        kafka.start_again()
        ticker.wait_for(100)
    ticker.stop()
    wait_for(lambda: len(flow.lines()) >= ticker.count, "all lines")
    assert run.stop() == 0, run.text()
    assert ids(flow) == list(range(ticker.count))
    assert in_topic(kafka, topic) == list(range(ticker.count))
    assert flow.letters() == []
    counts = (ticker.count, 0, 0)
    assert flow.totals() == {"to-topic": counts, "to-out": counts}
    assert "starts again" not in run.text()


def test_a_webhook_that_answers_503_is_waited_for(flow, kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *[b'{"id":%d}' % n for n in range(50)])
    broken = threading.Event()
    broken.set()
    with serving() as server:
        server.answer = lambda _: Answer(503 if broken.is_set() else 204)
        hook = {"name": "hook", "type": "sink.webhook", "config": {"url": server.url}}
        copying(flow, kafka_source(kafka, topic, "orders"), hook)
        run = flow.start()
        run.wait_until_started()
        # Asked again and again, for more than one event's worth of attempts.
        wait_for(lambda: len(server.seen) > 150, "attempts")
        assert flow.totals() == {}
        broken.clear()
        wait_for(lambda: flow.totals() == {"to-hook": (50, 0, 0)}, "the settled batch")
        assert run.stop() == 0, run.text()
    assert flow.letters() == []


def test_a_sink_stalled_for_longer_than_wal_sender_timeout_keeps_the_replication_connection(
    flow, ticker, kafka, kafka_proxy
):
    topic = kafka.create_topic()
    dsn = f"{ticker.dsn}?options={quote('-c wal_sender_timeout=1000')}"
    copying(
        flow,
        cdc_source(dsn, "stalled", "t"),
        kafka_sink(kafka.proxied_bootstrap, topic),
    )
    run = flow.start()
    run.wait_until_started()
    wait_for(flow.totals, "a first settled batch")

    def walsender():
        with psycopg.connect(ticker.dsn) as connection:
            return connection.execute(
                "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'stalled'"
            ).fetchone()

    before = walsender()
    kafka_proxy.stall()
    time.sleep(4)  # four times the timeout: that it passes is what is tested
    assert walsender() == before
    kafka_proxy.restore()
    ticker.stop()
    wait_for(lambda: flow.totals() == {"to-topic": (ticker.count, 0, 0)}, "all rows")
    assert walsender() == before
    assert run.stop() == 0, run.text()
    assert in_topic(kafka, topic) == list(range(ticker.count))
    assert flow.letters() == []
    assert "reconnecting to PostgreSQL" not in run.text()


def test_a_postgres_that_is_stopped_and_started_loses_and_repeats_nothing(flow, postgres, ticker):
    copying(flow, cdc_source(ticker.dsn, "pg_away", "t"), file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    ticker.wait_for(50)
    for stop in (lambda: postgres.stop("fast", 5), postgres.kill):
        stop()
        postgres.start_again()
        ticker.wait_for(50)
    ticker.stop()
    wait_for(lambda: len(flow.lines()) >= ticker.count, "all lines")
    assert run.stop() == 0, run.text()
    assert ids(flow) == list(range(ticker.count))
    assert flow.totals() == {"to-out": (ticker.count, 0, 0)}


def test_a_locked_sqlite_state_is_waited_for_and_the_counts_are_exact(flow, ticker):
    copying(flow, cdc_source(ticker.dsn, "locked", "t"), file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    ticker.wait_for(50)
    blocker = sqlite3.connect(flow.folder / "state.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    time.sleep(10)  # longer than a client waits for a lock
    blocker.execute("ROLLBACK")
    blocker.close()
    ticker.wait_for(50)
    ticker.stop()
    wait_for(lambda: flow.totals() == {"to-out": (ticker.count, 0, 0)}, "exact counts")
    assert run.stop() == 0, run.text()
    assert ids(flow) == list(range(ticker.count))
    assert "starts again" not in run.text()


@pytest.fixture
def state_in_postgres(flow, postgres16, database16):
    flow.state_url = database16
    return postgres16


def test_a_postgres_state_that_is_stopped_and_started_is_waited_for(
    flow, state_in_postgres, ticker
):
    copying(flow, cdc_source(ticker.dsn, "state_away", "t"), file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    ticker.wait_for(50)
    for stop in (lambda: state_in_postgres.stop("fast", 5), state_in_postgres.kill):
        stop()
        ticker.wait_for(100)
        state_in_postgres.start_again()
        ticker.wait_for(50)
    ticker.stop()
    wait_for(lambda: flow.totals() == {"to-out": (ticker.count, 0, 0)}, "exact counts")
    assert run.stop() == 0, run.text()
    assert ids(flow) == list(range(ticker.count))
    assert "starts again" not in run.text()


def test_a_standby_survives_its_state_store(flow, state_in_postgres, kafka):
    """It waits on, and takes over when the first is gone."""
    topic = kafka.create_topic()
    copying(flow, kafka_source(kafka, topic), file_sink(flow.folder))
    first = flow.start()
    first.wait_until_started()
    second = flow.start()
    second.wait_for_lines("standby: another worker")
    state_in_postgres.stop("fast", 5)
    time.sleep(2)  # so that both have asked for it in vain
    state_in_postgres.start_again()
    write(kafka, topic, *[b'{"id":%d}' % n for n in range(20)])
    wait_for(lambda: len(flow.lines()) == 20, "20 lines")
    assert second.process.poll() is None, second.text()
    first.kill_all()
    second.wait_until_started()
    write(kafka, topic, *[b'{"id":%d}' % n for n in range(20, 40)])
    wait_for(lambda: len(flow.lines()) == 40, "40 lines")
    assert second.stop() == 0, second.text()
    assert sorted(ids(flow)) == list(range(40))


def test_a_drain_ends_though_the_state_store_is_away_and_nobody_supervises(
    flow, state_in_postgres, ticker
):
    """No worker is left behind: what it could not store comes again."""
    copying(flow, cdc_source(ticker.dsn, "left_alone", "t"), file_sink(flow.folder))
    run = flow.start()
    run.wait_until_started()
    ticker.wait_for(50)
    state_in_postgres.stop("fast", 5)
    ticker.wait_for(200)
    run.workers()
    run.process.kill()
    run.process.wait(10)
    wait_for(lambda: not run.workers_left(), "the worker's end", 60)
    state_in_postgres.start_again()
    ticker.stop()
    flow.run()
    assert ids(flow) == list(range(ticker.count))
    assert flow.totals() == {"to-out": (ticker.count, 0, 0)}
