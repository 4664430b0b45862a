"""Records into a producer, and what became of each: nothing returns before all are confirmed.

A batch is handed to librdkafka in order and then flushed: nothing lingers, and a large batch still
travels in few requests. Where there is something else to do (`SinkOpening.meanwhile`), it is done
before that, while the first requests are on their way. Only failures are reported to Python
(`delivery.report.only.error`), each to the slot of its place in the batch; what is flushed and not
reported is in all replicas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not as such
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.errors import PenstockError
from connectors.kafka.cluster import CLIENT_LOG, log
from connectors.kafka.failures import PURGED, ClientErrors, client_failed, delivery_failed

Headers = Sequence[tuple[str, bytes | None]]
Slot = Callable[[KafkaError, Any], None]

_DEFAULT_LIMIT = 1_048_588
"""max.message.bytes of a topic that says nothing else; librdkafka's batches stay below it."""

_OVERHEAD = 120
"""Bytes a record, or a batch of them, takes beside its content; more than it ever is."""


@dataclass(frozen=True, slots=True)
class Records:
    """A batch as it goes to a topic: parallel lists; `keys` text or bytes, `headers` None for none."""

    topic: str
    values: Sequence[bytes | None]
    keys: Sequence[str | bytes | None]
    headers: Sequence[Headers] | None

    def __len__(self) -> int:
        return len(self.values)


class Publisher:
    """One producer's records on their way; see the module's text."""

    def __init__(
        self,
        producer: Producer,
        errors: ClientErrors,
        *,
        brokers: Sequence[str],
        options: Mapping[str, str],
        timeout: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """`timeout`: seconds after which librdkafka itself gives a record up. `meanwhile`: see `SinkOpening`."""
        self._producer = producer
        self._errors = errors
        self._brokers = brokers
        self._options = options
        self._timeout = timeout
        self._meanwhile = meanwhile
        self._slots: list[Slot] = []
        self._failures: dict[int, PenstockError] = {}
        self._topic = ""
        self._limits: dict[str, int] = {}
        self.refused_for_size: set[int] = set()
        """Places of the last call that a broker refused for the size of the batch they were in."""
        self.refused_with_others = False
        """Whether one of them was in a batch with others: then it may be small enough itself."""
        self._beside = 0
        self.reported = False
        """Whether a failure of the last call came from the broker, or its silence."""
        self.purged = False
        """Whether librdkafka threw records of the last call away for what others of them are."""
        self._gave_up = False

    def publish(
        self, records: Records, without: Collection[int] = (), only: Sequence[int] | None = None
    ) -> dict[int, PenstockError]:
        """Publish records, but those `without` (or `only` some), and wait for each.

        Returns the failed ones by their place. With `only`, each goes in a batch of its own.
        """
        self._topic = records.topic
        self._failures = {}
        self.refused_for_size = set()
        self.reported = self.purged = self._gave_up = self.refused_with_others = False
        if only is not None:
            for index in only:
                self._run([index], records)
            return self._failures
        limit = self.limit(records.topic)
        everything: Sequence[int] = range(len(records))
        if without:
            everything = [index for index in everything if index not in without]
        if limit >= _DEFAULT_LIMIT:
            self._run(everything, records)
        else:
            for group in _groups(everything, records, limit - _OVERHEAD):
                self._run(group, records)
        return self._failures

    def _run(self, indexes: Sequence[int], records: Records) -> None:
        """Hand over the records of `indexes` in order, and wait until none is left."""
        producer = self._producer
        self._beside = len(indexes) - 1
        topic, values, keys, headers = (
            records.topic,
            records.values,
            records.keys,
            records.headers,
        )
        slots = self._slots
        while len(slots) < len(values):
            slots.append(partial(self._failed, len(slots)))
        produce = producer.produce
        if len(indexes) == len(values):
            heads = repeat(None) if headers is None else headers
            rows: Iterable[Any] = zip(indexes, values, keys, slots, heads, strict=False)
        else:
            rows = (
                (k, values[k], keys[k], slots[k], headers[k] if headers else None) for k in indexes
            )
        for index, value, key, slot, head in rows:
            try:
                if head is None:
                    produce(topic, value, key, -1, slot)
                else:
                    produce(topic, value, key, -1, slot, None, 0, head)
            except (BufferError, KafkaException):
                self._insist(index, (value, key, slot, head))
        if self._meanwhile is not None:
            self._meanwhile()
        self._flush()

    def _insist(self, index: int, record: tuple[Any, ...]) -> None:
        """Hand over one record that was not taken: wait while the queue is full, else fail it."""
        value, key, slot, head = record
        while True:
            try:
                self._producer.produce(self._topic, value, key, -1, slot, None, 0, head or [])
            except BufferError:
                self.serve(self._producer.poll, 0.05)
            except KafkaException as error:
                self._fail(index, error.args[0])
                return
            else:
                return

    def _flush(self) -> None:
        producer = self._producer
        deadline = time.monotonic() + self._timeout + 10
        while self.serve(producer.flush, 1.0) or len(producer):
            if self._errors.fatal is not None or time.monotonic() > deadline:
                # Nothing of it can pass any more. (In time, librdkafka gives up by itself.)
                self._gave_up = True
                producer.purge()

    def serve(self, call: Callable[[float], int], seconds: float) -> int:
        """Let the client report; a fatal error is raised by the call that happens to hear it."""
        try:
            return call(seconds)
        except KafkaException as raised:
            self._errors.fatal = client_failed(raised.args[0])
            return 0

    def _failed(self, index: int, error: KafkaError, _message: Any) -> None:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self.refused_for_size.add(index)
            self.refused_with_others = self.refused_with_others or self._beside > 0
        self.reported = True
        self.purged = self.purged or (error.code() in PURGED and not self._gave_up)
        self._fail(index, error)

    def _fail(self, index: int, error: KafkaError) -> None:
        self._failures[index] = delivery_failed(error, self._topic, self._timeout)

    # --- topics that take less than a batch ----------------------------------------------------

    def limit(self, topic: str) -> int:
        """Return the topic's max.message.bytes, asked for when it is first published to.

        The broker measures a batch of records by it, not a record: a batch over it fails whole.
        """
        known = self._limits.get(topic)
        if known is None:
            known = self._limits[topic] = self._ask_limit(topic)
        return known

    def send_singly(self, topic: str) -> None:
        """Send each record to this topic in a batch of its own from now on."""
        self._limits[topic] = 0

    def _ask_limit(self, topic: str) -> int:
        properties: dict[str, Any] = {
            **self._options,
            "bootstrap.servers": ",".join(self._brokers),
            "logger": CLIENT_LOG,
        }
        admin = AdminClient(properties)
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            found = admin.describe_configs([resource], request_timeout=5)[resource].result()
            return int(found["max.message.bytes"].value)
        except (KafkaException, KeyError, TypeError, ValueError) as error:
            log.debug("kafka_limit_unknown", topic=topic, error=str(error))
            return _DEFAULT_LIMIT


def _groups(indexes: Sequence[int], records: Records, limit: int) -> Iterable[Sequence[int]]:
    """Split a batch, in order, into runs that fit into `limit` bytes; what does not is alone."""
    values, keys, headers = records.values, records.keys, records.headers
    run: list[int] = []
    total = 0
    for index in indexes:
        size = _OVERHEAD + len(values[index] or b"") + 4 * len(keys[index] or "")
        if headers is not None:
            size += sum(len(name) + len(content or b"") + 4 for name, content in headers[index])
        if run and total + size > limit:
            yield run
            run, total = [], 0
        run.append(index)
        total += size
    if run:
        yield run
