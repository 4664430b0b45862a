"""The Kafka source: preflight, and where each partition's reading begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import Consumer

from connectors.batch import Position
from connectors.contracts import (
    Check,
    Opening,
    Shard,
    SourceTraits,
    Survey,
    TransactionScope,
    Window,
)
from connectors.errors import FlowFileError
from connectors.kafka import preflight
from connectors.kafka.cluster import Cluster, connected_consumer, consumer_properties, log
from connectors.kafka.failures import ClientErrors, topic_missing
from connectors.kafka.positions import (
    Part,
    TopicChoice,
    Watermarks,
    begins_new,
    decode_position,
    encode_position,
    resume,
)
from connectors.kafka.reader import KafkaReader
from connectors.kafka.settings import KafkaSettings, KafkaSourceSettings, client_properties
from connectors.kafka.transactions import ahead
from connectors.kafka.watch import REFRESH, Watch
from connectors.kafka.windows import ranges, survey


class KafkaSource:
    """See `connectors.contracts.Source`."""

    traits = SourceTraits(ordered=True, replayable=True, seek_by_time=True, partitioned=True)

    def __init__(
        self,
        name: str,
        settings: KafkaSourceSettings | KafkaSettings,
        *,
        refresh: float = REFRESH,
    ) -> None:
        self._settings = settings
        self._refresh = refresh
        self._group = settings.group or f"penstock.{name}"
        self._choice = _choice(name, settings)

    def preflight(self) -> Iterable[Check]:
        """Check the brokers, each topic and the right to read it."""
        settings = self._settings
        return preflight.reading(
            settings.brokers, self._group, client_properties(settings.options), self._choice
        )

    def open(self, opening: Opening) -> KafkaReader:
        """Find this shard's partitions and read each from where it was left, or begins."""
        settings = self._settings
        brokers = ", ".join(settings.brokers)
        group = self._group if opening.transaction is None else opening.transaction.group
        bounded = opening.until_caught_up or opening.window is not None

        def connect(errors: ClientErrors, **more: Any) -> Consumer:
            options = client_properties(settings.options)
            properties = consumer_properties(settings.brokers, group, options, errors)
            return connected_consumer({**properties, **more})

        errors = ClientErrors(brokers)
        consumer = connect(errors, **{"enable.partition.eof": bounded})
        try:
            cluster = Cluster(consumer, errors, idle=True)
            if opening.window is None:
                plan = self._beginnings(cluster, opening)
            else:
                plan = self._bounds(cluster, opening, opening.window)
            watch = Watch(
                lambda errors, on_commit: connect(errors, on_commit=on_commit),
                errors,
                self._choice,
                opening.shard,
                plan.starts,
                look_for_new=not bounded,
                refresh=self._refresh,
            )
            reader = KafkaReader(
                consumer,
                errors,
                watch,
                starts=plan.starts,
                fresh=plan.fresh,
                ends=plan.ends if bounded else None,
                highs=plan.highs,
                read_format=settings.format,
                # Of a window, nothing may be left out that nobody was told of.
                on_offset_gone=settings.on_offset_gone if opening.window is None else "fail",
                window=opening.window,
            )
            watch.start()
        except BaseException:
            consumer.close()
            raise
        return reader

    def survey(self, window: Window) -> Survey:
        """Tell what a window holds; see `connectors.contracts.Surveying`."""
        settings = self._settings
        errors = ClientErrors(", ".join(settings.brokers))
        options = client_properties(settings.options)
        properties = consumer_properties(settings.brokers, self._group, options, errors)
        consumer = connected_consumer(properties)
        try:
            cluster = Cluster(consumer, errors, idle=True)
            return survey(consumer, cluster, self._marks(cluster, Shard()), window)
        finally:
            consumer.close()

    def _marks(self, cluster: Cluster, shard: Shard) -> dict[Part, Watermarks]:
        """Return the shard's partitions and what they hold."""
        found = cluster.parts(self._choice)
        if self._choice.names is None and not found:
            log.warning("kafka_no_topic_yet", pattern=str(self._choice))
        parts: list[Part] = []
        for topic, of_topic in found.items():
            if of_topic is None:
                raise topic_missing(topic)
            parts += of_topic
        return {part: cluster.watermarks(part) for part in self._choice.share(parts, shard)}

    def _bounds(self, cluster: Cluster, opening: Opening, window: Window) -> _Beginnings:
        """Return where the window begins and ends."""
        marks = self._marks(cluster, opening.shard)
        found = ranges(cluster, marks, window, opening.positions)
        return _Beginnings(
            {part: each.begin for part, each in found.items()},
            {p: each.begin for p, each in found.items() if p.name not in opening.positions},
            {part: each.end for part, each in found.items() if each.begin < each.end},
            {part: max(each) for part, each in found.items()},
        )

    def _beginnings(self, cluster: Cluster, opening: Opening) -> _Beginnings:
        marks = self._marks(cluster, opening.shard)
        own = list(marks)
        starts: dict[Part, int] = {}
        if opening.transaction is not None:
            starts = self._ahead(cluster, opening, opening.transaction, marks)
        for part in own:
            stored = opening.positions.get(part.name)
            if stored is not None and part not in starts:
                starts[part] = self._resumed(part, stored, marks[part])
        fresh = [part for part in own if part not in starts]
        fresh_starts = self._fresh(cluster, fresh, own, marks, opening)
        starts |= fresh_starts
        highs = {part: mark.high for part, mark in marks.items()}
        moved = {
            part: at
            for part, at in starts.items()
            if part in fresh_starts or at != int(opening.positions.get(part.name, "-1"))
        }
        ends = {part: high for part, high in highs.items() if starts[part] < high}
        return _Beginnings({part: starts[part] for part in own}, moved, ends, highs)

    def _resumed(self, part: Part, stored: Position, available: Watermarks) -> int:
        offset = decode_position(stored, part)
        resumption = resume(part, offset, available, self._settings.on_offset_gone)
        if resumption.moved:
            log.warning(
                "kafka_offset_gone", partition=part.name, gone=offset, next=resumption.offset
            )
        return resumption.offset

    def _ahead(
        self,
        cluster: Cluster,
        opening: Opening,
        scope: TransactionScope,
        marks: dict[Part, Watermarks],
    ) -> dict[Part, int]:
        """Return where partitions begin whose transactions are further than the state store."""
        found = ahead(cluster.committed(marks), opening.positions, scope.owner)
        for part, offset in found.items():
            log.warning(
                "kafka_ahead_of_state",
                partition=part.name,
                offset=offset,
                stored=opening.positions.get(part.name, "nothing"),
                hint="Reading goes on where the last transaction ended. What the state store lacks"
                " since then (history, dead letters) is lost with it.",
            )
        return {
            part: self._resumed(part, encode_position(offset), marks[part])
            for part, offset in found.items()
        }

    def _fresh(
        self,
        cluster: Cluster,
        fresh: list[Part],
        own: list[Part],
        marks: dict[Part, Watermarks],
        opening: Opening,
    ) -> dict[Part, int]:
        """Return where partitions begin that nothing is stored for."""
        start = self._settings.start
        added = {p for p in fresh if begins_new(p, own, opening.positions, self._choice)}
        begins = {part: marks[part].low for part in fresh}
        if start == "latest":
            begins |= {part: marks[part].high for part in fresh if part not in added}
        elif isinstance(start, float):
            asked = [part for part in fresh if part not in added]
            at = cluster.offsets_at(asked, start)
            begins |= {part: at.get(part, marks[part].high) for part in asked}
        return begins


class _Beginnings(NamedTuple):
    starts: dict[Part, int]
    fresh: dict[Part, int]
    """Those of `starts` that are not what is stored."""
    ends: dict[Part, int]
    """What is not caught up with, and where its end is now."""
    highs: dict[Part, int]


def _choice(name: str, settings: KafkaSourceSettings | KafkaSettings) -> TopicChoice:
    if settings.topics is None and settings.topics_regex is None:
        if settings.topic is None:
            raise FlowFileError(
                f"the Kafka module {name} is read from and names no topics.",
                code="kafka_no_topics",
                hint="Add `topics: […]` or `topics_regex: …` to its config.",
            )
        return TopicChoice([settings.topic], None)
    return TopicChoice(settings.topics, settings.topics_regex)
