from __future__ import annotations

import pytest

from flows.state.store import open_store
from tests.flows.runtime.running import FlowFolder
from tests.penstock.api.served import serving


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def store(sqlite_url):
    opened = open_store(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def lease(store):
    return store.acquire_lease("shop", "orders/0", "me", 60.0)


@pytest.fixture
def served(tmp_path, sqlite_url, store):
    """The API of a flow whose state is there, empty, and which has no workers."""
    with serving(tmp_path, sqlite_url) as api:
        yield api


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()
