"""The reader's thread: looks for new partitions, and commits positions for lag tools.

Nothing here is on the events' road. It talks to the cluster, waits for its answers, and leaves
what it finds in queues that the reader empties between two batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.contracts import Shard
from connectors.errors import FatalError
from connectors.kafka.cluster import Cluster, log
from connectors.kafka.failures import ClientErrors, topic_missing
from connectors.kafka.positions import Part, TopicChoice

TICK = 1.0
"""Seconds between commits."""

REFRESH = 30.0
"""Seconds between looks at the cluster's topics."""

AWAY_REFRESH = 2.0
"""The same while no broker answers, or a topic seems to be gone."""

_PATIENCE = 1.0


class Watch:
    """Owns the thread. `start` begins it, `close` ends it; all else is called by the reader."""

    def __init__(
        self,
        consumer: Consumer,
        errors: ClientErrors,
        choice: TopicChoice,
        shard: Shard,
        known: Iterable[Part],
        *,
        look_for_new: bool,
        refresh: float = REFRESH,
    ) -> None:
        self._consumer = consumer
        self._errors = errors
        self._choice = choice
        self._shard = shard
        self._known = set(known)
        self._look_for_new = look_for_new
        self._refresh = refresh
        self._missed: set[str] = set()
        self._settled: dict[Part, int] = {}
        self._committed: dict[Part, int] = {}
        self._commit_failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-watch", daemon=True)
        self.arrived: deque[tuple[Part, int]] = deque()
        """Partitions that have come, each with its first offset."""
        self.departed: deque[Part] = deque()
        """Partitions of topics that are gone (with `topics_regex`; others are fatal)."""
        self.fatal: FatalError | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and commit what is left; waits for it as long as it may ask."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(4 * _PATIENCE)
        self._commit()

    def settle(self, offsets: Mapping[Part, int]) -> None:
        """Take positions that are settled; they are committed within `TICK`."""
        self._settled = {**self._settled, **offsets}

    def on_commit(self, error: object, committed: list[TopicPartition]) -> None:
        """Hear of a commit's end (librdkafka calls this from within the reader's poll)."""
        failed = [str(p.error) for p in committed if p.error is not None]
        if error is None and not failed:
            self._commit_failed = False
            return
        self._committed = {}  # commit them again
        if not self._commit_failed:
            self._commit_failed = True
            log.warning(
                "kafka_commit_failed",
                error=str(error or failed[0]),
                hint="Lag tools see old positions. Nothing is lost: Penstock keeps its own.",
            )

    def _run(self) -> None:
        due = time.monotonic() + self._refresh
        while not self._stop.wait(min(TICK, self._refresh)):
            self._commit()
            worried = self._errors.down or bool(self._missed)
            now = time.monotonic()
            if now >= due or (worried and now >= due - self._refresh + AWAY_REFRESH):
                self._look()
                due = time.monotonic() + self._refresh

    def _commit(self) -> None:
        settled, committed = self._settled, self._committed
        if self._errors.down:
            return
        changed = [
            TopicPartition(*part, offset)
            for part, offset in settled.items()
            if committed.get(part) != offset
        ]
        if not changed:
            return
        try:
            self._consumer.commit(offsets=changed, asynchronous=True)
        except (KafkaException, RuntimeError) as error:
            log.debug("kafka_commit_failed", error=str(error))
        else:
            self._committed = settled

    def _look(self) -> None:
        """Ask the cluster for its partitions; an answer also tells that it is there."""
        cluster = Cluster(self._consumer, self._errors, _PATIENCE)
        try:
            parts = cluster.parts(self._choice)
            if self._look_for_new:
                self._compare(cluster, parts)
        except FatalError as error:
            if not error.unreachable:
                self.fatal = error

    def _compare(self, cluster: Cluster, parts: Mapping[str, list[Part] | None]) -> None:
        missing = {name for name, found in parts.items() if found is None}
        for name in sorted(missing & self._missed):  # twice: it is no leader election
            self.fatal = topic_missing(name)
        self._missed = missing
        there = [part for found in parts.values() for part in found or ()]
        for part in self._choice.share(set(there) - self._known, self._shard):
            low, _ = cluster.watermarks(part)
            self._known.add(part)
            self.arrived.append((part, low))
            log.info("kafka_partition_new", partition=part.name, offset=low)
        if self._choice.names is None:
            for part in sorted(p for p in self._known if p.topic not in parts):
                self._known.discard(part)
                self.departed.append(part)
                log.warning("kafka_topic_gone", partition=part.name)
