"""What these tests share: a source on a test's database, read as the runtime would read it."""

from __future__ import annotations

import time
from contextlib import contextmanager

import psycopg
import pytest

from connectors.contracts import EndOfSource, Opening, Shard
from connectors.postgres_cdc import POSTGRES_CDC

PATIENCE = 30.0

on_both_versions = pytest.mark.parametrize("database", [18, 16], indirect=True)
"""Runs a test on both versions of PostgreSQL that its fixtures have."""


def settings(dsn, tables=("t",), **more):
    listed = [{"table": table} if isinstance(table, str) else table for table in tables]
    slot = more.pop("slot_name", "s_" + dsn.rpartition("test_")[2][:12].strip("'"))
    given = {"connection": dsn, "slot_name": slot, "tables": listed, "heartbeat": "200ms"}
    return POSTGRES_CDC.settings.model_validate(given | more)


class Flow:
    """A source with the checkpoint its runtime would keep."""

    def __init__(self, dsn, tables=("t",), **more):
        self.dsn = dsn
        self.settings = settings(dsn, tables, **more)
        self.slot = self.settings.slot_name
        self.source = POSTGRES_CDC.source("orders", self.settings)
        self.positions = {}

    @contextmanager
    def open(self, *, until_caught_up=False):
        reader = self.source.open(
            Opening(Shard(), dict(self.positions), until_caught_up=until_caught_up)
        )
        try:
            yield Reading(self, reader)
        finally:
            reader.close()

    def checks(self):
        return list(self.source.preflight())

    def confirmed(self):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            (lsn,) = connection.execute(
                "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s",
                [self.slot],
            ).fetchone()
        return number(lsn)


class Reading:
    def __init__(self, flow, reader):
        self.flow = flow
        self.reader = reader

    def batch(self, limit=1000, *, settle=True):
        """Return the next batch with events in it; settle it and those without."""
        deadline = time.monotonic() + PATIENCE
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"no event within {PATIENCE} s; {self.reader.status()}"
            batch = self.reader.poll(limit, min(left, 0.5))
            if batch is None:
                continue
            if settle:
                self.settle(batch.after)
            if batch.size:
                return batch

    def settle(self, positions):
        before = self.flow.positions.get(self.flow.slot, "")
        for partition, position in positions.items():
            assert position >= before
            self.flow.positions[partition] = position
        self.reader.acknowledge(positions)

    def take(self, count, limit=1000, *, settle=True):
        """Return exactly `count` events, as objects."""
        events = []
        while len(events) < count:
            batch = self.batch(limit, settle=settle)
            events += [batch.event(index) for index in range(batch.size)]
            assert not batch.errors
        assert len(events) == count, [event.id for event in events]
        return events

    def rest(self, *, settle=True):
        """Return the events up to the end of a bounded read."""
        events = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                batch = self.reader.poll(1000, 0.2)
            except EndOfSource:
                return events
            if batch is not None:
                if settle:
                    self.settle(batch.after)
                events += [batch.event(index) for index in range(batch.size)]
        raise AssertionError("the bounded read did not end")

    def started(self):
        """Poll until the slot is there: what is written from here on is read."""
        deadline = time.monotonic() + PATIENCE
        while self.reader.lag()[self.flow.slot].bytes is None:
            assert time.monotonic() < deadline, self.reader.status()
            self.idle()

    def idle(self):
        """Poll once and settle, as a runtime without events does."""
        batch = self.reader.poll(1000, 0.05)
        if batch is not None:
            assert batch.size == 0
            self.settle(batch.after)

    def failure(self):
        """Return the error that ends the reading."""
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(Exception) as raised:  # noqa: PT012 - it comes from one of many polls
            while time.monotonic() < deadline:
                self.reader.poll(1000, 0.2)
        return raised.value


def number(lsn):
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def execute(dsn, *statements):
    """Run each statement in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def fetch(dsn, statement, *arguments):
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(statement, arguments).fetchall()


def simple(events):
    """Return operation and data of events."""
    return [(event.change.operation, event.data) for event in events]
