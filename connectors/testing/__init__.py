"""The conformance kit: what the contracts promise, as tests for any source and any sink.

A connector's tests subclass SourceConformance or SinkConformance and give it a `subject` fixture:
the system under test, with ways to see the far side. pytest collects the rest. Nothing here needs
pytest to be imported, so the kit is part of the package.

    class TestMySink(SinkConformance):
        @pytest.fixture
        def subject(self, tmp_path):
            return MySinkUnderTest(tmp_path)
"""

from __future__ import annotations

from connectors.testing.delivering import SinkUnderTest
from connectors.testing.killing import Recipe
from connectors.testing.leaks import no_leaks
from connectors.testing.reading import SourceUnderTest
from connectors.testing.sinks import SinkConformance
from connectors.testing.sources import SourceConformance
from connectors.testing.troubles import TroubledNetwork
from connectors.testing.waiting import expect, wait_until

__all__ = [
    "Recipe",
    "SinkConformance",
    "SinkUnderTest",
    "SourceConformance",
    "SourceUnderTest",
    "TroubledNetwork",
    "expect",
    "no_leaks",
    "wait_until",
]
