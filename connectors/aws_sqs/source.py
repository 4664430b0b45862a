"""The SQS source: preflight, and opening a reader of a queue."""

from __future__ import annotations

import time
from collections.abc import Iterable

from connectors.aws_sqs import preflight
from connectors.aws_sqs.client import Client, first_depth, queue_of
from connectors.aws_sqs.decoding import Format
from connectors.aws_sqs.in_flight import InFlight
from connectors.aws_sqs.keeping import Keepers
from connectors.aws_sqs.reader import SqsReader
from connectors.aws_sqs.receiving import Receivers
from connectors.aws_sqs.settings import SqsSource
from connectors.contracts import Check, Opening, SourceTraits
from connectors.progress import Progress, stored_of


class SqsQueueSource:
    """See `connectors.contracts.Source`."""

    def __init__(self, name: str, settings: SqsSource) -> None:
        self._name = name
        self._settings = settings
        # SQS itself gives a group's messages to one receiver at a time, whichever worker that is.
        self.traits = SourceTraits(
            ordered=settings.queue_url.endswith(".fifo"),
            replayable=False,
            seek_by_time=False,
            partitioned=True,
        )

    def preflight(self) -> Iterable[Check]:
        """Check the credentials, the queue and the right to read its attributes."""
        return preflight.reading(self._settings)

    def open(self, opening: Opening) -> SqsReader:
        """Ask for the queue, and start receiving."""
        settings, shard = self._settings, opening.shard
        queue = queue_of(settings, settings.queue_url)
        asking = Client(queue)
        try:
            first_depth(asking)
        finally:
            asking.drop()
        stored = stored_of(opening.positions, queue.name)
        settled = frozenset[bytes]().union(*(each.ids for each in stored.values()))
        own = stored.get(shard.index)
        progress = Progress(max(own.number if own else 0, time.time_ns()))
        in_flight = InFlight(settled)
        until: float | None = None
        if opening.until_caught_up:  # the server's clock, which tells whole seconds
            until = (asking.server_time or time.time()) + 1
        return SqsReader(
            shard,
            in_flight=in_flight,
            progress=progress,
            receivers=Receivers(queue, settings, in_flight, until=until),
            keepers=Keepers(
                queue,
                settings,
                in_flight,
                progress,
                settled_before=() if own is None else own.ids,
                tells_depth=shard.index == 0,
            ),
            read_format=Format(settings.format, settings.type, queue.name, is_fifo=queue.is_fifo),
        )
