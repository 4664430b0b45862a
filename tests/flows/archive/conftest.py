"""An archive on each of the two databases: every test that asks for `url` runs on both."""

from __future__ import annotations

import pytest

from tests.flows.archive.archiving import Archived
from tests.flows.state.conftest import (  # noqa: F401 - fixtures
    lease,
    opening,
    sqlite_url,
    store,
    url,
)


@pytest.fixture
def archived(store, lease):  # noqa: F811 - a fixture asks for another by its name
    return Archived(store, lease)
