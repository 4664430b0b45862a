"""Dead letters as JSON lines: exported, archived before they are discarded, imported again.

A line is an entry with all it has. What is JSON in it (event, change, outputs, context, tries,
compensation) stands as text, so that no reader rounds its digits: `jq '.event | fromjson'`. Bytes are base64.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from connectors.errors import FlowFileError
from dlq.selection import Selection, pages
from flows.state.contracts import StateStore
from flows.state.records import DeadLetter

FORMAT = 1
"""What `penstock_dead_letter` says in each line."""

_LEFT_HERE = ("status", "replay")
"""What an entry has only in its store."""
_JSON = ("context", "event", "outputs", "change", "compensation", "tries", "details")
_NUMBERS = {"attempts": int, "replays": int, "first_failed_at": float, "last_failed_at": float}
_MAY_BE_NULL = {"step", "wire", "change", "key", "compensation", "details", "begins_at"}
_TOGETHER = 200
"""Entries that are added in one transaction."""


def line_of(letter: DeadLetter) -> bytes:
    """Return a dead letter as a line."""
    entry: dict[str, Any] = {"penstock_dead_letter": FORMAT, **asdict(letter)}
    for name in _LEFT_HERE:
        del entry[name]
    if letter.wire is not None:
        entry["wire"] = base64.b64encode(letter.wire).decode()
    return orjson.dumps(entry) + b"\n"


def letter_of_line(line: bytes, place: str) -> DeadLetter:
    """Return the dead letter of a line. Raises FlowFileError `import_invalid`, naming `place`."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _invalid(place, f"is not JSON: {error.msg}") from None
    if not isinstance(entry, dict) or entry.pop("penstock_dead_letter", None) != FORMAT:
        raise _invalid(place, "is not an exported dead letter")
    values: dict[str, Any] = {}
    for field in fields(DeadLetter):
        if field.name in _LEFT_HERE:
            continue
        if field.name not in entry:
            if field.default is MISSING:
                raise _invalid(place, f"has no {field.name}")
            continue
        values[field.name] = _checked(field.name, entry[field.name], place)
    return DeadLetter(**values)


@dataclass(frozen=True, slots=True)
class Imported:
    """How many lines were added, were there already, or are of another flow."""

    added: int
    known: int
    left_out: int


def import_lines(
    store: StateStore,
    lines: Iterable[bytes],
    *,
    file: str,
    flow: str | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Add the dead letters of lines, waiting; those that are there already stay as they are.

    With `flow`, only that flow's. `seen` is told how many bytes have been read. All lines before
    one that is wrong are added; importing again is harmless.
    """
    added = known = left_out = size = 0
    together: list[DeadLetter] = []

    def store_them() -> None:
        nonlocal added, known
        count = store.letters.add(together)
        added += count
        known += len(together) - count
        together.clear()
        seen(size)

    try:
        for number, line in enumerate(lines, 1):
            size += len(line)
            if not line.strip():
                continue
            letter = letter_of_line(line, f"{file}:{number}")
            if flow is not None and letter.flow != flow:
                left_out += 1
                continue
            together.append(letter)
            if len(together) == _TOGETHER:
                store_them()
    finally:
        store_them()
    return Imported(added, known, left_out)


def export(
    store: StateStore,
    selection: Selection,
    file: BinaryIO,
    seen: Callable[[int], None] = lambda _: None,
) -> int:
    """Write what a selection means, newest failure first; return how many entries."""
    count = 0
    for letters, _ in pages(store, selection, status=selection.wanted.status):
        file.writelines(map(line_of, letters))
        count += len(letters)
        seen(count)
    return count


def discard(
    store: StateStore,
    selection: Selection,
    archive: Path | None,
    seen: Callable[[int], None] = lambda _: None,
) -> int:
    """Delete the waiting dead letters that a selection means; return how many.

    Each page is in the `archive`, flushed to the disk, before it is deleted; None: it is gone. What
    a replay has is left alone. Raises OSError for an archive that can't be written.
    """
    count = 0
    for letters, _ in pages(store, selection):
        if archive is not None and letters:
            _append(archive, map(line_of, letters))
        gone: dict[str, list[str]] = {}
        for letter in letters:
            gone.setdefault(letter.flow, []).append(letter.id)
        for flow, ids in gone.items():
            count += len(store.letters.remove(flow, ids))
        seen(count)
    return count


def _append(path: Path, lines: Iterator[bytes]) -> None:
    fresh = not path.exists()
    with path.open("ab") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        with suppress(OSError):  # not every file system lets a folder be flushed
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _checked(name: str, value: Any, place: str) -> Any:
    if value is None and name in _MAY_BE_NULL:
        return None
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _invalid(place, f"has no number as {name}")
        return _NUMBERS[name](value)
    if not isinstance(value, str):
        raise _invalid(place, f"has no text as {name}")
    if name == "wire":
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise _invalid(place, "has no base64 as wire") from None
    if name in _JSON:
        try:
            json.loads(value)
        except ValueError:
            raise _invalid(place, f"has no JSON as {name}") from None
    return value


def _invalid(place: str, why: str) -> FlowFileError:
    return FlowFileError(
        f"{place} {why}.",
        code="import_invalid",
        hint="Import what `penstock dlq export` or `dlq discard` wrote; the lines before are imported.",
    )
