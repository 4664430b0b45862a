"""Transactions of the Kafka sink: events and the source's positions, all of them or none.

What was delivered since the last commit is kept. When Kafka gives a transaction up (a broker that
restarts, a record that it refuses, a timeout), it is aborted and made again from there: nobody above
has to know. What can't be made good is fatal: another producer has this one's name, and the events come
again in a new process.

A transaction is recognised afterwards by its name, which stands in the metadata of the offsets that it
committed: `penstock:<owner>:<name>@<topic id>`. So the offsets of a group that others use too are no
proof of anything, nor those of a topic that was made anew since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from connectors.batch import Position
from connectors.contracts import TransactionScope
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.kafka.cluster import (
    ANSWER_SECONDS,
    Cluster,
    connected_consumer,
    consumer_properties,
    log,
)
from connectors.kafka.failures import (
    ClientErrors,
    client_failed,
    client_stopped,
    transactions_stuck,
    transactions_unavailable,
)
from connectors.kafka.positions import Part, Place, decode_position, part_of_name
from connectors.kafka.publishing import Publisher, Records

_TRY_SECONDS = 2.0
"""How long one call to the client may block."""

_STUCK_SECONDS = 20.0
"""How long brokers may answer another client and not the producer, until it is given up."""


class _Aborted(Exception):  # noqa: N818 - an end of a transaction is no error of ours
    """The open transaction can only be aborted."""


class Transactions:
    """One transactional producer; opened, it has shut out any older one of its name."""

    def __init__(
        self,
        producer: Producer,
        publisher: Publisher,
        errors: ClientErrors,
        scope: TransactionScope,
        *,
        brokers: Sequence[str],
        options: Mapping[str, str],
    ) -> None:
        """Wait until what an older producer of this name left is committed or aborted.

        Raises FatalError.
        """
        self._producer = producer
        self._publisher = publisher
        self._errors = errors
        self._mark = mark_of(scope.owner)
        self._journal: list[tuple[Records, frozenset[int]]] = []
        """What the open transaction holds: records, without those places that failed."""
        self._open = False
        self._broken = False
        """The open transaction can only be aborted."""
        self._committing = False
        self._patience = ANSWER_SECONDS
        self._closing = False
        self._alone_since: float | None = None
        """Since when brokers are seen to answer another client, and not the producer."""
        # Positions of a pending transaction are waited for, since this client reads what is committed.
        self._consumer = connected_consumer(
            consumer_properties(list(brokers), scope.group, options, ClientErrors(""))
        )
        try:
            self._group = self._consumer.consumer_group_metadata()
            self._ask(producer.init_transactions)
        except RetryableError as error:
            self._consumer.close()
            raise FatalError(
                error.message, code="kafka_transaction", hint=error.hint, unreachable=True
            ) from error
        except BaseException:
            self._consumer.close()
            raise

    # --- events in ------------------------------------------------------------------------------

    def deliver(
        self, records: Records, unwritten: Mapping[int, PenstockError]
    ) -> dict[int, PenstockError]:
        """Put the records into the open transaction and wait for each; return what failed.

        `unwritten` have failed before. A record that the broker refuses costs the transaction, which is
        then made again without it.
        """
        failed = dict(unwritten)
        publisher = self._publisher
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._begin_in_time()
            except PenstockError as error:
                return self._all(records, failed, error)
            found = publisher.publish(records, failed)
            if not publisher.reported and all(map(_is_its_own, found.values())):
                failed |= found
                self._journal.append((records, frozenset(failed)))
                return failed
            self._broken = True
            if any(isinstance(error, FatalError) for error in found.values()):
                return failed | found
            if publisher.refused_with_others:
                publisher.send_singly(
                    records.topic
                )  # the batch was too large, perhaps no record is
                continue
            permanent = {k: e for k, e in found.items() if isinstance(e, PermanentError)}
            if not permanent and (not publisher.purged or time.monotonic() > deadline):
                return self._all(records, failed, next(iter(found.values())))
            failed |= permanent

    @staticmethod
    def _all(
        records: Records, failed: dict[int, PenstockError], error: PenstockError
    ) -> dict[int, PenstockError]:
        """Return that none of the records is in a transaction that can be committed."""
        return {**dict.fromkeys(range(len(records)), error), **failed}

    def _begin_in_time(self) -> None:
        """Begin, if it takes several tries. Raises RetryableError, FatalError.

        The first try after an abort may fail: where the broker never got some of the records, the
        sequence has a gap, which librdkafka only notices now.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._begin()
            except (_Aborted, RetryableError) as error:
                self._broken = True
                if time.monotonic() > deadline:
                    raise transactions_unavailable(str(error)) from error
                time.sleep(0.05)
            else:
                return

    def _begin(self) -> None:
        """Have an open transaction that holds what was delivered.

        Raises _Aborted, RetryableError, FatalError.
        """
        if self._broken:
            self._abort()
        if self._open:
            return
        self._ask(lambda _seconds: self._producer.begin_transaction())
        self._open = True
        for records, without in self._journal:
            found = self._publisher.publish(records, without)
            if found:
                self._broken = True
                raise _again_refused(next(iter(found.values())))

    def _abort(self) -> None:
        self._broken = True
        self._committing = False
        with contextlib.suppress(_Aborted):
            self._ask(self._producer.abort_transaction)
        self._open = self._broken = False

    # --- to the end -----------------------------------------------------------------------------

    def commit(self, positions: Mapping[str, Position], name: str) -> None:
        """Commit the open transaction with positions; see `TransactionalSink.commit`."""
        offsets = []
        for partition, position in positions.items():
            part = part_of_name(partition)
            place = decode_position(position, part)
            metadata = f"{self._mark}{name}"
            if place.topic_id:
                metadata += f"@{place.topic_id}"
            offsets.append(TopicPartition(part.topic, part.number, place.offset, metadata))
        deadline = time.monotonic() + self._patience
        while True:
            try:
                if not self._committing:
                    self._begin()
                    self._ask(
                        lambda seconds: self._producer.send_offsets_to_transaction(
                            offsets, self._group, seconds
                        )
                    )
                    self._committing = True
                self._ask(self._producer.commit_transaction)
            except _Aborted as error:
                log.warning("kafka_transaction_again", reason=str(error))
                self._abort()
                if name in self.committed(positions):
                    break  # its end was only not heard of
                if time.monotonic() > deadline:
                    raise transactions_unavailable(str(error)) from error
                time.sleep(0.05)
            else:
                break
        self._journal.clear()
        self._open = self._committing = False

    def committed(self, partitions: Iterable[str]) -> set[str]:
        """Return the names of the transactions that moved these source partitions last.

        Raises FatalError, RetryableError.
        """
        cluster = Cluster(self._consumer, ClientErrors(""), idle=True)
        found = cluster.committed(part_of_name(name) for name in partitions)
        marked = [metadata for _, metadata in found.values() if metadata.startswith(self._mark)]
        return {metadata.removeprefix(self._mark).partition("@")[0] for metadata in marked}

    def close(self) -> None:
        """Abort what is open, within some 5 s, and disconnect."""
        if self._open and self._errors.fatal is None:
            self._patience, self._closing = 3.0, True
            with contextlib.suppress(PenstockError):
                self._abort()
        self._consumer.close()

    # --- the client's answers ---------------------------------------------------------------------

    def _ask(self, call: Callable[[float], object]) -> None:
        """Call the client until it has done it.

        Raises _Aborted where the transaction must be, RetryableError when the time is over (the same call
        may be made again), FatalError.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                call(_TRY_SECONDS)
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if self._errors.fatal is not None:
                    raise self._errors.fatal from raised
                if error.txn_requires_abort():
                    raise _Aborted(error.str()) from raised
                if error.fatal() or not error.retriable():
                    self._errors.fatal = client_failed(error)
                    raise self._errors.fatal from raised
                if time.monotonic() > deadline:
                    if not self._closing:
                        self._give_up_if_left_alone(error)
                    raise transactions_unavailable(error.str()) from raised
            else:
                self._alone_since = None
                return

    def _give_up_if_left_alone(self, error: KafkaError) -> None:
        """Raise FatalError when brokers have answered another client for long, and not the producer.

        librdkafka then knows no broker any more and looks for none (measured with 2.16.0: a cluster that
        shuts down as a whole, and first says that it has no brokers). A new process can go on: it gets the
        lease first, so it shuts out nobody who has taken over meanwhile.
        """
        try:
            self._consumer.list_topics("__transaction_state", timeout=_TRY_SECONDS)
        except KafkaException:
            self._alone_since = None
            return
        now = time.monotonic()
        since = self._alone_since = self._alone_since or now
        if now - since >= _STUCK_SECONDS:
            raise transactions_stuck(now - since, error.str())


def mark_of(owner: str) -> str:
    """Return how the metadata begins of offsets that a flow's transactions have committed."""
    return f"penstock:{owner}:"


