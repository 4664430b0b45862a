from __future__ import annotations

import pytest

from tests.flows.history.recording import Recording


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def recording(request):
    """A flow's history on each of the two databases."""
    name = "sqlite_url" if request.param == "sqlite" else "database"
    made = Recording(request.getfixturevalue(name))
    yield made
    made.store.close()


@pytest.fixture
def on_sqlite(sqlite_url):
    made = Recording(sqlite_url)
    yield made
    made.store.close()
