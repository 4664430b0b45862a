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
        fetcher: Fetcher,
        keeper: Keeper,
        read_format: Format,
    ) -> None:
        self._streams = {stream.partition: stream for stream in streams}
        self._names = {stream.name for stream in streams}
        self._shard = shard
        self._buffer = buffer
        self._fetcher = fetcher
        self._keeper = keeper
        self._format = read_format
        self._closed = False
        keeper.start()
        fetcher.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what was read; see the contract."""
        # Asked before looking: what is put in between is there to be found.
        at_end = self._fetcher.at_end
        chunks = self._buffer.take(limit, 0.0 if at_end else timeout)
        if not chunks:
            fatal = self._fetcher.fatal or self._keeper.fatal
            if fatal is not None:
                raise fatal
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
        self._keeper.acknowledge()
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
        return self._fetcher.status or self._keeper.status

    def close(self) -> None:
        """Stop the threads; what is settled is acknowledged first, for at most 2 s."""
        if not self._closed:
            self._closed = True
            self._keeper.close(self._fetcher.close)
