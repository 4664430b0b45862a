"""The Redis reader: hands over what the fetcher has read, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag, Shard
from connectors.redis_stream.buffer import Buffer, Chunk, Stream
from connectors.redis_stream.decoding import Format, Run, batch_of
from connectors.redis_stream.entries import order_of
from connectors.redis_stream.fetching import Fetcher
from connectors.redis_stream.keeping import Keeper


class RedisReader:
    """See `connectors.contracts.Reader`."""

    def __init__(
        self,
        streams: Sequence[Stream],
        shard: Shard,
        *,
        buffer: Buffer,
        fetchers: Sequence[Fetcher],
        keepers: Sequence[Keeper],
        read_format: Format,
    ) -> None:
        """One fetcher and keeper for a server; in a cluster, for the streams of each slot."""
        self._streams = {stream.partition: stream for stream in streams}
        self._names = {stream.name for stream in streams}
        self._shard = shard
        self._buffer = buffer
        self._fetchers = fetchers
        self._keepers = keepers
        self._threads = [fetcher.thread for fetcher in fetchers]
        self._threads += [keeper.thread for keeper in keepers]
        self._format = read_format
        self._closed = False
        for thread in self._threads:
            thread.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what was read; see the contract."""
        # Asked before looking: what is put in between is there to be found.
        at_end = all(fetcher.at_end for fetcher in self._fetchers)
        chunks = self._buffer.take(limit, 0.0 if at_end else timeout)
        if not chunks:
            for thread in self._threads:
                if thread.fatal is not None:
                    raise thread.fatal
            if at_end:
                raise EndOfSource
            return None
        after: dict[str, Position] = {}
        runs = [self._handed(chunk, after) for chunk in chunks]
        return batch_of(runs, after, self._format, sum(chunk.weight for chunk in chunks))

    def _handed(self, chunk: Chunk, after: dict[str, Position]) -> Run:
        stream = chunk.stream
        ids = [entry for entry, _ in chunk.entries]
        first, after[stream.partition] = stream.progress.hand_over(ids, chunk.read_at)
        stream.read_time = order_of(ids[-1])[0] / 1000
        return Run(stream.partition, chunk.entries, ids, first)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have the keeper acknowledge what is settled; see the contract."""
        for partition, position in positions.items():
            stream = self._streams.get(partition)
            if stream is not None:
                stream.progress.settle(position)
        for keeper in self._keepers:
            keeper.acknowledge()
        self._buffer.wake()

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this shard; those of workers there are no more are, by turns."""
        name, _, number = partition.rpartition("/")
        return name in self._names and number.isdigit() and self._shard.takes(int(number))

    def lag(self) -> Mapping[str, Lag]:
        """Return how far the group is behind, as the server told, and what waits here."""
        found: dict[str, Lag] = {}
        now = time.time()
        for partition, stream in self._streams.items():
            behind = None if stream.behind is None else stream.behind + stream.waiting
            seconds = None if stream.read_time is None else max(0.0, now - stream.read_time)
            found[partition] = Lag(events=behind, seconds=0.0 if behind == 0 else seconds)
        return found

    def status(self) -> str:
        """Return "" or one line on a server that does not answer."""
        return next((thread.status for thread in self._threads if thread.status), "")

    def close(self) -> None:
        """Stop the threads; what is settled is acknowledged first, for at most 2 s."""
        if self._closed:
            return
        self._closed = True
        for fetcher in self._fetchers:
            fetcher.stop()
        until = time.monotonic() + 1.5
        for fetcher in self._fetchers:
            fetcher.close(until)
        for keeper in self._keepers:
            keeper.stop()
        until = time.monotonic() + 2
        for keeper in self._keepers:
            keeper.close(until)
