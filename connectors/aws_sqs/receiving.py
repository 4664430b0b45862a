"""The receivers: threads that each have one ReceiveMessage call under way, while there is room."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

from connectors.aws_sqs.client import Client, Queue, depth
from connectors.aws_sqs.in_flight import InFlight
from connectors.aws_sqs.settings import SqsSource
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.threads import watched

READ_AHEAD = 2000
"""Messages that wait to be handed over, at the most: two batches."""

_AT_ONCE = 10
"""Messages that one call gives, at the most."""

_ONLY_NEWER = 5
"""Answers in a row with nothing but messages sent since, after which a bounded read ends."""

_PAUSE = 0.1
"""Seconds between calls that have found nothing and do not wait (`wait_time: 0s`)."""

_SOON = 1.0
"""Seconds within which calls end that are not cut off at closing."""

_LATER = 1.0
"""Seconds by which SQS may begin and end a call later than is reckoned here."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Backoff in seconds while SQS is away or throttles."""


class Receivers:
    """The threads of one reader."""

    def __init__(
        self, queue: Queue, settings: SqsSource, in_flight: InFlight, *, until: float | None
    ) -> None:
        """`until`: end with what was sent before, seconds since the epoch; None: never."""
        self._settings = settings
        self._in_flight = in_flight
        self._until = until
        self._opened = time.monotonic()
        self._closing = False
        self._stop = threading.Event()
        self.fatal: FatalError | None = None
        self.status = ""
        self._newer = 0
        self._waiting_until: dict[Client, float] = {}
        count = settings.receivers if until is None else 1
        self._clients = [Client(queue) for _ in range(count)]
        self._running = count
        self._threads = [
            threading.Thread(
                target=watched("receiving from SQS", self._run, self._fail),
                args=(client,),
                name=f"sqs-receive-{queue.name}",
                daemon=True,
            )
            for client in self._clients
        ]

    def start(self) -> None:
        """Start receiving."""
        for thread in self._threads:
            thread.start()

    @property
    def at_end(self) -> bool:
        """Whether what was there at the beginning has been received."""
        return self._until is not None and self._running == 0 and self.fatal is None

    def close(self) -> float:
        """Stop receiving, and end the calls under way; return for how long SQS may not know of that.

        Until then it may answer them, with messages that nobody gets and that are hidden.
        """
        self._closing = True
        self._stop.set()
        self._in_flight.close()
        waiting = list(self._waiting_until.values())
        if max(waiting, default=0.0) < time.monotonic() + _SOON:
            # They answer by themselves: a call that is cut off may have hidden messages.
            deadline = time.monotonic() + _SOON
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        for client in self._clients:
            client.interrupt()
        for thread in self._threads:
            thread.join(1)
        for client in self._clients:
            client.drop()
        left = max(waiting, default=0.0) - time.monotonic()
        return left + _LATER if left > 0 else 0.0

    def _run(self, client: Client) -> None:
        delay = FIRST_DELAY
        attempt = ""
        try:
            while self._has_room():
                attempt = attempt or uuid4().hex
                try:
                    ended = self._receive(client, attempt)
                    self.status, delay, attempt = "", FIRST_DELAY, ""
                    if ended:
                        return
                except FatalError as error:
                    self._fail(error)
                    return
                except PenstockError as error:
                    if self._closing:
                        return
                    if not isinstance(error, RetryableError):
                        attempt = ""
                    self.status = error.message
                    self._stop.wait(delay)
                    delay = min(2 * delay, LONGEST_DELAY)
        finally:
            with self._in_flight.changed:
                self._running -= 1
                self._in_flight.changed.notify_all()

    def _fail(self, error: FatalError) -> None:
        self.fatal = error

    def _has_room(self) -> bool:
        """Wait until more may be received; False when closing."""
        held = self._in_flight
        most = self._settings.max_in_flight
        with held.changed:
            while not self._closing and (
                held.waiting >= READ_AHEAD
                or held.size + _AT_ONCE * len(self._threads)
                > max(most, _AT_ONCE * len(self._threads))
            ):
                held.changed.wait(0.5)
        return not self._closing

    def _receive(self, client: Client, attempt: str) -> bool:
        """Receive once; return whether that was the end."""
        settings = self._settings
        hidden = max(1, int(settings.visibility_timeout))
        waits = settings.wait_time if self._until is None else 1.0
        asked: dict[str, Any] = {
            "MaxNumberOfMessages": _AT_ONCE,
            "WaitTimeSeconds": int(waits),
            "VisibilityTimeout": hidden,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        if client.queue.is_fifo:
            # An answer that was lost comes again to who asks with the same id, and is not hidden.
            asked["ReceiveRequestAttemptId"] = attempt
        began = time.monotonic()
        self._waiting_until[client] = began + waits
        messages = client.call("ReceiveMessage", asked, waits=waits).get("Messages") or []
        del self._waiting_until[client]
        if messages:
            # Hidden since the server answered, at the earliest since it was asked.
            now = time.monotonic()
            until = now + hidden if now - began > hidden else began + hidden
            self._in_flight.arrived(messages, hidden_until=until, now=now)
        if self._until is None:
            if not messages and waits < 1:  # SQS does not wait for us
                self._stop.wait(_PAUSE)
            return False
        sent = [int(each.get("Attributes", {}).get("SentTimestamp", 0)) for each in messages]
        # A standard queue mixes old and new: one answer with new ones alone does not say much.
        self._newer = self._newer + 1 if sent and min(sent) / 1000 >= self._until else 0
        if self._newer >= _ONLY_NEWER:
            return True
        return not messages and self._nothing_hidden(client)

    def _nothing_hidden(self, client: Client) -> bool:
        """Whether no message waits that another has received, and perhaps died with."""
        visible, hidden = depth(client)
        if visible:
            return False
        patience = self._settings.visibility_timeout + 5
        return hidden <= self._in_flight.size or time.monotonic() - self._opened > patience
