"""The Kafka sink: an idempotent producer that confirms each batch before it returns.

A batch is handed to librdkafka in order and then flushed: nothing lingers, and a large batch still
travels in few requests. Only failures are reported to Python (`delivery.report.only.error`), each
to the slot of its place in the batch; what is flushed and not reported is in all replicas.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not as such
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.cloudevents import (
    KAFKA_PREFIX,
    STRUCTURED_TYPE,
    binary_headers,
    bodies,
    structured,
)
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.kafka import preflight
from connectors.kafka.cluster import CLIENT_LOG, Cluster, log
from connectors.kafka.decoding import BASE64_KEY, bytes_of_key
from connectors.kafka.failures import ClientErrors, client_failed, delivery_failed
from connectors.kafka.settings import KafkaSettings, KafkaSinkSettings, client_properties

Headers = Sequence[tuple[str, bytes]]
Slot = Callable[[KafkaError, Any], None]

_STRUCTURED_HEADERS = [("content-type", f"{STRUCTURED_TYPE}; charset=UTF-8".encode())]

_DEFAULT_LIMIT = 1_048_588
"""max.message.bytes of a topic that says nothing else; librdkafka's batches stay below it."""

_OVERHEAD = 120
"""Bytes a record, or a batch of them, takes beside its content; more than it ever is."""


