"""Dead letters of a flow whose source is out of reach, on both databases."""

from __future__ import annotations

import pytest

from tests.dlq.shelf import Shelf
from tests.transforms.steps.answering import serving


@pytest.fixture
def service():
    with serving() as server:
        yield server


@pytest.fixture
def shelf(tmp_path, service):
    made = Shelf(tmp_path, service)
    made.write_flow(made.call())
    yield made
    made.flow.end()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_shelf(request, tmp_path, service):
    url = request.getfixturevalue("state_database") if request.param == "postgresql" else None
    made = Shelf(tmp_path, service, url)
    made.write_flow(made.call())
    yield made
    made.flow.end()