def ahead(
    committed: Mapping[Part, tuple[int, str]],
    stored: Mapping[str, Position],
    owner: str,
    ids: Mapping[Part, str],
) -> dict[Part, Place]:
    """Return the places of this owner's transactions that are further than what is stored.

    That is so when the state store was lost, or put back to an older state. `ids` are those of the
    topics that are there now: what was committed of them is further than what is stored of others.
    """
    mark = mark_of(owner)
    found = {}
    for part, (offset, metadata) in committed.items():
        if not metadata.startswith(mark):
            continue
        place = Place(offset, metadata.removeprefix(mark).partition("@")[2])
        known = stored.get(part.name)
        if known is None:
            found[part] = place
            continue
        before = decode_position(known, part)
        if before.is_elsewhere(place.topic_id):
            is_further = place.topic_id == ids.get(part)
        else:
            is_further = before.offset < offset
        if is_further:
            found[part] = place
    return found


def _is_its_own(error: PenstockError) -> bool:
    """Whether a record was not taken for a reason that concerns no other."""
    return isinstance(error, PermanentError)


def _again_refused(error: PenstockError) -> PenstockError:
    """Return what it means that a record is not taken when its transaction is made again."""
    if isinstance(error, PermanentError):
        return client_stopped(f"a record that it had taken before is refused: {error.message}")
    return error
