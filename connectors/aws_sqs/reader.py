"""The SQS reader: hands over what was received, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.aws_sqs.decoding import Format, batch_of
from connectors.aws_sqs.in_flight import InFlight
from connectors.aws_sqs.keeping import Keepers
from connectors.aws_sqs.receiving import Receivers
from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag, Shard
from connectors.progress import Progress, partition_of


class SqsReader:
    """See `connectors.contracts.Reader`."""

    def __init__(
        self,
        shard: Shard,
        *,
        in_flight: InFlight,
        progress: Progress,
        receivers: Receivers,
        keepers: Keepers,
        read_format: Format,
    ) -> None:
        self._shard = shard
        self._in_flight = in_flight
        self._progress = progress
        self._receivers = receivers
        self._keepers = keepers
        self._format = read_format
        self._partition = partition_of(read_format.queue, shard.index)
        self._closed = False
        keepers.start()
        receivers.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what was received; see the contract."""
        if self._keepers.fatal is not None:
            raise self._keepers.fatal
        # Asked before looking: what is received in between is there to be found.
        at_end = self._receivers.at_end
        messages, received = self._in_flight.take(limit, 0.0 if at_end else timeout)
        if not messages:
            if self._receivers.fatal is not None:
                raise self._receivers.fatal
            if at_end:
                raise EndOfSource
            return None
        ids = [message["MessageId"].encode() for message in messages]
        first, position = self._progress.hand_over(ids, received)
        return batch_of(messages, first, self._partition, position, self._format)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have what is settled deleted; see the contract."""
        position = positions.get(self._partition)
        if position is not None:
            self._in_flight.settled(self._progress.settle(position))

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this shard; those of workers there are no more are, by turns."""
        name, _, number = partition.rpartition("/")
        return name == self._format.queue and number.isdigit() and self._shard.takes(int(number))

    def lag(self) -> Mapping[str, Lag]:
        """Return how many messages wait, there and here."""
        behind = self._keepers.depth
        return {
            self._partition: Lag(
                events=None if behind is None else behind + self._in_flight.waiting
            )
        }

    def status(self) -> str:
        """Return "" or one line on what SQS says."""
        return self._receivers.status or self._keepers.status

    def close(self) -> None:
        """Stop the threads; what is settled is deleted, what is not is given back."""
        if not self._closed:
            self._closed = True
            self._keepers.close(self._receivers.close())
