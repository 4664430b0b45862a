"""The Kafka sink: an idempotent producer that confirms each batch before it returns.

Opened with a transaction scope, its producer is transactional: `deliver` confirms that events are
part of the open transaction, and `commit` makes them visible with the source's positions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka import KafkaException, Producer

from connectors.batch import Position
from connectors.cloudevents import (
    KAFKA_PREFIX,
    STRUCTURED_TYPE,
    binary_headers,
    bodies,
    structured,
)
from connectors.contracts import (
    Check,
    Outgoing,
    Record,
    SinkOpening,
    SinkTraits,
    TransactionScope,
)
from connectors.enveloping import BASE64_KEY
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.kafka import preflight
from connectors.kafka.cluster import CLIENT_LOG, Cluster
from connectors.kafka.decoding import bytes_of_key
from connectors.kafka.failures import ClientErrors
from connectors.kafka.preflight_transactions import transacting
from connectors.kafka.publishing import Headers, Publisher, Records
from connectors.kafka.settings import KafkaSettings, KafkaSinkSettings, client_properties
from connectors.kafka.transactions import Transactions

if TYPE_CHECKING:
    from connectors.kafka.schema_ids import SchemaIds

_STRUCTURED_HEADERS = [("content-type", f"{STRUCTURED_TYPE}; charset=UTF-8".encode())]

_TRANSACTION_TIMEOUT = 60_000
"""Milliseconds that a transaction may be open; as long, a dead writer's may hold up readers of
committed events, unless another takes its place before."""


class KafkaSink:
    """See `connectors.contracts.Sink` and `TransactionalSink`."""

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
        self._publisher: Publisher | None = None
        self._transactions: Transactions | None = None
        self._ids: SchemaIds | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Check the brokers, each topic and the right to write it."""
        named = [*topics, *([self._settings.topic] if self._settings.topic else [])]
        yield from preflight.publishing(
            self._settings.brokers, self._options, list(dict.fromkeys(named))
        )
        asked = _schema_ids(self._settings)
        if asked is not None:
            with contextlib.closing(asked) as ids:
                for topic in dict.fromkeys(named):
                    yield _schema_check(ids, topic)

    def open(self, opening: SinkOpening) -> None:
        """Connect, and wait for a broker to answer; within a scope, shut out its older writer."""
        scope = opening.transaction
        more: dict[str, Any] = {}
        if scope is not None:
            more["transactional.id"] = scope.writer
            # By default librdkafka forgets all brokers when none answers, and then waits for ever for a
            # group's coordinator that it had known (measured with 2.16.0: kill the only broker
            # in mid-transaction, start it again, and send_offsets_to_transaction never returns).
            more["metadata.recovery.strategy"] = "none"
            more["transaction.timeout.ms"] = self._options.get(
                "transaction.timeout.ms", _TRANSACTION_TIMEOUT
            )
        meanwhile = opening.meanwhile if scope is None else None
        try:
            producer = Producer({**self._properties(lingers=meanwhile is not None), **more})
        except KafkaException as error:
            raise FatalError(
                f"the Kafka client can't be made: {error.args[0].str()}.",
                code="kafka_options",
                hint="Check `options`.",
            ) from error
        settings = self._settings
        publisher = Publisher(
            producer,
            self._errors,
            brokers=settings.brokers,
            options=self._options,
            timeout=_seconds(self._options, _TRANSACTION_TIMEOUT if scope else 120_000),
            meanwhile=meanwhile,
        )
        try:
            Cluster(producer, self._errors, idle=True).metadata()
            if scope is not None:
                self._transactions = Transactions(
                    producer,
                    publisher,
                    self._errors,
                    scope,
                    brokers=settings.brokers,
                    options=self._options,
                )
        except BaseException:
            producer.close()
            raise
        self._producer, self._publisher = producer, publisher
        self._ids = _schema_ids(settings)
        if settings.topic is not None:
            publisher.limit(settings.topic)

    def _properties(self, *, lingers: bool) -> dict[str, Any]:
        """`lingers`: a batch that was handed over is not flushed at once."""
        return {
            # Without it, each message would start a request of its own (twice the CPU). As long as a batch
            # takes to be handed over, or a little longer where flush ends the wait.
            "linger.ms": 3 if lingers else 5,
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
            return dict.fromkeys(range(len(events)), _no_topic())
        if not len(events):
            return {}
        values, headers = self._written(events)
        if self._ids is not None:
            prefixed = self._ids.prefixed(topic, values)
            if isinstance(prefixed, PenstockError):
                return dict.fromkeys(range(len(events)), prefixed)
            values = prefixed
        keys, failures = _wire_keys(events.keys)
        return self._send(Records(topic, values, keys, headers), failures)

    def deliver_records(self, records: Sequence[Record]) -> Mapping[int, PenstockError]:
        """Publish messages as they are to the module's own topic, and wait for each."""
        topic = self._settings.topic
        if topic is None:
            return dict.fromkeys(range(len(records)), _no_topic())
        if not records:
            return {}
        values = [each.value for each in records]
        texts = [each.key if isinstance(each.key, str) else None for each in records]
        wired, failures = _wire_keys(texts)
        keys = [
            each.key if isinstance(each.key, bytes) else key
            for each, key in zip(records, wired, strict=True)
        ]
        headers = [list(each.headers) for each in records]
        return self._send(Records(topic, values, keys, headers), failures)

    def _send(
        self, records: Records, failures: dict[int, PenstockError]
    ) -> Mapping[int, PenstockError]:
        """Publish the records but those that have failed already; return these and those that fail."""
        if self._transactions is not None:
            failures = self._transactions.deliver(records, failures)
        else:
            failures |= self._publish(records, failures)
        fatal = self._errors.fatal
        if fatal is not None:
            # What the client throws away when it stops is reported before why it stops.
            for index, failure in failures.items():
                if not isinstance(failure, PermanentError):
                    failures[index] = fatal
        return failures

    def _publish(
        self, records: Records, unwritten: Mapping[int, PenstockError]
    ) -> dict[int, PenstockError]:
        publisher = self._publisher
        assert publisher is not None, "deliver before open"  # noqa: S101
        failures = publisher.publish(records, unwritten)
        if publisher.refused_for_size and len(records) > 1:
            publisher.send_singly(records.topic)
            refused = sorted(publisher.refused_for_size)
            others = {k: error for k, error in failures.items() if k not in set(refused)}
            failures = others | publisher.publish(records, only=refused)
        return failures

    # --- from events to records ---------------------------------------------------------------

    def _written(self, events: Outgoing) -> tuple[Sequence[bytes | None], Sequence[Headers] | None]:
        publish_format = self._settings.publish_format
        if publish_format in {"json", "confluent_json"}:
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

    # --- transactions --------------------------------------------------------------------------

    def preflight_transactions(self, scope: TransactionScope) -> Iterable[Check]:
        """Look up the rights on the transactional id and the group."""
        return transacting(self._settings.brokers, self._options, scope)

    def committed(self, partitions: Iterable[str]) -> set[str]:
        """Return the names of the transactions that moved these source partitions last."""
        return self._within().committed(partitions)

    def commit(self, positions: Mapping[str, Position], name: str) -> None:
        """Commit what was delivered since the last commit, with the source's positions."""
        self._within().commit(positions, name)

    def _within(self) -> Transactions:
        assert self._transactions is not None, "opened without a scope"  # noqa: S101
        return self._transactions

    # --- the end -------------------------------------------------------------------------------

    def settled_state(self) -> None:
        """Keep nothing: Kafka has it."""

    def close(self) -> None:
        """Flush what an interrupted `deliver` left, for at most 3 s, and disconnect.

        A transaction that is open is aborted, so that it does not hold up its readers.
        """
        producer, self._producer = self._producer, None
        if producer is None:
            return
        assert self._publisher is not None  # noqa: S101 - it came with the producer
        if self._ids is not None:
            self._ids.close()
        if self._transactions is not None:
            self._transactions.close()
        if self._publisher.serve(producer.flush, 3.0) or len(producer):
            producer.purge()
            self._publisher.serve(producer.flush, 0.5)
        # After a fatal error it raises SystemError: it hears of the error, and returns a result too.
        with contextlib.suppress(KafkaException, SystemError):
            producer.close()


def _wire_keys(
    keys: Sequence[str | None],
) -> tuple[Sequence[str | bytes | None], dict[int, PenstockError]]:
    """Return the keys as librdkafka takes them, text as it is, `base64:…` as its bytes; and failures.

    One search through all of them tells whether there is anything to do.
    """
    failures: dict[int, PenstockError] = {}
    try:
        if b'"' + BASE64_KEY.encode() not in orjson.dumps(list(keys)):
            return keys, failures
    except orjson.JSONEncodeError:  # a lone surrogate
        pass
    wired: list[str | bytes | None] = []
    for index, key in enumerate(keys):
        try:
            wired.append(None if key is None else bytes_of_key(key))
        except UnicodeEncodeError:
            wired.append(None)
            failures[index] = PermanentError(
                "the event's key can't be written as UTF-8.",
                code="key_not_utf8",
                hint="It holds half of a surrogate pair; mend it where it comes from.",
            )
    return wired, failures


def _schema_ids(settings: KafkaSinkSettings | KafkaSettings) -> SchemaIds | None:
    """Return what asks a registry for the ids of schemas, where they are written."""
    if settings.publish_format != "confluent_json" or settings.schema_registry is None:
        return None
    from connectors.kafka.schema_ids import SchemaIds  # noqa: PLC0415 - an HTTP client

    return SchemaIds(settings.schema_registry)


def _schema_check(ids: SchemaIds, topic: str) -> Check:
    name = f"schema of {topic}"
    try:
        return Check(name, ok=True, found=f"id {ids.latest(topic)}")
    except (FatalError, RetryableError) as error:
        away = isinstance(error, RetryableError)
        return Check(name, ok=False, found=error.message, hint=error.hint, unreachable=away)


def _no_topic() -> FatalError:
    return FatalError(
        "the publish step names no topic, and the Kafka module has none.",
        code="kafka_no_topic",
        hint="Add `topic:` to the step's or the module's config.",
    )


def _seconds(options: Mapping[str, str], default: int) -> float:
    """Return the delivery timeout in seconds, by either of its names."""
    for name in ("delivery.timeout.ms", "message.timeout.ms"):
        if name in options:
            return float(options[name]) / 1000
    return default / 1000
