"""One open file of the sink: append, sync, rotate, and take back what did not become durable."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from connectors.errors import FatalError
from connectors.file.journal import sync_data, write_all
from connectors.file.paths import labelled


class OutputFile:
    """A file that only we append to. Raises OSError from the system, FatalError when it is not."""

    def __init__(self, path: str) -> None:
        """Open it for appending, made when missing, with its folders."""
        self.path = path
        self.created = False
        self._fd = self._open()
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        self.length = found.st_size
        """Bytes written; the file's own length between two calls."""
        self._inode = found.st_ino
        self._number: int | None = None

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            pass
        _make_folder(Path(self.path).parent)
        fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        self.created = True
        return fd

    def append(self, content: bytes) -> None:
        """Write the bytes; `sync` makes them durable, `cut` takes them back."""
        write_all(self._fd, content)
        self.length += len(content)

    def sync(self) -> None:
        """Wait until what was appended is durable, and see that the file is still ours."""
        sync_data(self._fd)
        try:
            found = os.stat(self.path)  # noqa: PTH116 - once per batch
        except FileNotFoundError:
            found = None
        if found is None or found.st_ino != self._inode:
            raise FatalError(
                f"the file {self.path} was moved or deleted while the sink writes to it.",
                code="file_gone",
                hint="Use `rotate` instead of another program's rotation. Put the file back, or "
                "set `on_missing: new_file` for the next start.",
                path=self.path,
            )
        if found.st_size != self.length:
            raise FatalError(
                f"the file {self.path} holds {found.st_size} bytes where {self.length} were "
                "written: something else writes to it.",
                code="file_shared",
                hint="A sink's file is cut back after a crash, so it can't be shared: give the "
                "sink a path of its own.",
                path=self.path,
            )

    def cut(self, length: int) -> None:
        """Take back what is past `length`."""
        os.ftruncate(self._fd, length)
        self.length = length

    def rotated_name(self) -> str:
        """Return the next free name to rotate to: orders.jsonl → orders.000001.jsonl."""
        if self._number is None:
            self._number = _last_number(self.path)
        while True:
            self._number += 1
            name = labelled(self.path, f"{self._number:06d}")
            if not os.path.lexists(name):
                return name

    def rotate(self, name: str) -> None:
        """Rename the file to `name` and begin it anew."""
        # No check that its folder is still there: the rename fails if it is not.
        os.rename(self.path, name)  # noqa: PTH104 - an existing `name` was ruled out
        fd = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o666
        )
        os.close(self._fd)
        self._fd = fd
        self._inode = os.fstat(fd).st_ino
        self.length = 0

    def close(self) -> None:
        """Close it; what was not synced may be lost."""
        os.close(self._fd)


def _last_number(path: str) -> int:
    stem, extension = os.path.splitext(os.path.basename(path))  # noqa: PTH119,PTH122 - text
    pattern = re.compile(rf"{re.escape(stem)}\.(\d{{6,}}){re.escape(extension)}")
    numbers = (
        int(match[1])
        for entry in os.scandir(os.path.dirname(path))  # noqa: PTH120 - text
        if (match := pattern.fullmatch(entry.name))
    )
    return max(numbers, default=0)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, each durable in the one that holds it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
