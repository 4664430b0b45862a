"""What routes take in their query, parameter by parameter."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from connectors.settings import Settings

Limit = Annotated[int, Ge(1), Le(1000)]


class PageQuery(Settings):
    """A page of a list."""

    limit: Limit = 50
    """How many at most."""
    cursor: str | None = None
    """Go on where a page ended: what it gave as `cursor`."""


class ParkedQuery(PageQuery):
    """Which parked executions."""

    pipeline: str | None = None
    """Only this pipeline's."""
