"""Batches that are archived as a worker does it, and read again to their end."""

from __future__ import annotations

import time

from connectors.batch import Batch
from connectors.contracts import EndOfSource, Opening, Shard, Window
from flows.archive.source import archive_of
from flows.state.archive_bodies import archive_chunk, hold
from flows.state.records import Counts, Settlement

ATTRIBUTES = (
    "id",
    "source",
    "type",
    "subject",
    "time",
    "timestamp",
    "datacontenttype",
    "dataschema",
    "extensions",
    "key",
    "partition",
    "raw",
    "data",
)
ALL = Shard()
EVER = Window(-(10**12), 4 * 10**12)


def events(*numbers, partition="lines", times=None, type_="order.created", **columns):
    """A batch of numbered events, one a second since the epoch."""
    times = [float(n) for n in numbers] if times is None else times
    names = [partition] * len(numbers) if isinstance(partition, str) else partition
    found = {
        "raw": [b'{"n":%d}' % n for n in numbers],
        "id": [f"e{n}" for n in numbers],
        "source": ["/test"] * len(numbers),
        "type": [type_] * len(numbers),
        "key": [f"k{n % 3}" for n in numbers],
        "partition": names,
        "position": [f"{n:06}" for n in numbers],
        "timestamp": times,
        **columns,
    }
    return Batch(len(numbers), found, after={})


class Archived:
    """The archive of the source `orders` of the flow `shop`."""

    def __init__(self, store, lease):
        self.store, self.lease = store, lease
        self.commits = 0

    def add(self, *batches, now=None, source="orders"):
        """Archive batches, each in a commit of its own."""
        for batch in batches:
            chunk = archive_chunk(hold(batch), source, time.time() if now is None else now)
            self.commits += 1
            settled = Settlement("enrich", Counts(done=batch.size), archived=[chunk])
            after = {self.lease.shard: f"{self.commits:06}"}
            self.store.commit(self.lease, source, [settled], after, {})

    @property
    def source(self):
        return archive_of(self.store, "shop", "orders")

    def read(self, window=EVER, *, positions=None, shard=ALL, limit=1000):
        """Return the batches of a window, read to its end."""
        reader = self.source.open(Opening(shard=shard, positions=positions or {}, window=window))
        return list(batches_of(reader, limit))

    def numbers(self, window=EVER, **more):
        return [n for batch in self.read(window, **more) for n in numbers_of(batch)]

    def execute(self, statement):
        self.store._database.run(lambda c: c.exec_driver_sql(statement))

    def ids(self):
        query = "SELECT id FROM penstock_archive_chunks ORDER BY id"
        rows = self.store._database.run(lambda c: c.exec_driver_sql(query).all())
        return [row[0] for row in rows]

    def damage(self, chunk, what="body"):
        """Change one byte of a chunk's body, or another of its columns."""
        if what != "body":
            self.execute(f"UPDATE penstock_archive_chunks SET {what} WHERE id = {chunk}")
            return
        body = bytearray(self.store.archive.chunk(chunk).body)
        body[len(body) // 2] ^= 1
        text = (
            f"'\\x{body.hex()}'"
            if self.store._database.dialect == "postgresql"
            else f"x'{body.hex()}'"
        )
        self.execute(f"UPDATE penstock_archive_chunks SET body = {text} WHERE id = {chunk}")


def batches_of(reader, limit=1000, most=None):
    """Yield a reader's batches up to its end, or `most` of them; then close it."""
    deadline = time.monotonic() + 60
    try:
        while most is None or most > 0:
            assert time.monotonic() < deadline, "the archive does not end"
            try:
                batch = reader.poll(limit, 0.1)
            except EndOfSource:
                return
            if batch is not None:
                most = None if most is None else most - 1
                yield batch
    finally:
        reader.close()


def numbers_of(batch):
    return [int(raw[5:-1]) for raw in batch.column("raw")]
