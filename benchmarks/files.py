"""How fast files are read (`python -m benchmarks.files`): the source alone beside a bare loop.

The bare loop reads, splits and decodes the same lines. CPU time of the process, since the machine is shared.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from pathlib import Path

import orjson

from connectors.contracts import EndOfSource, Opening, Shard
from connectors.file import SOURCE_FILE

LINES = 1_000_000


def _fill(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for n in range(LINES):
            order = {
                "id": n,
                "customer": f"c-{n % 1000}",
                "total": n / 7,
                "items": [{"sku": "a"}] * 4,
            }
            file.write(json.dumps(order) + "\n")


def _bare(path: Path) -> int:
    count = 0
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
            count += 1
    return count


def _source(path: Path, *, decoded: bool) -> int:
    settings = SOURCE_FILE.settings.model_validate({"path": str(path)})
    assert SOURCE_FILE.source is not None
    reader = SOURCE_FILE.source("drop", settings).open(Opening(Shard(), {}))
    count = 0
    try:
        while True:
            batch = reader.poll(1000, 5.0)
            if batch is not None:
                count += batch.size
                batch.column("data" if decoded else "raw")
    except EndOfSource:
        return count
    finally:
        reader.close()


def main() -> None:
    """Print a line per way of reading."""
    gc.set_threshold(100_000, 10, 10)  # as workers do
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.jsonl"
        _fill(path)
        for name, work in (
            ("bare loop: read, split, decode", lambda: _bare(path)),
            ("source.file, decoded", lambda: _source(path, decoded=True)),
            ("source.file, passed on", lambda: _source(path, decoded=False)),
        ):
            began, wall = time.process_time(), time.perf_counter()
            assert work() == LINES
            cpu, took = time.process_time() - began, time.perf_counter() - wall
            print(f"| {name} | {LINES / took:,.0f} | {cpu / LINES * 1e6:.2f} µs |")


if __name__ == "__main__":
    main()
