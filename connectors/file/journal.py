"""The file sink's journal: which files a batch touches, durable before their first byte.

The state store keeps each open file's settled length. That alone can't tell, after a crash, a
file begun in the batch that was never settled from one that was there before us; the journal can.
It lies beside the files, is written only when a batch touches a file that the last settled state
does not list, and is one JSON object per line:

    {"life": "8f0c…", "pid": 4711}                           first line
    {"batch": 7, "path": "/out/a.jsonl", "length": 120}      the file was so long; null: created
    {"batch": 8, "path": "/out/a.jsonl", "to": "/out/a.000001.jsonl"}      renamed and begun anew
    {"settled": 1}                                           the state store knows of this life

A life is the time that one settled state grew through: with a state that is lost or reset, a
later start must not undo what an earlier life settled.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from connectors.errors import FatalError

sync_data = getattr(os, "fdatasync", os.fsync)
"""fdatasync writes the length too, and is all that an appended file needs. macOS has fsync only."""


@dataclass(frozen=True, slots=True)
class Touched:
    """Before `batch` wrote to the file first, it was `length` bytes long; None: not there."""

    batch: int
    path: str
    length: int | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """In `batch` the file was renamed to `to`, which did not exist, and begun anew."""

    batch: int
    path: str
    to: str


Entry = Touched | Rotated


class Journal:
    """The open, locked journal of one sink; a second process that opens it is refused."""

    def __init__(self, path: str) -> None:
        """Open or make it. Raises FatalError when another process has it, OSError otherwise."""
        self.path = path
        self.life = ""
        self.settled = False
        self.entries: list[Entry] = []
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103,PTH120 - text in
        self._fd = _open_locked(path)
        try:
            self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def _read(self) -> None:
        content = Path(self.path).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        # A torn last line was never synced, so what it announces was never done.
        os.ftruncate(self._fd, len(whole))
        for line in whole.splitlines():
            try:
                found = orjson.loads(line)
                if "life" in found:
                    self.life = found["life"]
                elif "settled" in found:
                    self.settled = True
                elif "to" in found:
                    self.entries.append(Rotated(found["batch"], found["path"], found["to"]))
                else:
                    self.entries.append(Touched(found["batch"], found["path"], found["length"]))
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise FatalError(
                    f"the file sink's journal {self.path} is damaged.",
                    code="file_journal",
                    hint="Restore it; or delete it and check the ends of the files it lies beside "
                    "for lines that come twice.",
                ) from error

    def append(self, entries: Iterable[Entry]) -> None:
        """Write the entries and wait until they are durable. Raises OSError, with nothing kept."""
        added = list(entries)
        self._write(b"".join(map(_line, added)))
        self.entries += added

    def mark_settled(self) -> None:
        """Note, once in a life, that the state store knows of it."""
        if not self.settled:
            self._write(b'{"settled":1}\n')
            self.settled = True

    def restart(self, life: str = "", *, after: int | None = None) -> None:
        """Replace it by a new one: of another life, or of this without what is settled.

        `after` keeps the entries of later batches; without it none is kept.
        """
        entries = [] if after is None else [entry for entry in self.entries if entry.batch > after]
        settled = self.settled if life in {"", self.life} else False
        self.life = life or self.life or secrets.token_hex(8)
        head = orjson.dumps({"life": self.life, "pid": os.getpid()}) + b"\n"
        body = head + (b'{"settled":1}\n' if settled else b"") + b"".join(map(_line, entries))
        temporary = self.path + ".new"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        try:
            # Locked before it has its name, so that the name is never free.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(fd, body)
            os.fsync(fd)
            Path(temporary).replace(self.path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        self.entries = entries
        self.settled = settled
        sync_folder(os.path.dirname(self.path))  # noqa: PTH120 - text in, text out

    def close(self, *, remove: bool = False) -> None:
        """Unlock and close it; `remove` when nothing will ask for it any more."""
        if remove:
            Path(self.path).unlink(missing_ok=True)
        os.close(self._fd)

    def _write(self, content: bytes) -> None:
        before = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, content)
            sync_data(self._fd)
        except OSError:
            os.ftruncate(self._fd, before)
            raise


def _line(entry: Entry) -> bytes:
    return orjson.dumps(entry) + b"\n"


def _open_locked(path: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = Path(path).stat()
        except BlockingIOError as error:
            os.close(fd)
            raise FatalError(
                f"another process writes through the file sink whose journal is {path}.",
                code="file_in_use",
                hint="Stop it, or give this sink another name or folder.",
            ) from error
        except FileNotFoundError:
            os.close(fd)
            continue
        if current.st_ino == os.fstat(fd).st_ino:
            return fd
        os.close(fd)  # it was replaced between opening and locking


def write_all(fd: int, content: bytes) -> None:
    """Write all of it: os.write may take less, on a disk that is getting full for one."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: str) -> None:
    """Make creations and renames in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
