"""`source.postgres_cdc`: changes of PostgreSQL tables through logical replication (pgoutput).

The road of a change: `stream` reads it off the wire (on the thread of `feed`), `readahead` holds
it, `assemble` finds out what it is (transaction, number, wanted or not), `reader` hands it over in
a batch, `columns` and `rows` make of it what is asked for. Before that, `plan` decides where to
start and `snapshot` reads the rows there are; `position` and `progress` say where things are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.postgres_cdc.settings import PostgresCdcSettings

if TYPE_CHECKING:
    from connectors.postgres_cdc.source import PostgresCdcSource


def _source(name: str, settings: PostgresCdcSettings) -> PostgresCdcSource:
    from connectors.postgres_cdc.source import (  # noqa: PLC0415 - a flow is read without it
        PostgresCdcSource,
    )

    return PostgresCdcSource(name, settings)


POSTGRES_CDC = ConnectorType(
    name="source.postgres_cdc",
    settings=PostgresCdcSettings,
    summary="Row changes of PostgreSQL tables, in commit order, with an initial snapshot.",
    source=_source,
    roles=frozenset({"source"}),
)

__all__ = ["POSTGRES_CDC", "PostgresCdcSettings"]
