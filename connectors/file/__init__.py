"""Files: `sink.file` appends JSON Lines; `source.file` is modelled and not built yet."""

from __future__ import annotations

from connectors.contracts import ConnectorType
from connectors.file.settings import FileSinkSettings, FileSourceSettings
from connectors.file.sink import FileSink

SINK_FILE = ConnectorType(
    "sink.file",
    FileSinkSettings,
    "Append events to files, each once whatever crashes.",
    sink=FileSink,
    roles=frozenset({"sink"}),
)
SOURCE_FILE = ConnectorType(
    "source.file",
    FileSourceSettings,
    "Read the lines of files.",
    roles=frozenset({"source"}),
)

__all__ = ["SINK_FILE", "SOURCE_FILE", "FileSink"]
