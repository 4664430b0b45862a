"""A registry on each of the two databases."""

from __future__ import annotations

import pytest

from flows.schemas.registry import SchemaRegistry
from flows.state.store import open_store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    return request.getfixturevalue("state_database")


@pytest.fixture
def opening(url):
    """Open another registry on the same state; closed afterwards."""
    opened = []

    def open_another():
        opened.append(open_store(url))
        return SchemaRegistry(opened[-1].schemas)

    yield open_another
    for store in opened:
        store.close()


@pytest.fixture
def registry(opening):
    return opening()
