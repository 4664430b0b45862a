"""A small but whole source, the lines of a file: what the source kit is tried on.

Partition "lines"; a position is a zero-padded line number. What is acknowledged is kept in a file
beside it, as a server would keep it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path

from connectors.batch import Batch
from connectors.contracts import Check, EndOfSource, Lag, SourceTraits
from connectors.testing import Recipe


class LinesReader:
    def __init__(self, path, opening):
        self.path = path
        self.opening = opening
        self.next = int(opening.positions.get("lines", "0"))
        self.end = len(path.read_bytes().splitlines()) if opening.until_caught_up else None
        self.queue = queue.Queue(maxsize=50)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.read_ahead, args=[self.next])
        self.thread.start()

    def read_ahead(self, line_number):
        while not self.stopping.is_set():
            lines = self.path.read_bytes().splitlines()
            for line in lines[line_number:]:
                while not self.stopping.is_set():
                    with contextlib.suppress(queue.Full):
                        self.queue.put((line_number, line), timeout=0.05)
                        break
                line_number += 1
            self.stopping.wait(0.02)

    def positions_of(self, numbers):
        return [f"{number + 1:010d}" for number in numbers]

    def poll(self, limit, timeout):
        if self.end is not None and self.next >= self.end:
            raise EndOfSource
        entries = []
        with contextlib.suppress(queue.Empty):
            entries.append(self.queue.get(timeout=timeout) if timeout else self.queue.get_nowait())
            limit = limit if self.end is None else min(limit, self.end - self.next)
            while len(entries) < limit:
                entries.append(self.queue.get_nowait())
        if not entries:
            return None
        self.next += len(entries)
        positions = self.positions_of([number for number, _ in entries])
        columns = {
            "raw": [line for _, line in entries],
            "key": [f"k{number % 3}" for number, _ in entries],
            "partition": ["lines"] * len(entries),
            "position": positions,
        }
        return Batch(len(entries), columns, after={"lines": positions[-1]})

    def acknowledge(self, positions):
        acknowledged_file(self.path).write_text(str(int(positions["lines"])))

    def owns(self, partition):
        return True

    def lag(self):
        return {"lines": Lag(events=self.queue.qsize())}

    def status(self):
        return ""

    def close(self):
        self.stopping.set()
        self.thread.join(5)


def acknowledged_file(path: Path) -> Path:
    return path.with_suffix(".acknowledged")


class LinesSource:
    traits = SourceTraits(ordered=True, replayable=True, seek_by_time=False, partitioned=False)

    def __init__(self, path, reader=LinesReader):
        self.path = path
        self.reader = reader

    def preflight(self):
        yield Check("file", ok=self.path.exists(), found=str(self.path))

    def open(self, opening):
        return self.reader(self.path, opening)


def made(config):
    """Make it in another process."""
    return LinesSource(Path(config["path"]))


class LinesUnderTest:
    def __init__(self, folder, reader=LinesReader):
        self.path = folder / "lines.jsonl"
        self.path.write_text("")
        self.source = LinesSource(self.path, reader)
        self.recipe = Recipe("tests.connectors.testing.lines_source:made", {"path": str(self.path)})
        self.emitted = 0

    def emit_raw(self, payloads):
        with self.path.open("ab") as file:
            file.write(b"".join(payload + b"\n" for payload in payloads))

    def emit(self, count):
        added = "".join(f"{n}\n" for n in range(self.emitted, self.emitted + count))
        with self.path.open("a") as file:
            file.write(added)
        self.emitted += count

    def numbers(self, batch):
        return batch.column("data")

    def acknowledged(self):
        path = acknowledged_file(self.path)
        return int(path.read_text()) if path.exists() else 0
