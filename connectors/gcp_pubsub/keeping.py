"""The keeper: a thread that acknowledges what is settled and prolongs the leases of what is not.

It never waits for the dataflow: a message in a step of ten minutes is not redelivered while its worker
lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import grpc

from connectors.errors import FatalError
from connectors.gcp_pubsub.client import (
    ANSWER_SECONDS,
    AcknowledgeRequest,
    Client,
    ModifyAckDeadlineRequest,
)
from connectors.gcp_pubsub.failures import outcome_of, translated
from connectors.gcp_pubsub.leases import Leases
from connectors.gcp_pubsub.pulling import FIRST_DELAY, LONGEST_DELAY, Puller, log
from connectors.threads import watched

_AT_ONCE = 2000
"""Ids in one request: it may hold 512 KiB, and an ack id takes about 200 bytes."""


class Keeper:
    """One reader's second thread; see the module's text."""

    def __init__(
        self, client: Client, path: str, deadline: float, leases: Leases, puller: Puller
    ) -> None:
        self._client = client
        self._path = path
        self._deadline = int(deadline)
        self._leases = leases
        self._puller = puller
        self._work = threading.Event()
        self._closing = False
        self._prolonged = time.monotonic()
        self.status = ""
        self.fatal: FatalError | None = None
        name = f"pubsub-keep-{path.rpartition('/')[2]}"
        self._thread = threading.Thread(
            target=watched("acknowledging to Pub/Sub", self._run, self._fail),
            name=name,
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def acknowledge(self) -> None:
        """Acknowledge soon what is settled."""
        self._work.set()

    def close(self) -> None:
        """Acknowledge what is settled, give the rest back, and stop; within 4 seconds."""
        self._closing = True
        self._work.set()
        self._thread.join(4)

    def _run(self) -> None:
        delay = FIRST_DELAY
        while not self._closing:
            due = self._prolonged + self._deadline / 3 - time.monotonic()
            self._work.wait(max(0.0, due))
            self._work.clear()
            try:
                complete = self._acknowledge(ANSWER_SECONDS)
                if time.monotonic() >= self._prolonged + self._deadline / 3:
                    self._modify(self._leases.held(), self._deadline, ANSWER_SECONDS)
                    self._prolonged = time.monotonic()
                self.status = ""
            except grpc.RpcError as error:
                complete = False
                known = translated(error, self._client.address, f"acknowledging on {self._path}")
                if isinstance(known, FatalError):
                    self._fail(known)
                    return
                self.status = known.message
            if complete:
                delay = FIRST_DELAY
            elif not self._closing:
                self._pause(delay)
                delay = min(2 * delay, LONGEST_DELAY)
                self._work.set()
        self._finish()

    def _fail(self, error: FatalError) -> None:
        self.fatal = error
        self._puller.wake()

    def _pause(self, seconds: float) -> None:
        """Wait, but not for longer than until closing."""
        deadline = time.monotonic() + seconds
        while not self._closing and time.monotonic() < deadline:
            time.sleep(0.02)

    def _finish(self) -> None:
        try:
            self._acknowledge(1.5)
            self._modify(self._leases.unsettled(), 0, 1.5)
        except grpc.RpcError as error:
            # They come again once their lease has run out.
            log.info("pubsub_not_given_back", subscription=self._path, error=str(error.code()))

    def _acknowledge(self, seconds: float) -> bool:
        """Acknowledge what is settled; whether nothing of it has to be tried again."""
        while pairs := self._leases.to_acknowledge(_AT_ONCE):
            ack_ids = [ack_id for _, ack_id in pairs]
            request = AcknowledgeRequest(subscription=self._path, ack_ids=ack_ids)
            try:
                self._client.acknowledge(request, timeout=seconds)
            except grpc.RpcError as error:
                outcome = outcome_of(ack_ids, error, exactly_once=self._puller.exactly_once)
                if len(outcome.again) == len(ack_ids):
                    raise
                done = set(outcome.done)
                self._leases.acknowledged(pair for pair in pairs if pair[1] in done)
                self._leases.lost(outcome.lost)
                if outcome.lost:
                    log.warning(
                        "pubsub_ack_too_late", subscription=self._path, messages=len(outcome.lost)
                    )
                if outcome.again:
                    return False
            else:
                self._leases.acknowledged(pairs)
            self._puller.wake()
        return True

    def _modify(self, ack_ids: Sequence[str], seconds: int, timeout: float) -> None:
        for at in range(0, len(ack_ids), _AT_ONCE):
            part = ack_ids[at : at + _AT_ONCE]
            request = ModifyAckDeadlineRequest(
                subscription=self._path, ack_ids=part, ack_deadline_seconds=seconds
            )
            try:
                self._client.modify_ack_deadline(request, timeout=timeout)
            except grpc.RpcError as error:
                outcome = outcome_of(part, error, exactly_once=self._puller.exactly_once)
                if len(outcome.again) == len(part):
                    raise
                self._leases.lost(outcome.lost)
