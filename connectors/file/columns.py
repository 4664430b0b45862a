"""Records of files as a batch's columns: JSON, CloudEvents, rows of CSV, text.

What every flow reads is taken as it stands; the rest is made when something asks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from connectors.batch import Batch, Column, Maker
from connectors.cloudevents import Decoded, decode_structured
from connectors.errors import PenstockError, PermanentError
from connectors.file.places import Place, encode
from connectors.file.settings import CsvSettings, FileSourceSettings

Key = Callable[[Any], "str | None"]


class Columns:
    """Makes the columns of one source's batches.

    What each record's file is like is in columns of ours: `file.path`, `file.end`, `file.line`, `file.seen`
    and `file.header` (of CSV).
    """

    def __init__(self, name: str, settings: FileSourceSettings, key: Key | None) -> None:
        self._source = f"/file/{name}"
        self._settings = settings
        self._key = key
        self._encoding = settings.encoding
        self._is_utf8 = settings.encoding.lower().replace("_", "-") in {"utf-8", "utf8", "ascii"}
        self.makers: dict[str, Maker] = {
            "id": self._ids,
            "source": lambda batch: [self._source] * batch.size,
            "type": lambda batch: [settings.type] * batch.size,
            "position": _positions,
            "subject": lambda batch: batch.column("file.path"),
            "time": _times,
            "timestamp": lambda batch: [ms / 1000 for ms in batch.column("file.seen")],
            "extensions.line": lambda batch: batch.column("file.line"),
            "extensions": lambda batch: [{"line": n} for n in batch.column("file.line")],
        }
        match settings.format:
            case "jsonl":
                self.makers["raw"] = self._texts
            case "text":
                self.makers["data"] = self._strings
            case "csv":
                self.makers["data"] = self._rows
            case _:
                self.makers |= self._of_cloudevents()
        if key is not None:
            self.makers["key"] = self._keys

    def _ids(self, batch: Batch) -> Column:
        places = zip(batch.column("partition"), batch.column("file.end"), strict=True)
        return [f"{partition}/{end}" for partition, end in places]

    def _texts(self, batch: Batch) -> Column:
        """Return the records as UTF-8; what is not in the encoding fails alone."""
        wires = batch.column("wire")
        if self._is_utf8:
            return wires
        out: Column = []
        for index, wire in enumerate(wires):
            text = self._decoded(batch, index, wire)
            out.append(None if text is None else text.encode())
        return out

    def _strings(self, batch: Batch) -> Column:
        return [self._decoded(batch, k, wire) for k, wire in enumerate(batch.column("wire"))]

    def _decoded(self, batch: Batch, index: int, wire: bytes) -> str | None:
        try:
            return wire.decode(self._encoding)
        except UnicodeDecodeError as error:
            batch.errors[index] = PermanentError(
                f"line {batch.column('file.line')[index]} of {batch.column('file.path')[index]} is not"
                f" {self._encoding}: byte {error.start + 1} does not fit.",
                code="file_encoding",
                hint="Its bytes are kept with the dead letter. `encoding` says how files are written.",
            )
            return None

    def _rows(self, batch: Batch) -> Column:
        settings = self._settings.csv
        out: Column = []
        rows = zip(batch.column("wire"), batch.column("file.header"), strict=True)
        for index, (wire, header) in enumerate(rows):
            text = self._decoded(batch, index, wire)
            row = None if text is None else row_of(text, settings)
            if row is not None and len(row) != len(header):
                batch.errors[index] = PermanentError(
                    f"line {batch.column('file.line')[index]} of {batch.column('file.path')[index]} has"
                    f" {len(row)} fields, and {len(header)} columns are named.",
                    code="csv_fields",
                    hint="Its bytes are kept with the dead letter.",
                )
                row = None
            out.append(None if row is None else dict(zip(header, row, strict=True)))
        return out

    def _keys(self, batch: Batch) -> Column:
        key = self._key
        assert key is not None  # noqa: S101 - it is no maker without
        out: Column = []
        for index, data in enumerate(batch.column("data")):
            try:
                out.append(None if index in batch.errors else key(data))
            except PermanentError as error:
                batch.errors[index] = error
                out.append(None)
        return out

    def _of_cloudevents(self) -> dict[str, Maker]:
        """Return makers of what CloudEvents say themselves."""

        def attribute(name: str, otherwise: Maker) -> Maker:
            def make(batch: Batch) -> Column:
                decoded = batch.column("file.decoded")
                fallback = otherwise(batch)
                return [
                    fallback[k] if each is None else each.attributes.get(name)
                    for k, each in enumerate(decoded)
                ]

            return make

        def nothing(batch: Batch) -> Column:
            return [None] * batch.size

        found = {
            "file.decoded": self._decode_events,
            "raw": lambda batch: [e and e.raw for e in batch.column("file.decoded")],
            "data": lambda batch: [e and e.data for e in batch.column("file.decoded")],
            "key": attribute("partitionkey", nothing),
            "extensions": _extensions,
        }
        for name in ("id", "source", "type", "time", "subject"):
            found[name] = attribute(name, self.makers[name])
        for name in ("datacontenttype", "dataschema"):
            found[name] = attribute(name, nothing)
        del self.makers["extensions.line"]
        return found

    def _decode_events(self, batch: Batch) -> Column:
        out: list[Decoded | None] = []
        for index, wire in enumerate(batch.column("wire")):
            try:
                out.append(decode_structured(wire))
            except PenstockError as error:
                batch.errors[index] = (
                    error
                    if isinstance(error, PermanentError)
                    else PermanentError(error.message, code=error.code, hint=error.hint)
                )
                out.append(None)
        return out


def row_of(text: str, settings: CsvSettings) -> list[str]:
    """Return the fields of a record."""
    read = csv.reader(
        io.StringIO(text, newline=""), delimiter=settings.delimiter, quotechar=settings.quote
    )
    return next(read, [])


def _positions(batch: Batch) -> Column:
    places = zip(batch.column("file.end"), batch.column("file.line"), strict=True)
    return [encode(Place(end, line)) for end, line in places]


def _times(batch: Batch) -> Column:
    made: dict[int, str] = {}
    for ms in batch.column("file.seen"):
        if ms not in made:
            at = datetime.fromtimestamp(ms / 1000, timezone.utc)
            made[ms] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [made[ms] for ms in batch.column("file.seen")]


_CORE = {"id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "specversion"}


def _extensions(batch: Batch) -> Column:
    lines: Sequence[int] = batch.column("file.line")
    return [
        {"line": lines[k]}
        if each is None
        else {name: value for name, value in each.attributes.items() if name not in _CORE}
        for k, each in enumerate(batch.column("file.decoded"))
    ]
