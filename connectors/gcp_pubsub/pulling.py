"""The puller: a thread that holds the streaming pull open and puts what comes into a buffer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import grpc
import structlog

from connectors.errors import FatalError
from connectors.gcp_pubsub.client import (
    ANSWER_SECONDS,
    Client,
    ModifyAckDeadlineRequest,
    StreamingPullRequest,
)
from connectors.gcp_pubsub.decoding import published_at
from connectors.gcp_pubsub.failures import outcome_of, translated
from connectors.gcp_pubsub.leases import Leases
from connectors.gcp_pubsub.settings import PubsubSource
from connectors.threads import watched

log: structlog.stdlib.BoundLogger = structlog.get_logger("connectors.gcp_pubsub")

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Backoff in seconds while Pub/Sub is away."""

_HEARTBEAT = 30.0
"""Seconds between requests that keep a silent stream open, as Google's own clients send them."""

_BATCH_BYTES = 4 * 1024 * 1024
SILENCE = 3.0
"""Seconds without a message after which a read that is to end has caught up: nothing else tells."""


class Puller:
    """One reader's thread; `take` is the dataflow's."""

    def __init__(
        self,
        client: Client,
        path: str,
        settings: PubsubSource,
        leases: Leases,
        *,
        until: float | None,
    ) -> None:
        """`until`: leave what was published later, in seconds since the epoch, and end."""
        self._client = client
        self._path = path
        self._settings = settings
        self._leases = leases
        self._until = until
        self._buffer: deque[Any] = deque()
        self._weight = 0
        """Bytes received and not settled, as far as they wait here."""
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._call: Any = None
        self._heard = time.monotonic()
        self._open = False
        self.exactly_once = False
        self.fatal: FatalError | None = None
        self.status = ""
        self.last_published: float | None = None
        name = f"pubsub-pull-{settings.subscription}"
        self._thread = threading.Thread(
            target=watched("pulling from Pub/Sub", self._run, self._fail), name=name, daemon=True
        )

    def start(self) -> None:
        """Start pulling."""
        self._thread.start()

    def take(self, limit: int, timeout: float) -> Sequence[Any]:
        """Return what is there, at most `limit` messages; waits for a first one, or a `wake`."""
        with self._changed:
            if not self._buffer and timeout > 0 and not self._stop.is_set():
                self._changed.wait(timeout)
            taken: list[Any] = []
            weight = 0
            while self._buffer and len(taken) < limit and weight < _BATCH_BYTES:
                received = self._buffer.popleft()
                weight += len(received.message.data)
                taken.append(received)
            self._weight -= weight
            return taken

    def caught_up(self) -> bool:
        """Whether a read that is to end has come to it."""
        silent = time.monotonic() - self._heard
        return self._until is not None and self._open and silent >= SILENCE and not self._buffer

    def wake(self) -> None:
        """Let whoever waits look again: something was settled, or there is an error to raise."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the stream and the thread."""
        self._stop.set()
        call = self._call
        if call is not None:
            call.cancel()
        self.wake()
        self._thread.join(3)

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        delay = FIRST_DELAY
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._pull()
                known = None  # the server ends a stream now and then
            except grpc.RpcError as error:
                if self._stop.is_set():
                    return
                known = translated(error, self._client.address, f"the subscription {self._path}")
            self._open = False
            if isinstance(known, FatalError):
                self._fail(known)
                return
            if known is not None:
                self.status = known.message
            if time.monotonic() - began >= LONGEST_DELAY:
                delay = FIRST_DELAY
            self._stop.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _fail(self, error: FatalError) -> None:
        self.fatal = error
        self.wake()

    def _pull(self) -> None:
        ended = threading.Event()
        call = self._call = self._client.streaming_pull(self._requests(ended))
        try:
            if self._stop.is_set():
                call.cancel()
                return
            for response in call:
                self.status = ""
                self._receive(response)
                if not self._has_room():
                    return
        finally:
            ended.set()
            call.cancel()

    def _requests(self, ended: threading.Event) -> Iterator[Any]:
        settings = self._settings
        yield StreamingPullRequest(
            subscription=self._path,
            stream_ack_deadline_seconds=int(settings.ack_deadline),
            client_id=str(uuid4()),
            max_outstanding_messages=settings.max_in_flight,
            max_outstanding_bytes=settings.max_in_flight_bytes,
        )
        self._open, self._heard = True, time.monotonic()
        while not ended.wait(_HEARTBEAT):
            yield StreamingPullRequest()

    def _receive(self, response: Any) -> None:
        if response.HasField("subscription_properties"):
            self.exactly_once = response.subscription_properties.exactly_once_delivery_enabled
        received = list(response.received_messages)
        if self._until is not None:
            received = [each for each in received if published_at(each.message) <= self._until]
        if not received:
            return
        self._heard = time.monotonic()
        ids = [each.message.message_id for each in received]
        new = self._leases.receive(ids, [each.ack_id for each in received])
        if new is not None:
            received = [received[place] for place in new]
            log.info("pubsub_redelivered", subscription=self._path, messages=len(ids) - len(new))
        if self.exactly_once and received:
            received = self._confirmed(received)
        if received:
            self.last_published = published_at(received[-1].message)
        with self._changed:
            self._buffer.extend(received)
            self._weight += sum(len(each.message.data) for each in received)
            self._changed.notify_all()

    def _confirmed(self, received: list[Any]) -> list[Any]:
        """Return the messages whose lease is certain: with exactly-once delivery the others come again."""
        ack_ids = [each.ack_id for each in received]
        request = ModifyAckDeadlineRequest(
            subscription=self._path,
            ack_ids=ack_ids,
            ack_deadline_seconds=int(self._settings.ack_deadline),
        )
        try:
            self._client.modify_ack_deadline(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            outcome = outcome_of(ack_ids, error, exactly_once=True)
            lost = set(outcome.lost)
            self._leases.drop(each.message.message_id for each in received if each.ack_id in lost)
            return [each for each in received if each.ack_id not in lost]
        return received

    def _has_room(self) -> bool:
        """Wait until more may be held; False when closing. Meanwhile the stream's window fills."""
        settings = self._settings
        with self._changed:
            while not self._stop.is_set() and (
                self._leases.size >= settings.max_in_flight
                or self._weight >= settings.max_in_flight_bytes
            ):
                self._changed.wait(0.5)
        return not self._stop.is_set()
