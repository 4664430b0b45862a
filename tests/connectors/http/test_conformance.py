"""The promises of connectors.contracts, kept by source.http on the inbox of a state store."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from connectors.contracts import Shard
from connectors.http import SOURCE_HTTP
from connectors.testing import SourceConformance
from flows.state.inbox import Incoming
from flows.state.store import open_store


class InboxUnderTest:
    """Its upstream is the server's side of the inbox; what has been deleted is acknowledged."""

    def __init__(self, url):
        self.url = url
        settings = SOURCE_HTTP.settings(path="/hooks")
        self.source = SOURCE_HTTP.source("hooks", settings)
        self.opening = {"open_inbox": self.open_inbox}
        self.emitted = 0

    def open_inbox(self):
        return open_store(self.url).inbox.of_source("shop", "hooks", Shard())

    def emit(self, count):
        events = []
        for n in range(self.emitted, self.emitted + count):
            attributes = {"id": str(n), "source": "/t", "type": "t"}
            head = json.dumps([attributes, f"k{n % 3}", 1.0]).encode()
            events.append(Incoming(head, json.dumps({"n": n}).encode(), f"k{n % 3}", None))
        with closing(open_store(self.url)) as store:
            store.inbox.keep("shop", {"hooks": events})
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        with closing(open_store(self.url)) as store:
            return self.emitted - store.inbox.waiting("shop").get("hooks", 0)


class TestHttpSource(SourceConformance):
    @pytest.fixture
    def subject(self, tmp_path):
        return InboxUnderTest(f"sqlite:///{tmp_path}/state.db")


@pytest.mark.postgres
class TestHttpSourceOnPostgres(SourceConformance):
    @pytest.fixture
    def subject(self, database):
        return InboxUnderTest(database)
