"""One file that is read: its content from a place on, decompressed, as long as it can be opened."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from connectors.errors import FatalError
from connectors.file.columns import row_of
from connectors.file.places import HEAD, Place, fingerprint
from connectors.file.records import Records, split
from connectors.file.settings import FileSourceSettings

CHUNK = 1 << 20
"""Bytes that are read at once."""

LONGEST = 64 << 20
"""Bytes of the longest record: beyond, a file is not what its `format` says."""

_BOM = b"\xef\xbb\xbf"


class Content:
    """A file's content behind a place. Only the reader's thread uses it."""

    def __init__(
        self, path: str, partition: str, place: Place, settings: FileSourceSettings
    ) -> None:
        """Open it. Raises OSError."""
        self.path = path
        self.partition = partition
        self.place = place
        self.header: tuple[str, ...] = ()
        self.is_cut_off = False
        """It is compressed, and ends in the middle of its stream."""
        self.head = b""
        self._settings = settings
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._stream = _stream(self._file, path, settings)
        self.is_compressed = self._stream is not self._file
        self._at = 0
        self._rest = b""
        self._has_begun = False

    def was_rewritten(self) -> bool:
        """Whether what has been read of it is gone: it was cut off, and perhaps written anew."""
        if self.is_compressed:
            return False
        if os.fstat(self._file.fileno()).st_size < self._at:
            return True
        return os.pread(self._file.fileno(), len(self.head), 0) != self.head

    def fileno(self) -> int:
        """Return the open file's descriptor."""
        return self._file.fileno()

    def is_still(self, place: Place) -> bool:
        """Whether it is the content that the place is in: long enough, and with the same beginning.

        Reads the beginning; call it once, before anything else is read.
        """
        self._begin()
        if not self.is_compressed and os.fstat(self._file.fileno()).st_size < place.offset:
            return False
        return place.fingerprint in {None, fingerprint(self.head, place.offset)}

    def go_to(self, place: Place) -> None:
        """Read on from there. Raises OSError."""
        self._begin()
        self.place = place
        if self.is_compressed:
            while self._at < place.offset:
                got = self._read(min(CHUNK, place.offset - self._at))
                if not got:
                    break
        else:
            self._file.seek(place.offset)
            self._at = place.offset
        self._rest = b""

    def next(self, *, to_the_end: bool, until: int | None = None) -> Records | None:
        """Return the next records; None when there are no whole ones (yet).

        `to_the_end`: what stands behind the last line feed is a record, too. `until`: no line that begins
        behind this offset. Raises FatalError, OSError.
        """
        settings = self._settings
        quote = settings.csv.quote.encode() if settings.format == "csv" else b""
        offset, lines = self.place.offset, self.place.lines
        while True:
            got = self._read(CHUNK)
            content = self._rest + got
            at_end = not got
            if at_end and to_the_end and content and not self.is_cut_off:
                records = self._last(content, offset, lines, quote)
            else:
                cut = content.rfind(b"\n") + 1
                records = self._split(content[:cut], offset, lines, quote)
            if until is not None and records.end > until:
                records = _until(records, until, offset, lines)
            if records.end > offset:
                self._rest = content[records.end - offset :]
                self.place = self.place._replace(offset=records.end, lines=records.lines)
                return records
            self._rest = content
            if at_end:
                return None
            if len(content) > LONGEST:
                raise FatalError(
                    f"line {lines + 1} of {self.path} is longer than {LONGEST >> 20} MiB.",
                    code="file_line_too_long",
                    hint="Is it a file of such lines? Move it away, or name another path.",
                )

    def mark(self, place: Place) -> Place:
        """Return the place with what tells the file."""
        return place._replace(
            fingerprint=fingerprint(self.head, place.offset), seen_ms=self.place.seen_ms
        )

    def close(self) -> None:
        """Close it."""
        if self.is_compressed:
            self._stream.close()
        self._file.close()

    def _last(self, content: bytes, offset: int, lines: int, quote: bytes) -> Records:
        """Return the records up to the file's end, whether or not the last one is closed."""
        closed = content if content.endswith(b"\n") else content + b"\n"
        found = self._split(closed, offset, lines, quote)
        end = offset + len(content)
        texts, ends, numbers = list(found.texts), list(found.ends), list(found.numbers)
        if found.end < end:  # a quote is open: what is left is no row, and told so
            texts.append(content[found.end - offset :].rstrip(b"\r\n"))
            ends.append(end)
            numbers.append(found.lines + 1)
        elif ends:
            ends[-1] = min(ends[-1], end)  # the line feed that was added is not there
        return Records(texts, ends, numbers, lines + closed.count(b"\n"), end)

    def _split(self, content: bytes, offset: int, lines: int, quote: bytes) -> Records:
        if not self.head or len(self.head) < HEAD:
            self._learn(content, offset)
        skip = len(_BOM) if offset == 0 and content.startswith(_BOM) else 0
        keep_blank = self._settings.format == "text"
        records = split(content[skip:], offset + skip, lines, quote=quote, keep_blank=keep_blank)
        if offset == 0 and self._has_header() and records.texts:
            self._name_columns(records.texts[0])
            records = Records(
                records.texts[1:],
                records.ends[1:],
                records.numbers[1:],
                records.lines,
                records.end,
            )
        return records

    def _learn(self, content: bytes, offset: int) -> None:
        """Keep what the file begins with, as it grows."""
        missing = HEAD - len(self.head)
        behind = len(self.head) - offset
        if missing > 0 and 0 <= behind < len(content):
            self.head += content[behind : behind + missing]

    def _begin(self) -> None:
        """Read the beginning: for the fingerprint, and the names of columns."""
        if self._has_begun:
            return
        self._has_begun = True
        while len(self.head) < HEAD and (got := self._read(HEAD - len(self.head))):
            self.head += got
        if self._settings.format == "csv":
            self.header = tuple(self._settings.csv.columns or ())
        if self._has_header():
            content = self.head
            quote = self._settings.csv.quote.encode()
            while not (
                first := split(content[: content.rfind(b"\n") + 1], 0, 0, quote=quote)
            ).texts:
                got = self._read(CHUNK)
                if not got or len(content) > LONGEST:
                    break
                content += got
            if first.texts:
                self._name_columns(first.texts[0])
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._stream = _stream(self._file, self.path, self._settings)
        self._at = 0

    def _has_header(self) -> bool:
        return self._settings.format == "csv" and self._settings.csv.header

    def _name_columns(self, text: bytes) -> None:
        settings = self._settings
        named = row_of(text.removeprefix(_BOM).decode(settings.encoding, "replace"), settings.csv)
        self.header = tuple(settings.csv.columns or named)

    def _read(self, size: int) -> bytes:
        try:
            got = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError):
            self.is_cut_off = True
            return b""
        self._at += len(got)
        return got


def _until(records: Records, until: int, offset: int, lines: int) -> Records:
    """Return the records that end no later than `until`."""
    count = sum(end <= until for end in records.ends)
    if not count:
        return Records([], [], [], lines, offset)
    line = records.numbers[count] - 1 if count < len(records) else records.lines
    return Records(
        records.texts[:count],
        records.ends[:count],
        records.numbers[:count],
        line,
        records.ends[count - 1],
    )


def _stream(file: BinaryIO, path: str, settings: FileSourceSettings) -> BinaryIO:
    kind = settings.compression
    if kind == "auto":
        kind = "gzip" if path.endswith(".gz") else "zstd" if path.endswith(".zst") else "none"
    if kind == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if kind == "zstd":
        return cast(
            "BinaryIO",
            zstandard.ZstdDecompressor().stream_reader(
                file, read_across_frames=True, closefd=False
            ),
        )
    return file
