"""Undo what was written after the last settled batch: files are cut back, rotations taken back.

Every step may be repeated, so a crash in mid-recovery is mended by the next start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from connectors.errors import FatalError
from connectors.file.journal import Entry, Rotated, sync_folder

_HEADER = ""
"""Key of the settled state that is no path."""


@dataclass(frozen=True, slots=True)
class SettledState:
    """What the state store keeps: which batch was settled last, and the open files' lengths."""

    life: str
    batch: int
    journal: str
    lengths: Mapping[str, int]

    def to_mapping(self) -> dict[str, str]:
        """Return it as the runtime stores it."""
        header = {"life": self.life, "batch": self.batch, "journal": self.journal}
        return {_HEADER: orjson.dumps(header).decode()} | {
            path: str(length) for path, length in self.lengths.items()
        }


def read_state(state: Mapping[str, str]) -> SettledState | None:
    """Return the settled state; None on the first start."""
    if not state:
        return None
    try:
        header = orjson.loads(state[_HEADER])
        lengths = {path: int(length) for path, length in state.items() if path != _HEADER}
        return SettledState(header["life"], header["batch"], header["journal"], lengths)
    except (KeyError, ValueError, TypeError) as error:
        raise FatalError(
            "the file sink's settled state can't be read.",
            code="file_state",
            hint="It was not written by this sink; has the module's type been changed?",
        ) from error


def undo(entries: list[Entry], *, after: int) -> None:
    """Take back what batches later than `after` announced, last first.

    Raises OSError.
    """
    folders = set()
    undone = [entry for entry in entries if entry.batch > after]
    rotations: dict[str, int] = {}
    for place, entry in enumerate(undone):
        if isinstance(entry, Rotated):
            rotations.setdefault(entry.path, place)
    for place, entry in reversed(list(enumerate(undone))):
        path = Path(entry.path)
        if isinstance(entry, Rotated):
            # Not there: the rename was never done, or is undone already. It takes the place of
            # the file that was begun anew.
            if Path(entry.to).exists():
                Path(entry.to).replace(path)
        elif place > rotations.get(entry.path, place):
            # Written after the rotation: goes when that is undone. Cutting it here would, in a
            # recovery that is repeated, cut what the first one put back.
            continue
        elif entry.length is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            cut(path, entry.length)
        if path.parent.is_dir():
            folders.add(str(path.parent))
    for folder in sorted(folders):
        sync_folder(folder)


def cut_back(lengths: Mapping[str, int], on_missing: Literal["fail", "new_file"]) -> None:
    """Cut the files to their settled lengths.

    Raises FatalError for a file that is gone or too short, unless `on_missing` lets it pass; OSError.
    """
    short: dict[str, str] = {}
    for name, length in lengths.items():
        path = Path(name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = -1
        if size >= length:
            cut(path, length)
        elif length > 0:
            short[name] = "is gone" if size < 0 else f"holds {size} bytes"
    if short and on_missing == "fail":
        name, found = next(iter(short.items()))
        others = f" ({len(short) - 1} other files are also short)" if len(short) > 1 else ""
        raise FatalError(
            f"the file {name} {found}, but {lengths[name]} bytes of it were settled{others}.",
            code="file_gone",
            hint="Put it back, or, if it was moved away on purpose, set `on_missing: new_file` "
            "for this start.",
            path=name,
        )


def cut(path: Path, length: int) -> None:
    """Shorten the file, durably; one that is not longer is left as it is."""
    fd = os.open(path, os.O_RDWR)
    try:
        if os.fstat(fd).st_size > length:
            os.ftruncate(fd, length)
            os.fsync(fd)
    finally:
        os.close(fd)
