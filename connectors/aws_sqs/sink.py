"""The SQS sink: batches as SendMessageBatch calls, several at once, in order per message group."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from zlib import crc32

from connectors.aws_sqs import preflight
from connectors.aws_sqs.client import Client, Queue, first_depth, queue_of
from connectors.aws_sqs.decoding import PREFIX
from connectors.aws_sqs.sending import LARGEST, Entry, Sender
from connectors.aws_sqs.settings import SqsSink
from connectors.cloudevents import binary_headers, bodies, structured
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import PenstockError, PermanentError
from connectors.rendering import EventTemplate

_LEGAL = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
"""What a message group or a deduplication id may be."""

_MOST_ATTRIBUTES = 10

_EVENT_ID = "{{ .id }}"
"""The default deduplication id, which takes no rendering."""


class SqsQueueSink:
    """See `connectors.contracts.Sink`."""

    def __init__(self, name: str, settings: SqsSink) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=settings.queue_url.endswith(".fifo"),
            delivery="at_least_once",
            embeds=settings.format == "cloudevents_structured",
        )
        self._queue: Queue | None = None
        self._group: EventTemplate | None = None
        self._deduplication: EventTemplate | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._clients: list[Client] = []
        self._free: SimpleQueue[Client] = SimpleQueue()

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has one queue
        """Check the credentials and the queue."""
        return preflight.sending(self._settings)

    def open(self, opening: SinkOpening) -> None:
        """Connect, and ask for the queue."""
        settings = self._settings
        queue = queue_of(settings, settings.queue_url)
        if queue.is_fifo:
            if settings.message_group is not None:
                self._group = EventTemplate(settings.message_group, opening.compile_template)
            if settings.deduplication_id != _EVENT_ID:
                self._deduplication = EventTemplate(
                    settings.deduplication_id, opening.compile_template
                )
        clients = [Client(queue) for _ in range(settings.concurrency)]
        try:
            first_depth(clients[0])
        except BaseException:
            clients[0].drop()
            raise
        self._queue, self._clients = queue, clients
        for client in clients:
            self._free.put(client)
        self._pool = ThreadPoolExecutor(settings.concurrency, f"sqs-send-{self._name}")

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Send the events and wait for the answers."""
        if not len(events):
            return {}
        pool, queue = self._pool, self._queue
        assert pool is not None, "deliver before open"  # noqa: S101
        assert queue is not None, "deliver before open"  # noqa: S101
        entries, failures = self._entries(events, queue)
        lanes = self._lanes(entries, queue)
        if len(lanes) == 1:
            return failures | self._send(lanes[0])
        for found in pool.map(self._send, lanes):
            failures |= found
        return failures

    def _lanes(self, entries: Sequence[Entry], queue: Queue) -> list[list[Entry]]:
        """Return what is sent one after another: on a FIFO queue all of a group."""
        count = min(self._settings.concurrency, -(-len(entries) // 10)) or 1
        lanes: list[list[Entry]] = [[] for _ in range(count)]
        if queue.is_fifo:
            for entry in entries:
                lanes[crc32((entry.group or "").encode()) % count].append(entry)
        else:
            each = -(-len(entries) // count)
            lanes = [list(entries[at : at + each]) for at in range(0, len(entries), each or 1)]
        return [lane for lane in lanes if lane] or [[]]

    def _send(self, lane: Sequence[Entry]) -> dict[int, PenstockError]:
        client = self._free.get()
        try:
            return Sender(client).send(lane)
        finally:
            self._free.put(client)

    # --- from events to messages ------------------------------------------------------------------

    def _entries(
        self, events: Outgoing, queue: Queue
    ) -> tuple[list[Entry], dict[int, PenstockError]]:
        failures: dict[int, PenstockError] = {}
        values: Sequence[bytes | None] = events.values
        attributes: Sequence[Sequence[tuple[str, bytes]]] | None = None
        if self._settings.format == "cloudevents_structured":
            values = structured(events)
        elif self._settings.format == "cloudevents_binary":
            values, attributes = bodies(events), binary_headers(events, PREFIX)
        groups = self._groups(events, failures) if queue.is_fifo else None
        ids = self._deduplication_ids(events, failures) if queue.is_fifo else None
        delay = int(self._settings.delay) or None
        found = []
        for place, value in enumerate(values):
            if place in failures:
                continue
            try:
                entry = Entry(
                    place,
                    _text_of(value),
                    {} if attributes is None else _attributes(attributes[place]),
                    None if groups is None else groups[place],
                    None if ids is None else _legal(ids[place]),
                    delay,
                )
                if entry.size > LARGEST:
                    raise _too_large(entry.size)
            except PermanentError as error:
                failures[place] = error
            else:
                found.append(entry)
        return found, failures

    def _groups(self, events: Outgoing, failures: dict[int, PenstockError]) -> list[str]:
        rendered = self._rendered(self._group, events, failures)
        if rendered is not None:
            return [_legal(each) for each in rendered]
        types = events.attributes().get("type", "penstock")
        listed = types if isinstance(types, list) else [types] * len(events)
        keyed = zip(events.keys, listed, strict=False)
        return [_legal(str(kind) if key is None else key) for key, kind in keyed]

    def _deduplication_ids(
        self, events: Outgoing, failures: dict[int, PenstockError]
    ) -> Sequence[str]:
        rendered = self._rendered(self._deduplication, events, failures)
        if rendered is not None:
            return rendered
        ids = events.attributes()["id"]
        return ids if isinstance(ids, list) else [str(ids)] * len(events)

    @staticmethod
    def _rendered(
        template: EventTemplate | None, events: Outgoing, failures: dict[int, PenstockError]
    ) -> list[str] | None:
        if template is None:
            return None
        texts, failed = template.group(events)
        failures.update(failed)
        found = [""] * len(events)
        for text, places in texts.items():
            for place in places:
                found[place] = text
        return found

    # --- the end ----------------------------------------------------------------------------------

    def settled_state(self) -> None:
        """Keep nothing: SQS has it."""

    def close(self) -> None:
        """End the calls under way, and disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for client in self._clients:
                client.interrupt()
            pool.shutdown(wait=True)
            for client in self._clients:
                client.drop()


def _text_of(value: bytes | None) -> str:
    try:
        return "null" if value is None else value.decode()
    except UnicodeDecodeError:
        raise PermanentError(
            "the event's data is no text, and SQS takes text alone.",
            code="sqs_not_text",
            hint="Publish it as cloudevents_structured, which writes it in base64.",
        ) from None


def _attributes(headers: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    found = {name: value.decode() for name, value in headers if value}
    if len(found) > _MOST_ATTRIBUTES:
        raise PermanentError(
            f"the event has {len(found)} attributes, and a message of SQS takes {_MOST_ATTRIBUTES}.",
            code="sqs_attributes",
            hint="Publish it as cloudevents_structured.",
        )
    return found


def _legal(text: str) -> str:
    """Return a text as a group or deduplication id may be: where it may not, its hash."""
    return text if _LEGAL.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()


def _too_large(size: int) -> PermanentError:
    return PermanentError(
        f"the event is {size:,} bytes as a message, and SQS takes {LARGEST:,}.",
        code="message_too_large",
        hint="Publish less of it, or a reference to where it is stored.",
    )
