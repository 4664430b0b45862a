"""`sink.postgres`: rows of a table, each written once whatever crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.postgres.settings import PostgresSink as PostgresSinkSettings

if TYPE_CHECKING:
    from connectors.postgres.sink import PostgresSink


def _sink(name: str, settings: PostgresSinkSettings) -> PostgresSink:
    from connectors.postgres.sink import PostgresSink  # noqa: PLC0415 - a flow is read without it

    return PostgresSink(name, settings)


SINK_POSTGRES = ConnectorType(
    "sink.postgres",
    PostgresSinkSettings,
    "Write rows to a PostgreSQL table, each once whatever crashes.",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_POSTGRES"]
