"""The Pub/Sub source: what is looked at before a subscription is read."""

from __future__ import annotations

import time
from collections.abc import Iterable

import grpc

from connectors.contracts import Check, Opening, SourceTraits
from connectors.gcp_pubsub import preflight
from connectors.gcp_pubsub.client import (
    ANSWER_SECONDS,
    Client,
    GetSubscriptionRequest,
    SeekRequest,
)
from connectors.gcp_pubsub.failures import opening_failed
from connectors.gcp_pubsub.leases import Leases, settled_of
from connectors.gcp_pubsub.pulling import log
from connectors.gcp_pubsub.reader import PubsubReader
from connectors.gcp_pubsub.settings import PubsubSource
from connectors.progress import Stored, parse


class PubsubSourceModule:
    """See `connectors.contracts.Source`.

    A subscription is one partition with one reader: what was parked of a key stays before what comes
    later only where one worker sees both.
    """

    traits = SourceTraits(ordered=True, replayable=False, seek_by_time=False, partitioned=False)

    def __init__(self, settings: PubsubSource) -> None:
        self._settings = settings
        self._path = f"projects/{settings.project}/subscriptions/{settings.subscription}"

    def preflight(self) -> Iterable[Check]:
        """Check that the subscription is there and can be pulled from."""
        return preflight.reading(self._settings, self._path)

    def open(self, opening: Opening) -> PubsubReader:
        """Look whether the subscription is there, seek it on the first start if asked, and pull."""
        settings = self._settings
        position = opening.positions.get(settings.subscription)
        stored = Stored(0, frozenset()) if position is None else parse(position)
        client = Client(settings)
        try:
            self._look(client)
            if position is None and settings.start != "stored":
                self._seek(client)
        except BaseException:
            client.close()
            raise
        leases = Leases(max(stored.number, time.time_ns()), settled_of(stored))
        return PubsubReader(client, self._path, settings, leases, bounded=opening.until_caught_up)

    def _look(self, client: Client) -> None:
        request = GetSubscriptionRequest(subscription=self._path)
        try:
            client.get_subscription(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            # Who may pull need not have the right to look.
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                what = f"the subscription {self._path}"
                raise opening_failed(error, client.address, what) from error

    def _seek(self, client: Client) -> None:
        start = self._settings.start
        at = time.time() if isinstance(start, str) else start
        request = SeekRequest(subscription=self._path)
        request.time.FromNanoseconds(int(at * 1e9))
        try:
            client.seek(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            what = f"seeking the subscription {self._path}"
            raise opening_failed(error, client.address, what) from error
        log.info("pubsub_seek", subscription=self._path, to=at)
