"""Reading Kafka by time: where a window begins and ends in each partition, and what it holds.

Kafka finds the first message whose timestamp is not before a time; but timestamps need not grow, and an
event may have a time of its own in its envelope. So reading begins and ends SLACK beyond the window, and
what lies outside of it is left out, event by event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.batch import Position
from connectors.contracts import Gap, Survey, Window
from connectors.kafka.cluster import Cluster
from connectors.kafka.decoding import seconds_of
from connectors.kafka.failures import client_failed
from connectors.kafka.positions import Part, Watermarks, decode_position, resume
from connectors.windows import SLACK, shown

_PATIENCE = 10.0


class Range(NamedTuple):
    """The offsets of a partition that a window is read from: `begin` to before `end`."""

    begin: int
    end: int


def ranges(
    cluster: Cluster,
    marks: Mapping[Part, Watermarks],
    window: Window,
    positions: Mapping[str, Position],
    ids: Mapping[Part, str],
) -> dict[Part, Range]:
    """Return what is read of each partition, behind where it was left; `ids` are their topics'.

    Raises FatalError `offset_gone` when that is not there any more: what was to come next is lost.
    """
    begins = offsets_at(cluster, marks, window.since / 1000 - SLACK)
    ends = offsets_at(cluster, marks, window.until / 1000 + SLACK)
    found = {}
    for part, mark in marks.items():
        begin, end = begins[part], ends[part]
        stored = positions.get(part.name)
        if stored is not None:
            place, topic_id = decode_position(stored, part), ids.get(part, "")
            begin = place.offset
            if begin < end or place.is_elsewhere(topic_id):
                begin = resume(part, place, mark, "fail", topic_id).offset
        found[part] = Range(begin, end)
    return found


def offsets_at(
    cluster: Cluster, marks: Mapping[Part, Watermarks], seconds: float
) -> dict[Part, int]:
    """Return the first offset of each partition that is not before a time; its end if none is."""
    found = cluster.offsets_at(marks, max(0.0, seconds))
    return {part: min(found.get(part, mark.high), mark.high) for part, mark in marks.items()}


def survey(
    consumer: Consumer, cluster: Cluster, marks: Mapping[Part, Watermarks], window: Window
) -> Survey:
    """Tell what a window holds by its offsets; marks and compacted messages are counted, too."""
    begins = offsets_at(cluster, marks, window.since / 1000)
    ends = offsets_at(cluster, marks, window.until / 1000)
    return Survey(
        events=sum(max(0, ends[part] - begins[part]) for part in marks),
        bytes=None,
        first=None,
        last=None,
        gaps=tuple(_gaps(consumer, marks, begins, window)),
    )


def _gaps(
    consumer: Consumer,
    marks: Mapping[Part, Watermarks],
    begins: Mapping[Part, int],
    window: Window,
) -> Iterator[Gap]:
    """Yield what was deleted of the window, by retention or by hand, partition by partition."""
    shortened = [part for part, mark in marks.items() if mark.low > 0 and begins[part] <= mark.low]
    firsts = _first_times(consumer, {part: marks[part] for part in shortened})
    for part in shortened:
        first = firsts[part]
        until = window.until if first is None else min(window.until, int(first * 1000))
        if until > window.since:
            left = "nothing is left of it" if first is None else f"it begins at {shown(first)}"
            reason = f"{part.name}: {marks[part].low:,} offsets were deleted by retention, {left}"
            yield Gap(window.since, until, reason)


def _first_times(consumer: Consumer, marks: Mapping[Part, Watermarks]) -> dict[Part, float | None]:
    """Return the time of the first message that each partition still has; None where it has none."""
    found: dict[Part, float | None] = {}
    for part, mark in marks.items():
        found[part] = None
        if mark.low < mark.high:
            found[part] = _first_time(consumer, part, mark.low)
    return found


def _first_time(consumer: Consumer, part: Part, low: int) -> float | None:
    try:
        consumer.assign([TopicPartition(*part, low)])
        messages = [m for m in consumer.consume(1, _PATIENCE) if m.error() is None]
        consumer.unassign()
    except KafkaException as error:
        raise client_failed(error.args[0]) from error
    return seconds_of(messages)[0] if messages else None
