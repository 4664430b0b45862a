"""Fixtures that every test may ask for; tests/services/fixtures.py lists them."""

from __future__ import annotations

pytest_plugins = ["tests.services.fixtures"]
