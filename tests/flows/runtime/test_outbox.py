"""The outbox by CDC of docs/how-to/outbox.md, as it stands there, on real servers and under kills."""

from __future__ import annotations

import json
import os
from collections import Counter
from uuid import uuid4

import psycopg
import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.connectors.kafka.driving import write
from tests.docs.pages import blocks

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

PAGE = "docs/how-to/outbox.md"


class Booking:
    """The page's flow and tables, with topics and a slot of its own."""

    def __init__(self, folder, kafka, database):
        self.kafka, self.database = kafka, database
        self.incoming, self.events = kafka.create_topic(3), kafka.create_topic(3)
        (tables,) = [block for block in blocks("sql") if block.page == PAGE]
        own = [block for block in blocks("yaml") if block.page == PAGE]
        (flow,) = [block for block in own if "booking_outbox" in block.text]
        self.execute(tables.text)
        text = flow.text.replace("orders.in", self.incoming).replace("orders.events", self.events)
        self.flow = folder / "booking.yaml"
        self.flow.write_text(text.replace("booking_outbox", f"outbox_{uuid4().hex[:8]}"))
        self.environ = {
            **os.environ,
            "KAFKA_BROKERS": kafka.bootstrap,
            "DATABASE_URL": database,
            "PENSTOCK_STATE_URL": f"sqlite:///{folder}/state.db",
        }

    def execute(self, query):
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def run(self, source, fail_point="", code=0):
        worker = WorkerProcess(
            self.flow,
            source,
            until_caught_up=True,
            fail_point=fail_point,
            environ=self.environ,
        )
        assert worker.wait() == code, worker.text()

    def published(self, count):
        return self.kafka.read_all(self.events, count)


def header(message, name):
    return dict(message.headers())[name].decode()


def test_each_booking_and_its_event_are_there_once_whatever_is_killed(tmp_path, kafka, database):
    booking = Booking(tmp_path, kafka, database)
    booking.run("outbox")  # makes the slot
    orders = [b'{"id":"o-%d","total":%d.50}' % (n, n) for n in range(200)]
    write(kafka, booking.incoming, *orders)
    booking.run("incoming", "after_effects_before_settle:1", code=-9)
    booking.run("incoming")
    assert booking.execute("SELECT count(*), sum(total) FROM orders")[0] == (200, 20000)
    assert booking.execute("SELECT count(*) FROM outbox") == [(200,)]
    booking.execute("DELETE FROM outbox")  # what the relay has to read is in the WAL
    booking.run("outbox", "after_effects_before_settle:1", code=-9)
    booking.run("outbox")
    messages = booking.published(200)
    ids = Counter(header(message, "ce_id") for message in messages)
    assert len(ids) == 200  # a repeat has the id of the first
    found = {message.key().decode(): json.loads(message.value()) for message in messages}
    assert found == {f"o-{n}": {"id": f"o-{n}", "total": n + 0.5} for n in range(200)}
    assert {header(message, "ce_type") for message in messages} == {"order.booked"}
