"""Objects in S3: `sink.s3`, and `storage.s3`, its name elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.extras import importing
from connectors.s3.settings import S3Sink as S3SinkSettings

if TYPE_CHECKING:
    from connectors.s3.sink import S3Sink


def _sink(name: str, settings: S3SinkSettings) -> S3Sink:
    with importing("s3", "sink.s3"):
        from connectors.s3.sink import S3Sink  # noqa: PLC0415 - its client is an extra

    if settings.format == "parquet":
        with importing("parquet", "sink.s3 with format: parquet"):
            import pyarrow as pa  # noqa: F401, PLC0415 - asked for before anything runs
    return S3Sink(name, settings)


SINK_S3 = ConnectorType(
    "sink.s3",
    S3SinkSettings,
    "Write events to objects in S3, each once whatever crashes.",
    sink=_sink,
    roles=frozenset({"sink"}),
)
STORAGE_S3 = ConnectorType(
    "storage.s3",
    S3SinkSettings,
    "Write events to objects in S3 (another name of sink.s3).",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_S3", "STORAGE_S3"]
