"""What objects are made of: lines of text here, Parquet in parquet.py.

A batch becomes *parts*, one for each object that it has events of. Parts are what is staged and what open
objects hold; an object is finished when it is written, from its parts alone. So what an earlier start has
staged under other settings is finished as what it is.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import zstandard

from connectors.contracts import Outgoing
from connectors.errors import PenstockError
from connectors.extras import importing
from connectors.jsonlines import joined, lines_of
from connectors.s3.objects import OpenObject
from connectors.s3.settings import S3Sink

if TYPE_CHECKING:
    from types import ModuleType

_ENDINGS = {"gzip": ".gz", "zstd": ".zst"}
_ARROW = b"\xff\xff\xff\xff"
"""How a part begins that is a stream of Arrow's, and no JSON text can."""

Evaluate = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch on its way to objects."""

    part: Callable[[Sequence[int]], bytes]
    """Places in the batch → the part with these events."""
    failures: Mapping[int, PenstockError] = field(default_factory=dict)
    """Events that can't be written; they are to be in no part."""


class Content(Protocol):
    """Makes parts, as the settings say."""

    ending: str
    """What is added to an object's key."""

    def prepared(self, events: Outgoing) -> Prepared:
        """Prepare a batch."""

    def fits(self, one: OpenObject) -> bool:
        """Whether parts that are made now may follow those that the object has."""

    def compact(self, one: OpenObject) -> None:
        """Merge parts that are small, where each part costs something."""


class Lines:
    """Lines of text."""

    def __init__(self, settings: S3Sink) -> None:
        self._format = settings.format
        self.ending = _ENDINGS.get(settings.compression or "none", "")

    def prepared(self, events: Outgoing) -> Prepared:
        """Make a line per event."""
        lines = lines_of(events, "json" if self._format == "json" else "cloudevents_json")
        return Prepared(lambda places: joined([lines[place] for place in places]))

    def fits(self, one: OpenObject) -> bool:
        """Return whether the object has lines."""
        return not any(part.startswith(_ARROW) for part in one.parts)

    def compact(self, one: OpenObject) -> None:
        """Leave them: a part costs nothing."""


def content_of(settings: S3Sink, compile_jq: Callable[[str], Evaluate] | None) -> Content:
    """Return what makes parts. Raises FatalError, FlowFileError."""
    if settings.format == "parquet":
        made: Content = _parquet().Rows(settings, compile_jq)
        return made
    return Lines(settings)


def finished(one: OpenObject, settings: S3Sink) -> tuple[bytes, str]:
    """Return an object's bytes and media type, from its parts. Raises FatalError, FlowFileError."""
    compression: str | None = settings.compression
    if any(part.startswith(_ARROW) for part in one.parts):
        codec = compression or "snappy" if settings.format == "parquet" else "snappy"
        return _parquet().parquet_of(one.parts, codec), "application/vnd.apache.parquet"
    if settings.format == "parquet":  # as it was when this object was begun: its key says so
        endings = _ENDINGS.items()
        compression = next((name for name, end in endings if one.name.endswith(end)), None)
    text = b"".join(one.parts)
    match compression:
        case "gzip":
            return gzip.compress(text, 6, mtime=0), "application/gzip"
        case "zstd":
            return zstandard.compress(text, 3), "application/zstd"
        case _:
            return text, "application/x-ndjson"


def _parquet() -> Any:
    with importing("parquet", "sink.s3 with Parquet"):
        from connectors.s3 import parquet  # noqa: PLC0415 - its library is an extra, and takes a while

    module: ModuleType = parquet
    return module


__all__ = ["Content", "Evaluate", "Lines", "Prepared", "content_of", "finished"]
