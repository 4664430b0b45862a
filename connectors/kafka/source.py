"""The Kafka source: preflight, and where each partition's reading begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    Place,
    TopicChoice,
    Watermarks,
    begins_new,
    decode_position,
    encode_position,
)
from connectors.kafka.reader import KafkaReader, resumed
from connectors.kafka.settings import KafkaSettings, KafkaSourceSettings, client_properties
from connectors.kafka.topic_ids import TopicIds
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
        topic_ids = TopicIds(settings.brokers, client_properties(settings.options))
        try:
            cluster = Cluster(consumer, errors, idle=True)
            parts = self._parts(cluster, opening.shard)
            # The ids before the offsets: what is read of an id then holds for no older topic.
            found = topic_ids.of({part.topic for part in parts})
            ids = {part: found.get(part.topic, "") for part in parts}
            marks = {part: cluster.watermarks(part) for part in parts}
            if opening.window is None:
                plan = self._beginnings(cluster, opening, marks, ids)
            else:
                plan = _bounds(cluster, opening.positions, opening.window, marks, ids)
            watch = Watch(
                lambda errors, on_commit: connect(errors, on_commit=on_commit),
                errors,
                self._choice,
                opening.shard,
                {part: place.topic_id for part, place in plan.starts.items()},
                ids=topic_ids,
                look_for_new=not bounded,
                refresh=self._refresh,
            )
            reader = KafkaReader(
                consumer,
                errors,
                watch,
                topic_ids,
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
            topic_ids.close()
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
            marks = {p: cluster.watermarks(p) for p in self._parts(cluster, Shard())}
            return survey(consumer, cluster, marks, window)
        finally:
            consumer.close()

    def _parts(self, cluster: Cluster, shard: Shard) -> list[Part]:
        """Return the shard's partitions."""
        found = cluster.parts(self._choice)
        if self._choice.names is None and not found:
            log.warning("kafka_no_topic_yet", pattern=str(self._choice))
        parts: list[Part] = []
        for topic, of_topic in found.items():
            if of_topic is None:
                raise topic_missing(topic)
            parts += of_topic
        return self._choice.share(parts, shard)

    def _beginnings(
        self,
        cluster: Cluster,
        opening: Opening,
        marks: Mapping[Part, Watermarks],
        ids: Mapping[Part, str],
    ) -> _Beginnings:
        own = list(marks)
        stored = {
            part: decode_position(opening.positions[part.name], part)
            for part in own
            if part.name in opening.positions
        }
        if opening.transaction is not None:
            stored |= _ahead(cluster, opening.positions, opening.transaction, ids)
        starts = {
            part: resumed(part, place, marks[part], self._settings.on_offset_gone, ids[part])
            for part, place in stored.items()
        }
        fresh = [part for part in own if part not in starts]
        begins = self._fresh(cluster, fresh, own, marks, opening)
        starts |= {part: Place(offset, ids[part]) for part, offset in begins.items()}
        highs = {part: mark.high for part, mark in marks.items()}
        moved = {
            part: place
            for part, place in starts.items()
            if encode_position(*place) != opening.positions.get(part.name)
        }
        ends = {part: high for part, high in highs.items() if starts[part].offset < high}
        return _Beginnings({part: starts[part] for part in own}, moved, ends, highs)

    def _fresh(
        self,
        cluster: Cluster,
        fresh: list[Part],
        own: list[Part],
        marks: Mapping[Part, Watermarks],
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
    starts: dict[Part, Place]
    fresh: dict[Part, Place]
    """Those of `starts` that are not what is stored."""
    ends: dict[Part, int]
    """What is not caught up with, and where its end is now."""
    highs: dict[Part, int]


def _ahead(
    cluster: Cluster,
    positions: Mapping[str, Position],
    scope: TransactionScope,
    ids: Mapping[Part, str],
) -> dict[Part, Place]:
    """Return the places of partitions whose transactions are further than the state store."""
    found = ahead(cluster.committed(ids), positions, scope.owner, ids)
    for part, place in found.items():
        log.warning(
            "kafka_ahead_of_state",
            partition=part.name,
            offset=place.offset,
            stored=positions.get(part.name, "nothing"),
            hint="Reading goes on where the last transaction ended. What the state store lacks"
            " since then (history, dead letters) is lost with it.",
        )
    return found


def _bounds(
    cluster: Cluster,
    positions: Mapping[str, Position],
    window: Window,
    marks: Mapping[Part, Watermarks],
    ids: Mapping[Part, str],
) -> _Beginnings:
    """Return where the window begins and ends."""
    found = ranges(cluster, marks, window, positions, ids)
    starts = {part: Place(each.begin, ids[part]) for part, each in found.items()}
    return _Beginnings(
        starts,
        {part: place for part, place in starts.items() if part.name not in positions},
        {part: each.end for part, each in found.items() if each.begin < each.end},
        {part: max(each) for part, each in found.items()},
    )


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
