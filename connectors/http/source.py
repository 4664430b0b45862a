"""What a worker reads of `source.http`: the inbox in which the server keeps events."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.contracts import Check, Opening, SourceTraits
from connectors.errors import FatalError
from connectors.http.reader import InboxReader
from connectors.http.settings import HttpSourceSettings


class HttpSource:
    """See `connectors.contracts.Source`."""

    traits = SourceTraits(
        ordered=True,
        replayable=False,
        seek_by_time=False,
        partitioned=True,
        json=True,
        pushed=True,
    )

    def __init__(self, name: str, settings: HttpSourceSettings) -> None:
        self._name = name
        self._settings = settings

    def preflight(self) -> Iterable[Check]:
        """Tell where it listens; whether it can is seen when the server starts."""
        methods = ", ".join(self._settings.methods)
        yield Check("path", ok=True, found=f"{methods} {self._settings.path}")

    def open(self, opening: Opening) -> InboxReader:
        """Begin with what the server has kept and no worker has settled."""
        if opening.open_inbox is None:
            raise FatalError(
                f"the source {self._name} was opened without an inbox.",
                code="inbox_missing",
                hint="Events of source.http come through the server of `penstock run`.",
            )
        return InboxReader(opening.open_inbox(), opening)
