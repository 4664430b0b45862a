"""What an event archive costs a flow, and how fast it is read again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from benchmarks import kafka
from benchmarks.harness import Figure
from benchmarks.orders import WORKS
from connectors.batch import Batch
from connectors.contracts import EndOfSource, Opening, Shard, Window
from connectors.kafka.decoding import _ids, _positions, _sources, _types
from flows.archive.source import archive_of
from flows.state.archive_bodies import archive_chunk, hold
from flows.state.records import Counts, Settlement
from flows.state.store import open_store
from tests.services.kafka import KafkaBroker

BATCH = 1000
_MAKERS = {"id": _ids, "position": _positions, "source": _sources, "type": _types}


def run(
    broker: KafkaBroker, count: int, rounds: int, works: Sequence[str]
) -> Iterator[tuple[str, list[Figure]]]:
    """Yield what flows cost with an archive and without; their runs alternate."""
    for work in works:
        source = kafka.fill(broker, count, work)
        for record in ("off", "full"):
            runs: dict[str, list[Figure]] = {}
            for _ in range(rounds):
                for archived in (False, True):
                    what = "with an archive" if archived else "no archive"
                    figure = kafka.penstock(broker, source, count, work, record, archived=archived)
                    runs.setdefault(f"Kafka {work}, history {record}: {what}", []).append(figure)
            yield from runs.items()


def read_back(folder: Path, count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield what reading an archive of the shaping flow's orders costs, in a process of its own."""
    url = f"sqlite:///{folder}/archive.db"
    fill(url, count)
    figures = []
    for _ in range(rounds):
        command = [sys.executable, "-m", "benchmarks.archive", url, str(count)]
        out = subprocess.run(command, check=True, capture_output=True).stdout
        figures.append(Figure(**orjson.loads(out)))
    yield "Archive: read back, every column", figures


def fill(url: str, count: int) -> None:
    """Archive `count` orders as a Kafka source hands them over."""
    store = open_store(url)
    lease = store.acquire_lease("bench", "in/0", "bench", 3600.0)
    assert lease is not None
    rng = random.Random(1)
    orders = [WORKS["shape"].order(number, rng) for number in range(20_000)]
    for begin in range(0, count, BATCH):
        numbers = range(begin, begin + BATCH)
        columns = {
            "raw": [orders[n % len(orders)] for n in numbers],
            "key": list(map(str, numbers)),
            "partition": ["orders/0"] * BATCH,
            "offset": list(numbers),
            "timestamp": [1.7e9 + n / 1000 for n in numbers],
        }
        batch = Batch(BATCH, columns, after={}, makers=_MAKERS)
        chunk = archive_chunk(hold(batch), "in", time.time())
        settled = Settlement("bench", Counts(done=BATCH), archived=[chunk])
        store.commit(lease, "in", [settled], {"orders/0": f"{begin:020}"}, {})
    store.close()


def main(url: str, count: int) -> None:
    """Read it all, and print what that cost."""
    store = open_store(url, create=False)
    began, cpu = time.perf_counter(), time.process_time()
    opening = Opening(shard=Shard(), positions={}, window=Window(0, 10**13))
    reader = archive_of(store, "bench", "in").open(opening)
    found = 0
    while True:
        try:
            batch = reader.poll(BATCH, 0.1)
        except EndOfSource:
            break
        if batch is not None:
            for name in ("id", "source", "type", "key", "partition", "position", "timestamp"):
                batch.column(name)
            found += batch.size
    assert found == count
    seconds = time.perf_counter() - began
    figure = {
        "cpu_per_million": (time.process_time() - cpu) / count * 1e6,
        "rate": count / seconds,
        "rss_mb": _most_memory(),
    }
    reader.close()
    store.close()
    print(orjson.dumps(figure).decode())


def _most_memory() -> float:
    """Return the most resident MB so far. Not getrusage's: that begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