class KafkaSink:
    """See `connectors.contracts.Sink`."""

    def __init__(self, settings: KafkaSinkSettings | KafkaSettings) -> None:
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="at_least_once",
            topics=True,
            embeds=settings.publish_format == "cloudevents_structured",
        )
        self._options = client_properties(settings.options)
        self._errors = ClientErrors(", ".join(settings.brokers))
        self._producer: Producer | None = None
        self._slots: list[Slot] = []
        self._failures: dict[int, PenstockError] = {}
        self._refused_for_size: set[int] = set()
        self._topic = ""
        self._limits: dict[str, int] = {}
        self._timeout = _seconds(self._options, 120_000)

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Check the brokers, each topic and the right to write it."""
        named = [*topics, *([self._settings.topic] if self._settings.topic else [])]
        return preflight.publishing(
            self._settings.brokers, self._options, list(dict.fromkeys(named))
        )

    def open(self, _opening: SinkOpening) -> None:
        """Connect, and wait for a broker to answer."""
        try:
            producer = Producer(self._properties())
        except KafkaException as error:
            raise FatalError(
                f"the Kafka client can't be made: {error.args[0].str()}.",
                code="kafka_options",
                hint="Check `options`.",
            ) from error
        try:
            Cluster(producer, self._errors, idle=True).metadata()
        except BaseException:
            producer.close()
            raise
        self._producer = producer
        if self._settings.topic is not None:
            self._limit(self._settings.topic)

    def _properties(self) -> dict[str, Any]:
        return {
            # Only ever seen by a batch that is still being handed over: flush ends the wait.
            # Without it, each message would start a request of its own (twice the CPU).
            "linger.ms": 5,
            "queue.buffering.max.kbytes": 65_536,
            # How long a topic may be unknown before its events fail.
            "topic.metadata.propagation.max.ms": 10_000,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 2_000,
            "client.id": "penstock",
            # As Java's producers do, so that a key's partition is the same whoever writes it.
            "partitioner": "murmur2_random",
            **self._options,
            "bootstrap.servers": ",".join(self._settings.brokers),
            "acks": "all",
            "enable.idempotence": True,
            "delivery.report.only.error": True,
            "error_cb": self._errors,
            "logger": CLIENT_LOG,
        }

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Publish the events and wait for each; takes up to `delivery.timeout.ms` (120 s)."""
        topic = events.topic or self._settings.topic
        if topic is None:
            error = FatalError(
                "the publish step names no topic, and the Kafka module has none.",
                code="kafka_no_topic",
                hint="Add `topic:` to the step's or the module's config.",
            )
            return dict.fromkeys(range(len(events)), error)
        if not len(events):
            return {}
        self._topic = topic
        self._failures = {}
        self._refused_for_size = set()
        values, headers = self._written(events)
        keys = self._wire_keys(events.keys)
        limit = self._limit(topic)
        if limit >= _DEFAULT_LIMIT:
            self._publish(range(len(events)), values, keys, headers)
        else:
            for group in _groups(values, keys, headers, limit - _OVERHEAD):
                self._publish(group, values, keys, headers)
        if self._refused_for_size and len(events) > 1:
            self._publish_one_by_one(values, keys, headers)
        fatal = self._errors.fatal
        if fatal is not None:
            # What the client throws away when it stops is reported before why it stops.
            for index, failure in self._failures.items():
                if not isinstance(failure, PermanentError):
                    self._failures[index] = fatal
        return self._failures

    # --- from events to records ---------------------------------------------------------------

    def _written(self, events: Outgoing) -> tuple[Sequence[bytes | None], Sequence[Headers] | None]:
        publish_format = self._settings.publish_format
        if publish_format == "json":
            return events.values, None
        if publish_format == "cloudevents_binary":
            return bodies(events), binary_headers(events, KAFKA_PREFIX)
        documents: list[bytes | None] = list(structured(events))
        if None not in events.values:
            return documents, [_STRUCTURED_HEADERS] * len(documents)
        # A tombstone is a null value, which can't hold an envelope: it goes in binary mode.
        in_headers = binary_headers(events, KAFKA_PREFIX)
        headers: list[Headers] = [_STRUCTURED_HEADERS] * len(documents)
        for index, value in enumerate(events.values):
            if value is None:
                documents[index], headers[index] = None, in_headers[index]
        return documents, headers

    def _wire_keys(self, keys: Sequence[str | None]) -> Sequence[str | bytes | None]:
        """Return the keys as librdkafka takes them: text as it is, `base64:…` as its bytes.

        One search through all of them tells whether there is anything to do.
        """
        try:
            if b'"' + BASE64_KEY.encode() not in orjson.dumps(list(keys)):
                return keys
        except orjson.JSONEncodeError:  # a lone surrogate
            pass
        wired: list[str | bytes | None] = []
        for index, key in enumerate(keys):
            try:
                wired.append(None if key is None else bytes_of_key(key))
            except UnicodeEncodeError:
                wired.append(None)
                self._failures[index] = PermanentError(
                    "the event's key can't be written as UTF-8.",
                    code="key_not_utf8",
                    hint="It holds half of a surrogate pair; mend it where it comes from.",
                )
        return wired

    # --- from records to confirmations --------------------------------------------------------

    def _publish(
        self,
        indexes: Sequence[int],
        values: Sequence[bytes | None],
        keys: Sequence[str | bytes | None],
        headers: Sequence[Headers] | None,
    ) -> None:
        """Hand over the records of `indexes` in order, and wait until none is left."""
        producer = self._producer
        assert producer is not None, "deliver before open"  # noqa: S101
        slots = self._slots
        while len(slots) < len(values):
            slots.append(partial(self._failed, len(slots)))
        topic, produce = self._topic, producer.produce
        if len(indexes) == len(values) and not self._failures:
            heads = repeat(None) if headers is None else headers
            rows: Iterable[Any] = zip(indexes, values, keys, slots, heads, strict=False)
        else:
            failed = self._failures
            rows = (
                (k, values[k], keys[k], slots[k], headers[k] if headers else None)
                for k in indexes
                if k not in failed
            )
        for index, value, key, slot, head in rows:
            try:
                if head is None:
                    produce(topic, value, key, -1, slot)
                else:
                    produce(topic, value, key, -1, slot, None, 0, head)
            except (BufferError, KafkaException):
                self._insist(producer, index, (value, key, slot, head))
        self._flush(producer)

    def _insist(self, producer: Producer, index: int, record: tuple[Any, ...]) -> None:
        """Hand over one record that was not taken: wait while the queue is full, else fail it."""
        value, key, slot, head = record
        while True:
            try:
                producer.produce(self._topic, value, key, -1, slot, None, 0, head or [])
            except BufferError:
                self._serve(producer.poll, 0.05)
            except KafkaException as error:
                self._fail(index, error.args[0])
                return
            else:
                return

    def _flush(self, producer: Producer) -> None:
        deadline = time.monotonic() + self._timeout + 10
        while self._serve(producer.flush, 1.0) or len(producer):
            if self._errors.fatal is not None or time.monotonic() > deadline:
                # Nothing of it can pass any more. (In time, librdkafka gives up by itself.)
                producer.purge()

    def _serve(self, call: Callable[[float], int], seconds: float) -> int:
        """Let the client report; a fatal error is raised by the call that happens to hear it."""
        try:
            return call(seconds)
        except KafkaException as raised:
            self._errors.fatal = client_failed(raised.args[0])
            return 0

    def _failed(self, index: int, error: KafkaError, _message: Any) -> None:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._refused_for_size.add(index)
        self._fail(index, error)

    def _fail(self, index: int, error: KafkaError) -> None:
        self._failures[index] = delivery_failed(error, self._topic, self._timeout)

    # --- topics that take less than a batch ----------------------------------------------------

    def _limit(self, topic: str) -> int:
        """Return the topic's max.message.bytes, asked for when it is first published to.

        The broker measures a batch of records by it, not a record: a batch over it fails whole.
        """
        known = self._limits.get(topic)
        if known is None:
            known = self._limits[topic] = self._ask_limit(topic)
        return known

    def _ask_limit(self, topic: str) -> int:
        properties: dict[str, Any] = {
            **self._options,
            "bootstrap.servers": ",".join(self._settings.brokers),
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

    def _publish_one_by_one(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[str | bytes | None],
        headers: Sequence[Headers] | None,
    ) -> None:
        """Publish again, each alone, what was refused for the size of the batch it was in."""
        self._limits[self._topic] = 0
        refused, self._refused_for_size = sorted(self._refused_for_size), set()
        for index in refused:
            del self._failures[index]
            self._publish([index], values, keys, headers)

    # --- the end -------------------------------------------------------------------------------

    def settled_state(self) -> None:
        """Keep nothing: Kafka has it."""

    def close(self) -> None:
        """Flush what an interrupted `deliver` left, for at most 3 s, and disconnect."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._serve(producer.flush, 3.0) or len(producer):
            producer.purge()
            self._serve(producer.flush, 0.5)
        with contextlib.suppress(KafkaException):
            producer.close()


def _groups(
    values: Sequence[bytes | None],
    keys: Sequence[str | bytes | None],
    headers: Sequence[Headers] | None,
    limit: int,
) -> Iterable[Sequence[int]]:
    """Split a batch, in order, into runs that fit into `limit` bytes; what does not is alone."""
    run: list[int] = []
    total = 0
    for index, (value, key) in enumerate(zip(values, keys, strict=True)):
        size = _OVERHEAD + len(value or b"") + 4 * len(key or "")
        if headers is not None:
            size += sum(len(name) + len(content) + 4 for name, content in headers[index])
        if run and total + size > limit:
            yield run
            run, total = [], 0
        run.append(index)
        total += size
    if run:
        yield run


def _seconds(options: Mapping[str, str], default: int) -> float:
    """Return the delivery timeout in seconds, by either of its names."""
    for name in ("delivery.timeout.ms", "message.timeout.ms"):
        if name in options:
            return float(options[name]) / 1000
    return default / 1000
