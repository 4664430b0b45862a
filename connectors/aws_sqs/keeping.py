"""Threads that delete what is settled, and keep hidden what is on its way.

Prolonging has a thread of its own that waits for nobody: a message in a step of ten minutes is not
given to another while its worker lives. SQS ends that 12 hours after a message was received.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from math import ceil

import structlog

from connectors.aws_sqs.client import Client, Queue, depth
from connectors.aws_sqs.failures import is_gone
from connectors.aws_sqs.in_flight import InFlight
from connectors.aws_sqs.receiving import FIRST_DELAY, LONGEST_DELAY
from connectors.aws_sqs.settings import SqsSource
from connectors.errors import FatalError, PenstockError
from connectors.progress import MessageId, Progress
from connectors.threads import watched

log = structlog.get_logger("penstock.sqs")

_AT_ONCE = 10
"""Messages in one batch call."""

_DEPTH_EVERY = 10.0

_REMEMBERED = 300.0
"""Seconds, beyond two times the visibility timeout, for which it is remembered that a message was
settled that could not be deleted."""


class Keepers:
    """The threads of one reader."""

    def __init__(
        self,
        queue: Queue,
        settings: SqsSource,
        in_flight: InFlight,
        progress: Progress,
        *,
        settled_before: Collection[MessageId],
        tells_depth: bool,
    ) -> None:
        """`settled_before`: what was settled when the reader was opened, and perhaps not deleted."""
        self._settings = settings
        self._in_flight = in_flight
        self._progress = progress
        self._tells_depth = tells_depth
        self._closing = False
        self._give_back_after = 0
        # They are in each checkpoint for as long as they may come again.
        self._remembered: deque[tuple[float, Collection[MessageId]]] = deque()
        if settled_before:
            progress.leave_out(settled_before)
            self._remember(settled_before)
        self._stop = threading.Event()
        self.status = ""
        self.fatal: FatalError | None = None
        self.depth: int | None = None
        self._extending = Client(queue)
        self._deleting = [Client(queue) for _ in range(settings.receivers)]
        self._extender = threading.Thread(
            target=watched("keeping messages of SQS", self._extend, self._note),
            name=f"sqs-extend-{queue.name}",
            daemon=True,
        )
        self._deleters = [
            threading.Thread(
                target=watched("deleting messages of SQS", self._delete, self._note),
                args=(client,),
                name=f"sqs-delete-{queue.name}",
                daemon=True,
            )
            for client in self._deleting
        ]

    def start(self) -> None:
        """Start the threads."""
        self._extender.start()
        for thread in self._deleters:
            thread.start()

    def close(self, give_back_after: float) -> None:
        """Delete what is settled, give back what is not, and stop; within 3 s.

        `give_back_after`: seconds for which calls of ours that were cut off may still be answered.
        """
        self._give_back_after = ceil(give_back_after)
        self._closing = True
        self._stop.set()
        self._in_flight.close()
        deadline = time.monotonic() + 2.0
        for thread in (self._extender, *self._deleters):
            thread.join(max(0.0, deadline - time.monotonic()))
        for client in (self._extending, *self._deleting):
            client.interrupt()
        for thread in (self._extender, *self._deleters):
            thread.join(0.5)
        for client in (self._extending, *self._deleting):
            client.drop()

    def _remember(self, ids: Collection[MessageId]) -> None:
        self._remembered.append(
            (time.monotonic() + 2 * self._settings.visibility_timeout + _REMEMBERED, ids)
        )

    def _forget(self, now: float) -> None:
        while self._remembered and self._remembered[0][0] <= now:
            _, ids = self._remembered.popleft()
            self._progress.forget(ids)
            self._in_flight.forget(ids)

    # --- deleting ---------------------------------------------------------------------------------

    def _delete(self, client: Client) -> None:
        delay = FIRST_DELAY
        while True:
            batch = self._in_flight.next_to_delete(_AT_ONCE, 0.5)
            if not batch:
                if self._closing:
                    return
                continue
            try:
                left = self._delete_batch(client, batch)
                self.status = ""
                delay = FIRST_DELAY if not left else delay
            except PenstockError as error:
                left = [name for name, _ in batch]
                self._note(error)
            if left:
                if self._closing:
                    return
                self._in_flight.settled(left)
                self._stop.wait(delay)
                delay = min(2 * delay, LONGEST_DELAY)

    def _delete_batch(
        self, client: Client, batch: Sequence[tuple[MessageId, str]]
    ) -> list[MessageId]:
        """Delete messages; return those that have to be tried again."""
        entries = [
            {"Id": str(number), "ReceiptHandle": handle} for number, (_, handle) in enumerate(batch)
        ]
        answer = client.call("DeleteMessageBatch", {"Entries": entries})
        names = [name for name, _ in batch]
        failed = {int(each["Id"]): each.get("Code", "") for each in answer.get("Failed") or ()}
        done = [name for number, name in enumerate(names) if number not in failed]
        self._in_flight.deleted(done)
        expired = [names[number] for number, code in failed.items() if is_gone(code)]
        if expired:
            # Hidden no longer, or deleted by an answer that we did not get. If they come again,
            # they are deleted then.
            self._in_flight.gone(expired)
            self._remember(frozenset(expired))
            log.info("sqs_handle_expired", queue=client.queue.name, messages=len(expired))
        self._progress.forget(set(done))
        return [names[number] for number, code in failed.items() if not is_gone(code)]

    # --- visibility -------------------------------------------------------------------------------

    def _extend(self) -> None:
        hidden = max(1, int(self._settings.visibility_timeout))
        tick = min(1.0, hidden / 6)
        depth_due = 0.0
        client = self._extending
        while not self._stop.wait(tick):
            try:
                now = time.monotonic()
                self._forget(now)
                self._set_visibility(self._in_flight.due(now + hidden / 2), hidden)
                if self._tells_depth and now >= depth_due:
                    depth_due = now + _DEPTH_EVERY
                    self.depth = depth(client)[0]
                self.status = ""
            except PenstockError as error:
                self._note(error)
        try:  # what is not settled is for anybody
            self._set_visibility(self._in_flight.unsettled(), self._give_back_after)
        except PenstockError as error:
            log.info("sqs_not_given_back", queue=client.queue.name, reason=error.message)

    def _set_visibility(self, found: Sequence[tuple[MessageId, str]], seconds: int) -> None:
        for at in range(0, len(found), _AT_ONCE):
            batch = found[at : at + _AT_ONCE]
            until = time.monotonic() + seconds
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for number, (_, handle) in enumerate(batch)
            ]
            answer = self._extending.call("ChangeMessageVisibilityBatch", {"Entries": entries})
            failed = {int(each["Id"]): each for each in answer.get("Failed") or ()}
            self._in_flight.hidden(
                [
                    each
                    for number, each in enumerate(batch)
                    # One that can't be kept hidden is not asked for again and again.
                    if number not in failed or is_gone(failed[number].get("Code", ""))
                ],
                until,
            )
            if failed and not self._closing:
                log.info(
                    "sqs_not_prolonged",
                    queue=self._extending.queue.name,
                    messages=len(failed),
                    reason=next(iter(failed.values())).get("Message", ""),
                )

    def _note(self, error: PenstockError) -> None:
        self.status = error.message
        if isinstance(error, FatalError):
            self.fatal = error
