"""Files: `sink.file` appends JSON Lines, `source.file` reads lines.

settings    what a flow file may write
sink        appends, each event once                  → output, journal, recovery, paths
source      what a file source is                      → reader
reader      finds and follows files, on a thread       → content: one of them, decompressed
records     bytes to lines, or rows of CSV (pure)
places      partitions and positions (pure)
columns     records as a batch's columns
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.file.settings import FileSinkSettings, FileSourceSettings
from connectors.file.sink import FileSink

if TYPE_CHECKING:
    from connectors.file.source import FileSource


def _source(name: str, settings: FileSourceSettings) -> FileSource:
    from connectors.file.source import FileSource  # noqa: PLC0415 - a flow is read without it

    return FileSource(name, settings)


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
    source=_source,
)

__all__ = ["SINK_FILE", "SOURCE_FILE", "FileSink"]
