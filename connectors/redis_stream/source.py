"""The Redis source: preflight, and opening a reader of a consumer group."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from redis.exceptions import BusyLoadingError, RedisError

from connectors.contracts import Check, Opening, Reader, Shard, SourceTraits, Survey, Window
from connectors.progress import Progress, partition_of, stored_of
from connectors.redis_stream import preflight
from connectors.redis_stream.buffer import Buffer, Stream
from connectors.redis_stream.cluster import link_to, together
from connectors.redis_stream.connection import Link
from connectors.redis_stream.decoding import Format
from connectors.redis_stream.entries import order_of
from connectors.redis_stream.failures import at_start
from connectors.redis_stream.fetching import Fetcher
from connectors.redis_stream.group import ensure_group, refuse_cluster, stream_facts
from connectors.redis_stream.keeping import Keeper
from connectors.redis_stream.reader import RedisReader
from connectors.redis_stream.settings import RedisStreamSource, start_id
from connectors.redis_stream.windows import open_window, survey

_LOADING = 60.0
"""Seconds that a server may take to load its data before it answers."""


class RedisSource:
    """See `connectors.contracts.Source`."""

    # Within one worker entries come in their order; the consumers of a group have none between them.
    traits = SourceTraits(ordered=False, replayable=False, seek_by_time=True, partitioned=True)

    def __init__(self, name: str, settings: RedisStreamSource) -> None:
        self._name = name
        self._settings = settings

    def preflight(self) -> Iterable[Check]:
        """Check the server, each stream and its group, and the right to read it."""
        return preflight.reading(self._settings)

    def survey(self, window: Window) -> Survey:
        """Tell what the streams hold of a window; see `connectors.contracts.Surveying`."""
        return survey(self._settings, window, name=self._consumer(Shard()))

    def open(self, opening: Opening) -> Reader:
        """Join the group, which is made when missing, and start to read; a window is read without it."""
        settings, shard = self._settings, opening.shard
        consumer = self._consumer(shard)
        if opening.window is not None:
            return open_window(
                settings,
                self._format(),
                shard,
                opening.window,
                opening.positions,
                name=f"{consumer}-past",
            )
        buffer = Buffer()
        streams: list[Stream] = []
        fetchers: list[Fetcher] = []
        keepers: list[Keeper] = []
        groups = together(settings, settings.streams)
        # The lag of a stream is told by one of the workers.
        told = {name for turn, name in enumerate(settings.streams) if shard.takes(turn)}
        for names in groups:
            asking = link_to(settings, names[0], name=consumer)
            try:
                read = [self._stream(asking, name, opening) for name in names]
            except RedisError as error:
                raise at_start(error, asking.label) from None
            finally:
                asking.drop()
            keeper = Keeper(
                link_to(settings, names[0], name=f"{consumer}-keeps"),
                settings,
                consumer,
                streams=read,
                told=[stream for stream in read if stream.name in told],
                buffer=buffer,
            )
            fetcher = Fetcher(
                asking,
                settings,
                consumer,
                read,
                buffer,
                bounded=opening.until_caught_up,
                acknowledge=keeper.acknowledge,
                fetchers=len(groups),
            )
            streams += read
            keepers.append(keeper)
            fetchers.append(fetcher)
        return RedisReader(
            streams,
            shard,
            buffer=buffer,
            fetchers=fetchers,
            keepers=keepers,
            read_format=self._format(),
        )

    def _format(self) -> Format:
        settings = self._settings
        return Format(
            settings.format,
            settings.data_field.encode(),
            None if settings.key_field is None else settings.key_field.encode(),
            settings.type,
        )

    def _consumer(self, shard: Shard) -> str:
        given = self._settings.consumer
        if given is None:
            return f"{socket.gethostname()}-{self._name}-{shard.index}"
        return given if shard.of == 1 else f"{given}-{shard.index}"

    def _stream(self, link: Link, name: str, opening: Opening) -> Stream:
        """Return a stream as this worker begins to read it, its group made if it is missing."""
        settings, index = self._settings, opening.shard.index
        stored = stored_of(opening.positions, name)
        settled = frozenset[bytes]().union(*(each.ids for each in stored.values()))
        # Of what is stored for others it is known where the group was.
        known = max(settled, key=order_of, default=None)
        own = stored[index].number if index in stored else 0
        deadline = time.monotonic() + _LOADING
        while True:
            try:
                if settings.cluster is None:
                    refuse_cluster(link)
                ensure_group(
                    link, name, settings.group, start=start_id(settings.start), known=known
                )
                end = None
                if opening.until_caught_up:
                    facts = stream_facts(link, name)
                    end = b"0-0" if facts is None else facts.last
                break
            except BusyLoadingError:
                if time.monotonic() > deadline:
                    raise
                link.drop()
                time.sleep(0.1)
        return Stream(
            name,
            partition_of(name, index),
            Progress(max(own, time.time_ns())),
            settled=settled,
            known=known,
            end=end,
        )


__all__ = ["RedisSource"]
