"""A flow in a folder of its own, whose processes end with the test."""

from __future__ import annotations

import pytest

from tests.flows.runtime.running import FlowFolder


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()
