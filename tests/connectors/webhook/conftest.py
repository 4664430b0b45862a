"""The receiver of these tests: a real HTTP server."""

from __future__ import annotations

import pytest

from tests.transforms.steps.answering import serving


@pytest.fixture
def receiver():
    with serving() as server:
        yield server
