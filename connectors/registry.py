"""Finds connectors by the `type:` that flow files write, through entry points.

Group `penstock.connectors`: the entry point's name is the type, its value a `ConnectorType`.
Only the type asked for is imported, so a worker loads the clients it uses and no others.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from connectors.contracts import ConnectorType
from connectors.errors import FlowFileError

GROUP = "penstock.connectors"


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def connector_types() -> list[str]:
    """Return every known `type:`, sorted."""
    return sorted(_entry_points())


@cache
def connector_type(name: str) -> ConnectorType | None:
    """Return the connector of that type, or None when no package provides it.

    Raises FlowFileError when its package is there and can't be imported.
    """
    point = _entry_points().get(name)
    if point is None:
        return None
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise FlowFileError(
            f"the connector {name} can't be imported: {error}.",
            code="connector_import",
            hint=f"It comes from {point.value}; install what it needs.",
        ) from error
    if not isinstance(found, ConnectorType):
        raise FlowFileError(
            f"the entry point {name} = {point.value} is not a ConnectorType.",
            code="connector_import",
            hint="See connectors/contracts.py.",
        )
    return found
