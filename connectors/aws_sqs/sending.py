"""Messages into SendMessageBatch calls, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.aws_sqs.client import Client
from connectors.aws_sqs.failures import is_too_large, of_entry
from connectors.errors import PenstockError, PermanentError

LARGEST = 1_048_576
"""Bytes of a message, and of all messages of a call (1 MiB since August 2025)."""

_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """One message to be sent, and its event's place in the batch."""

    place: int
    body: str
    attributes: Mapping[str, str]
    group: str | None
    deduplication: str | None
    delay: int | None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """Count its bytes as SQS does: the body, and names, types and values of attributes."""
        size = len(self.body.encode())
        for name, value in self.attributes.items():
            size += len(name) + len("String") + len(value.encode())
        object.__setattr__(self, "size", size)

    def parameters(self, number: int) -> dict[str, Any]:
        """Return it as an entry of a call."""
        found: dict[str, Any] = {"Id": str(number), "MessageBody": self.body}
        if self.attributes:
            found["MessageAttributes"] = {
                name: {"DataType": "String", "StringValue": value}
                for name, value in self.attributes.items()
            }
        if self.group is not None:
            found["MessageGroupId"] = self.group
            found["MessageDeduplicationId"] = self.deduplication
        if self.delay is not None:
            found["DelaySeconds"] = self.delay
        return found


class Sender:
    """Sends one lane's messages, one call after another."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[str, PenstockError] = {}
        """Groups of which a message has to be tried again: what follows it in them waits."""

    def send(self, lane: Sequence[Entry]) -> dict[int, PenstockError]:
        """Send them; return the failed ones by place."""
        failures: dict[int, PenstockError] = {}
        for batch in _batches(lane):
            going = []
            for entry in batch:
                held = None if entry.group is None else self._held.get(entry.group)
                if held is None:
                    going.append(entry)
                else:
                    failures[entry.place] = held
            if not going:
                continue
            failed = self._call(going)
            failures |= {entry.place: error for entry, error in failed}
            for entry, error in failed:
                if entry.group is not None and not isinstance(error, PermanentError):
                    self._held.setdefault(entry.group, error)
        return failures

    def _call(self, batch: Sequence[Entry]) -> list[tuple[Entry, PenstockError]]:
        entries = [entry.parameters(number) for number, entry in enumerate(batch)]
        try:
            answer = self._client.call("SendMessageBatch", {"Entries": entries})
        except PermanentError as error:
            if len(batch) == 1:
                return [(batch[0], _of_one(error, batch[0]))]
            # What one of them is refused for, all are: each by itself.
            return [each for entry in batch for each in self._call([entry])]
        except PenstockError as error:
            return [(entry, error) for entry in batch]
        return [
            (batch[int(each["Id"])], self._of_entry(each)) for each in answer.get("Failed") or ()
        ]

    def _of_entry(self, failed: Mapping[str, Any]) -> PenstockError:
        return of_entry(
            str(failed.get("Code", "")),
            str(failed.get("Message", "")),
            sender_fault=bool(failed.get("SenderFault")),
            queue=self._client.queue.name,
        )


def _of_one(error: PenstockError, entry: Entry) -> PenstockError:
    if not is_too_large(error):
        return error
    return PermanentError(
        f"the event is {entry.size:,} bytes as a message, more than the queue takes.",
        code="message_too_large",
        hint="Publish less of it, or raise the queue's MaximumMessageSize.",
    )


def _batches(lane: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield what goes in one call: by number and by bytes."""
    batch: list[Entry] = []
    size = 0
    for entry in lane:
        if batch and (len(batch) == _AT_ONCE or size + entry.size > LARGEST):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch
