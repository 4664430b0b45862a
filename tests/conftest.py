"""Fixtures that every test may ask for; tests/services/fixtures.py lists them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # how long a case takes says something about the machine
settings.load_profile("untimed")

pytest_plugins = ["tests.services.fixtures"]


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests and modules, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logs_as_nobody_has_set_them_up() -> Iterator[None]:
    """Undo what a command that a test has run made of logging: its stream is closed by now."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
