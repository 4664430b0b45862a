"""The Pub/Sub reader: hands over what the puller has, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Mapping

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag
from connectors.gcp_pubsub.client import Client
from connectors.gcp_pubsub.decoding import Arrived, batch_of
from connectors.gcp_pubsub.keeping import Keeper
from connectors.gcp_pubsub.leases import Leases
from connectors.gcp_pubsub.pulling import Puller
from connectors.gcp_pubsub.settings import PubsubSource


class PubsubReader:
    """See `connectors.contracts.Reader`."""

    def __init__(
        self,
        client: Client,
        path: str,
        settings: PubsubSource,
        leases: Leases,
        *,
        bounded: bool,
    ) -> None:
        self._client = client
        self._settings = settings
        self._partition = settings.subscription
        self._source = f"//pubsub.googleapis.com/{path}"
        self._leases = leases
        until = time.time() if bounded else None
        self._puller = Puller(client, path, settings, leases, until=until)
        self._keeper = Keeper(client, path, settings.ack_deadline, leases, self._puller)
        self._closed = False
        self._puller.start()
        self._keeper.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what has come; see the contract."""
        received = self._puller.take(limit, timeout)
        if not received:
            fatal = self._puller.fatal or self._keeper.fatal
            if fatal is not None:
                raise fatal
            if self._puller.caught_up():
                raise EndOfSource
            return None
        ids = [each.message.message_id for each in received]
        first, position = self._leases.hand_over(ids)
        settings = self._settings
        arrived = Arrived(received, first, self._partition, self._source, settings.type)
        return batch_of(arrived, {self._partition: position}, settings.format)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have the keeper acknowledge what is settled; see the contract."""
        position = positions.get(self._partition)
        if position is not None:
            self._leases.settle(position)
            self._keeper.acknowledge()

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this subscription: it has one reader."""
        return partition == self._partition

    def lag(self) -> Mapping[str, Lag]:
        """Return the age of the last message while any is in hand: Pub/Sub tells no counts here."""
        published = self._puller.last_published
        if published is None:
            return {self._partition: Lag()}
        seconds = max(0.0, time.time() - published) if self._leases.size else 0.0
        return {self._partition: Lag(seconds=seconds)}

    def status(self) -> str:
        """Return "" or one line on a server that does not answer."""
        return self._puller.status or self._keeper.status

    def close(self) -> None:
        """Stop pulling, acknowledge what is settled, give the rest back to Pub/Sub."""
        if not self._closed:
            self._closed = True
            self._puller.close()
            self._keeper.close()
            self._client.close()
