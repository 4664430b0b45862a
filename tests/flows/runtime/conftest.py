"""A flow in a folder of its own, whose processes end with the test."""

from __future__ import annotations

import pytest

from tests.flows.runtime.calling import Calling, Service
from tests.flows.runtime.running import FlowFolder
from tests.transforms.steps.answering import serving


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


@pytest.fixture
def service():
    with serving() as receiver:
        yield Service(receiver)


@pytest.fixture
def calling(flow, kafka, service):
    made = Calling(flow, kafka, service)
    made.write_flow()
    return made
