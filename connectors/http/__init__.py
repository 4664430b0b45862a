"""Webhooks and HTTP routes that start pipelines: `source.http`.

settings    what a flow file may write
requests    from a request to events, or to the status it is refused with (pure)
encodings   what a compressed body holds (pure)
signatures  whether a request is signed by who says to have sent it (pure)
routes      which source a path leads to (pure)
source      what a worker reads: the inbox in which the server keeps events     → reader

The server itself is the flow's (`penstock/api/hooks.py`): a connector listens nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.http.settings import HttpSourceSettings

if TYPE_CHECKING:
    from connectors.http.source import HttpSource


def _source(name: str, settings: HttpSourceSettings) -> HttpSource:
    from connectors.http.source import HttpSource  # noqa: PLC0415 - a flow is read without it

    return HttpSource(name, settings)


SOURCE_HTTP = ConnectorType(
    "source.http",
    HttpSourceSettings,
    "Receive webhooks and HTTP requests.",
    source=_source,
)

__all__ = ["SOURCE_HTTP"]
