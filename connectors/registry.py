"""Finds connectors, and what else packages bring along, through entry points.

Group `penstock.connectors`: the entry point's name is the `type:` of flow files, its value a
`ConnectorType`. Only the type asked for is imported, so a worker loads the clients it uses and no
others.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from connectors.contracts import ConnectorType
from connectors.errors import FlowFileError

T = TypeVar("T")


class Registry(Generic[T]):
    """The entry points of one group, each of which is a `kind`; `what` is that in words."""

    def __init__(self, group: str, kind: type[T], what: str, contract: str) -> None:
        self._group = group
        self._kind = kind
        self._what = what
        self._contract = contract
        self._points: dict[str, EntryPoint] | None = None
        self._loaded: dict[str, T] = {}

    def names(self) -> list[str]:
        """Return the name of every entry point, sorted."""
        return sorted(self._entry_points())

    def get(self, name: str) -> T | None:
        """Return what that entry point is, or None when no package provides it.

        Raises FlowFileError when its package is there and can't be imported.
        """
        if name not in self._loaded:
            point = self._entry_points().get(name)
            if point is None:
                return None
            self._loaded[name] = self._load(name, point)
        return self._loaded[name]

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = {point.name: point for point in entry_points(group=self._group)}
        return self._points

    def _load(self, name: str, point: EntryPoint) -> T:
        try:
            found = point.load()
        except Exception as error:
            # Whatever a package does when it is imported: it must not be taken for a fault of ours.
            said = (
                str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            )
            raise FlowFileError(
                f"the {self._what} {name} can't be imported: {said}.",
                code="type_import",
                hint=f"It comes from {point.value}; install what it needs.",
            ) from error
        if not isinstance(found, self._kind):
            raise FlowFileError(
                f"the entry point {name} = {point.value} is not a {self._kind.__name__}.",
                code="type_import",
                hint=f"See {self._contract}.",
            )
        return found


_CONNECTORS = Registry("penstock.connectors", ConnectorType, "connector", "connectors/contracts.py")


def connector_types() -> list[str]:
    """Return every known `type:` of a module, sorted."""
    return _CONNECTORS.names()


def connector_type(name: str) -> ConnectorType | None:
    """Return the connector of that type, or None when no package provides it.

    Raises FlowFileError when its package is there and can't be imported.
    """
    return _CONNECTORS.get(name)
