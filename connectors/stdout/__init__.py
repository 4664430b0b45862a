"""`sink.stdout`: one line per event on standard output."""

from __future__ import annotations

from connectors.contracts import ConnectorType
from connectors.stdout.sink import StdoutSettings, StdoutSink

SINK_STDOUT = ConnectorType(
    "sink.stdout",
    StdoutSettings,
    "Print events, one per line.",
    sink=StdoutSink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_STDOUT", "StdoutSettings", "StdoutSink"]
