"""A state store on each of the two databases: every test that asks for `url` runs on both."""

from __future__ import annotations

import pytest

from flows.state.store import open_store


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request):
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    made = "store" in request.fixturenames  # its tables are made before the test begins
    return request.getfixturevalue("state_database" if made else "database")


@pytest.fixture
def opening(url):
    """Open another store on the same state; closed afterwards."""
    opened = []

    def open_another(at=url, **options):
        opened.append(open_store(at, **options))
        return opened[-1]

    yield open_another
    for store in opened:
        store.close()


@pytest.fixture
def store(opening):
    return opening()


@pytest.fixture
def lease(store):
    return store.acquire_lease("shop", "orders/0", "me", 60.0)
