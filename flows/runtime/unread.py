"""The reader of a worker that reads nothing: it is at its end, and every partition is its own."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag


class Unread:
    """A `connectors.contracts.Reader` without a source: only what waits in the state store runs."""

    def poll(self, limit: int, timeout: float) -> Batch | None:  # noqa: ARG002 - the contract's
        """Be at the end."""
        raise EndOfSource

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Nothing was read."""

    def owns(self, partition: str) -> bool:  # noqa: ARG002 - the contract's
        """Take what waits of every partition."""
        return True

    def lag(self) -> Mapping[str, Lag]:
        """Know of none."""
        return {}

    def status(self) -> str:
        """All is well."""
        return ""

    def close(self) -> None:
        """Nothing is open."""
