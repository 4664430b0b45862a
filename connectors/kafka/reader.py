"""The Kafka reader: hands over what librdkafka has fetched, batch by batch.

librdkafka fetches on threads of its own into a bounded queue, keeps connections alive and mends
them. Partitions are assigned, not subscribed to: the group has no members and no rebalance.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag, Window
from connectors.errors import FatalError
from connectors.kafka.cluster import Cluster, log
from connectors.kafka.decoding import MESSAGE, Messages, batch_of, seconds_of
from connectors.kafka.failures import MISSING, ClientErrors, client_failed, reading_failed
from connectors.kafka.positions import (
    Part,
    Place,
    Watermarks,
    encode_position,
    offset_of,
    part_of_name,
    resume,
)
from connectors.kafka.topic_ids import TopicIds
from connectors.kafka.watch import Arrived, Departed, Identified, Recreated, Watch
from connectors.windows import within

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's local codes are named so
_OUT_OF_RANGE = {
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
    KafkaError._LOG_TRUNCATION,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
}

_HIGHS_SECONDS = 0.5

_BATCH_BYTES = 4 * 1024 * 1024
"""What a batch may weigh, judged by the one before: large messages come in smaller batches."""


def resumed(
    part: Part,
    place: Place,
    available: Watermarks,
    on_gone: Literal["fail", "earliest", "latest"],
    topic_id: str,
) -> Place:
    """Return where reading goes on, and log it if that is elsewhere; see `positions.resume`.

    A place whose topic's id is not known is in the topic of this one.
    """
    resumption = resume(part, place, available, on_gone, topic_id)
    if resumption.moved:
        log.warning(
            "kafka_offset_gone",
            partition=part.name,
            gone=place.offset,
            next=resumption.offset,
            recreated=place.is_elsewhere(topic_id),
        )
    return Place(resumption.offset, topic_id or place.topic_id)


class KafkaReader:
    """See `connectors.contracts.Reader`."""

    def __init__(
        self,
        consumer: Consumer,
        errors: ClientErrors,
        watch: Watch,
        ids: TopicIds,
        *,
        starts: Mapping[Part, Place],
        fresh: Mapping[Part, Place],
        ends: Mapping[Part, int] | None,
        highs: Mapping[Part, int],
        read_format: str,
        on_offset_gone: Literal["fail", "earliest", "latest"],
        window: Window | None = None,
    ) -> None:
        """Read each partition from its start; those of `fresh` are not what is stored.

        `window`: only its events are handed over, and nothing is committed to the group.
        """
        self._consumer = consumer
        self._errors = errors
        self._watch = watch
        self._ids = ids
        self._format = read_format
        self._on_offset_gone = on_offset_gone
        self._window = window
        self._fatal: FatalError | None = None
        self._starting = dict(fresh)
        """Where partitions begin elsewhere than is stored, or in a topic whose id is not: stored before
        their first event, so that a restart neither skips what came meanwhile nor takes them for new."""
        self._ends = None if ends is None else dict(ends)
        """What is not caught up with yet; None when there is no end."""
        self._next: dict[Part, int] = {part: place.offset for part, place in starts.items()}
        self._topic_ids = {part: place.topic_id for part, place in starts.items()}
        self._read_times: dict[Part, float | None] = {}
        self._highs = dict(highs)
        self._highs_due = 0.0
        self._told: set[int] = set()
        self._lost: list[Part] = []
        """Partitions whose next offset is gone: looked into once what came before is handed over."""
        self._most = 100
        self._only: Part | None = None
        self._names = {part: part.name for part in starts}
        self._closed = False
        self._assign({p: at.offset for p, at in starts.items() if ends is None or p in ends})

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what librdkafka has; see the contract."""
        if self._watch.news:
            self._take_news()
        while self._lost:
            self._find_again(self._lost.pop())
        if self._starting:
            after = {part.name: encode_position(*at) for part, at in self._starting.items()}
            self._starting = {}
            return Batch(0, {}, after=after)
        self._raise_what_is_fatal()
        if self._ends is not None and not self._ends:
            raise EndOfSource
        now = time.monotonic()
        if now >= self._highs_due:
            self._refresh_highs(now)
        messages = self._consume(min(limit, self._most), timeout)
        if not messages:
            self._raise_what_is_fatal()
            return None
        ended: dict[Part, int] = {}
        if any(map(MESSAGE.error, messages)):
            messages, ended = self._without_reports(messages)
        return self._batch(messages, ended)

    def _consume(self, limit: int, timeout: float) -> Messages:
        consume = self._consumer.consume
        try:
            messages: Messages = consume(limit, 0)
            if not messages and timeout > 0:
                # With a larger number consume would wait for that many, or for the timeout.
                messages = consume(1, timeout)
                if messages and limit > 1:
                    messages += consume(limit - 1, 0)
        except KafkaException as error:
            raise client_failed(error.args[0]) from error
        return messages

    def _batch(self, messages: Messages, ended: dict[Part, int]) -> Batch | None:
        last = self._last_of_each(messages)
        if self._ends is not None:
            messages = self._until_the_ends(messages, last, ended)
            last = self._last_of_each(messages)
        after: dict[str, Position] = {}
        for part, message in last.items():
            self._next[part] = offset = message.offset() + 1
            self._read_times[part] = seconds_of([message])[0]
            after[self._names[part]] = encode_position(offset, self._topic_ids[part])
        for part, offset in ended.items():
            self._next[part] = offset
            after[self._names[part]] = encode_position(offset, self._topic_ids[part])
        if self._ends is not None:
            self._leave_what_has_ended(self._ends)
        if not messages:
            return Batch(0, {}, after=after) if after else None
        batch = batch_of(messages, after, self._format)
        self._most = max(1, _BATCH_BYTES * batch.size // (batch.weight + 1))
        return batch if self._window is None else within(batch, self._window)

    def _last_of_each(self, messages: Messages) -> dict[Part, Any]:
        """Return each partition's last message, without a Python call per message."""
        if not messages:
            return {}
        if self._only is not None:
            return {self._only: messages[-1]}
        parts = zip(map(MESSAGE.topic, messages), map(MESSAGE.partition, messages), strict=True)
        found = dict(zip(parts, messages, strict=True))
        return {Part(*part): message for part, message in found.items()}

    # --- reports among the messages -----------------------------------------------------------

    def _without_reports(self, messages: Messages) -> tuple[Messages, dict[Part, int]]:
        """Return the real messages, and where partitions have reached their end."""
        kept: Messages = []
        ended: dict[Part, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                kept.append(message)
            elif error.code() == _EOF:
                # Past the last message may be marks of transactions: they have offsets too.
                ended[_part_of(message)] = message.offset()
            elif error.code() in _OUT_OF_RANGE:
                self._lost.append(_part_of(message))
            elif error.code() not in MISSING:  # the watch looks into a topic that is gone
                fatal = reading_failed(error, message.topic() or "")
                if fatal is not None:
                    self._fatal = fatal
                elif error.code() not in self._told:
                    self._told.add(error.code())
                    log.warning("kafka_read", error=error.str(), topic=message.topic())
        return kept, ended

    def _find_again(self, part: Part) -> None:
        """Go on elsewhere in a partition that has not the next offset any more."""
        if not self._reads(part):
            return
        try:
            # The id before the offsets: what is read of it then holds for no older topic.
            topic_id = self._ids.of([part.topic]).get(part.topic, "")
            available = Cluster(self._consumer, self._errors).watermarks(part)
        except FatalError as error:
            if error.unreachable:
                self._assign_anew(part, self._next[part])  # asks again
            else:
                self._fatal = error
            return
        self._watch.knows(part, topic_id)
        self._move(part, topic_id, available)

    def _move(self, part: Part, topic_id: str, available: Watermarks) -> None:
        """Do as `on_offset_gone` says where the next offset is gone, or is another topic's."""
        left = Place(self._next[part], self._topic_ids[part])
        try:
            place = resumed(part, left, available, self._on_offset_gone, topic_id)
        except FatalError as error:
            self._fatal = error
            return
        self._topic_ids[part] = place.topic_id
        self._highs[part] = available.high
        self._starting[part] = place
        self._assign_anew(part, place.offset)
        if self._ends is not None:
            end = self._ends[part] = min(self._ends[part], available.high)
            if place.offset >= end:
                self._leave_what_has_ended(self._ends)

    # --- partitions that come and go ----------------------------------------------------------

    def _take_news(self) -> None:
        news = self._watch.news
        while news:
            match news.popleft():
                case Departed(part):
                    if part in self._next:
                        self._leave(part)
                case Arrived(part, offset, topic_id):
                    self._topic_ids[part] = topic_id
                    self._assign({part: offset})
                    self._starting[part] = Place(offset, topic_id)
                case Recreated(part, topic_id, available):
                    if self._reads(part) and self._topic_ids[part] != topic_id:
                        self._move(part, topic_id, available)
                case Identified(part, topic_id):
                    if self._reads(part) and not self._topic_ids[part]:
                        self._topic_ids[part] = topic_id
                        self._starting[part] = Place(self._next[part], topic_id)

    def _reads(self, part: Part) -> bool:
        """Whether the partition is still read: it may have departed, or have ended."""
        return part in self._next and (self._ends is None or part in self._ends)

    def _assign(self, offsets: Mapping[Part, int]) -> None:
        self._names |= {part: part.name for part in offsets}
        self._next |= offsets
        if offsets:
            wanted = [TopicPartition(*part, offset) for part, offset in offsets.items()]
            self._consumer.incremental_assign(wanted)
        self._only = next(iter(self._next)) if len(self._next) == 1 else None

    def _assign_anew(self, part: Part, offset: int) -> None:
        self._leave(part)
        self._assign({part: offset})

    def _leave(self, part: Part) -> None:
        self._consumer.incremental_unassign([TopicPartition(*part)])
        del self._next[part]
        self._only = None

    def _until_the_ends(
        self, messages: Messages, last: Mapping[Part, Any], ended: dict[Part, int]
    ) -> Messages:
        """Return the messages before their partitions' ends; note in `ended` what is through.

        A partition is through at its end, not at the last report: what lies between is left.
        """
        ends = self._ends or {}
        over = {part for part, message in last.items() if message.offset() >= ends.get(part, 0)}
        for part in [*ended, *over]:
            if part not in ends:
                ended.pop(part, None)
            elif part in over or ended[part] > ends[part]:
                ended[part] = ends[part]
        if not over:
            return messages
        return [m for m in messages if m.offset() < ends.get(_part_of(m), 0)]

    def _leave_what_has_ended(self, ends: dict[Part, int]) -> None:
        """Stop reading partitions that are caught up with, whatever still comes into them."""
        for part in [part for part, end in ends.items() if self._next[part] >= end]:
            del ends[part]
            self._consumer.incremental_unassign([TopicPartition(*part)])

    def _raise_what_is_fatal(self) -> None:
        fatal = self._fatal or self._watch.fatal or self._errors.fatal
        if fatal is not None:
            raise fatal

    # --- beside the events --------------------------------------------------------------------

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have the positions committed to the group, for lag tools; never waits, never raises."""
        if self._window is None:
            self._watch.settle(
                {part_of_name(name): offset_of(at) for name, at in positions.items()}
            )

    def lag(self) -> dict[str, Lag]:
        """Return the messages between what was handed over and the partitions' ends."""
        now = time.time()
        found = {}
        for part, offset in self._next.copy().items():
            behind = max(0, self._highs.get(part, 0) - offset)
            read = self._read_times.get(part)
            seconds = 0.0 if behind == 0 else None if read is None else max(0.0, now - read)
            found[part.name] = Lag(events=behind, seconds=seconds)
        return found

    def _refresh_highs(self, now: float) -> None:
        """Take the partitions' ends, as the last fetches told them.

        Here and not in `lag`, which other threads call: a consumer lets one in at a time.
        """
        self._highs_due = now + _HIGHS_SECONDS
        for part in self._next:
            try:
                cached = self._consumer.get_watermark_offsets(TopicPartition(*part), cached=True)
            except KafkaException:
                continue
            if cached[1] >= 0:  # else nothing is fetched yet
                self._highs[part] = cached[1]

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this shard."""
        return self._watch.owns(partition)

    def status(self) -> str:
        """Return "" or one line on brokers that don't answer."""
        return self._errors.status()

    def close(self) -> None:
        """Stop the thread and the client."""
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._ids.close()
            self._consumer.close()


def _part_of(message: Any) -> Part:
    return Part(message.topic(), message.partition())
