"""Fixtures that every test may ask for; tests/services/fixtures.py lists them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["tests.services.fixtures"]


@pytest.fixture(autouse=True)
def _logs_as_nobody_has_set_them_up() -> Iterator[None]:
    """Undo what a command that a test has run made of logging: its stream is closed by now."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
