"""Shows what leaves the demo's flow: it follows the files that the flow writes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, final

_LOOK_EVERY = 1.0
"""Seconds; at most one line is shown each time, however much flows."""


@final
class PublishedEvents:
    """Counts the lines of `*.jsonl` in a folder, and says one of the new ones each second.

    A context manager: a thread looks while it is entered. On leaving, everything is counted once
    more, since a worker that starts again may have cut a file back to what was settled.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.count = 0
        self._folder = folder
        self._say = say
        self._read_to: dict[int, int] = {}  # by inode: rotated files change their names
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="published", daemon=True)

    def __enter__(self) -> PublishedEvents:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(10)
        self.count = 0
        self._read_to.clear()
        self.look()

    def look(self) -> str | None:
        """Count what has come since the last look; return the last new line as a sentence."""
        last = None
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                read_to = min(self._read_to.get(status.st_ino, 0), status.st_size)
                file.seek(read_to)
                # A line that is still being written counts next time.
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_to[status.st_ino] = read_to + len(whole) + len(newline)
            if newline:
                self.count += whole.count(b"\n") + 1
                last = whole.rpartition(b"\n")[2]
        return None if last is None else describe(json.loads(last))

    def _follow(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            sentence = self.look()
            if sentence is not None:
                self._say(f"  {sentence}")


def describe(event: dict[str, Any]) -> str:
    """Return a published event as a line for people."""
    data = event.get("data") or {}
    if event.get("type") != "order.enriched":
        return f"{event.get('type')}  {data.get('id', '')}"
    customer, basket = data["customer"], data["basket"]
    return (
        f"order.enriched  #{data['number']} {data['status']}: {basket['pieces']} pieces,"
        f" {data['total']} {data['currency']}, {customer['name']} ({customer['tier']})"
    )


__all__ = ["PublishedEvents", "describe"]
