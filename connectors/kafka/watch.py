"""The reader's thread: looks for new partitions, and commits positions for lag tools.

Nothing here is on the events' road, and it has a client of its own. The reader's would not do: a
consumer lets one thread in at a time, and what it asks a broker waits behind a fetch that waits
for events (0.5 s). What is found is left in queues that the reader empties between two batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.contracts import Shard
from connectors.errors import FatalError
from connectors.kafka.cluster import Cluster, log
from connectors.kafka.failures import ClientErrors, topic_missing
from connectors.kafka.positions import Part, TopicChoice, part_of_name

TICK = 1.0
"""Seconds between commits."""

REFRESH = 30.0
"""Seconds between looks at the cluster's topics."""

WORRIED_REFRESH = 2.0
"""The same while no broker answers, or a topic seems to be gone."""

_PATIENCE = 1.0


class Watch:
    """Owns the thread and its client; `settle` and `close` are called by the reader.

    `connect` makes a client that reports to the errors and the function it is given. It is made
    when it is first needed. `reader_errors` is told when the cluster answers again.
    """

    def __init__(
        self,
        connect: Callable[[ClientErrors, Callable[..., None]], Consumer],
        reader_errors: ClientErrors,
        choice: TopicChoice,
        shard: Shard,
        known: Iterable[Part],
        *,
        look_for_new: bool,
        refresh: float = REFRESH,
    ) -> None:
        self._connect = connect
        self._reader_errors = reader_errors
        self._errors = ClientErrors("")
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
        self._client: Consumer | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-watch", daemon=True)
        self.arrived: deque[tuple[Part, int]] = deque()
        """Partitions that have come, each with its first offset."""
        self.departed: deque[Part] = deque()
        """Partitions of topics that are gone (with `topics_regex`; others are fatal)."""
        self.fatal: FatalError | None = None

    def owns(self, partition: str) -> bool:
        """Whether the partition, by its name, is of this shard."""
        return self._shard.takes(self._choice.turn(part_of_name(partition)))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def settle(self, offsets: Mapping[Part, int]) -> None:
        """Take positions that are settled; they are committed within `TICK`."""
        self._settled = {**self._settled, **offsets}

    def close(self) -> None:
        """Have what is left committed and stop; waits for it, but not for a cluster that is away."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(4 * _PATIENCE)

    def _run(self) -> None:
        try:
            looked = time.monotonic()
            while not self._stop.wait(min(TICK, self._refresh)):
                self._commit()
                worried = self._reader_errors.down or self._errors.down or bool(self._missed)
                pause = min(self._refresh, WORRIED_REFRESH) if worried else self._refresh
                if time.monotonic() >= looked + pause:
                    self._look()
                    looked = time.monotonic()
            self._commit()
        except FatalError as error:
            self.fatal = error
        finally:
            if self._client is not None:
                self._client.close()  # waits for commits that are on their way

    def _connected(self) -> Consumer:
        if self._client is None:
            self._client = self._connect(self._errors, self._on_commit)
        return self._client

    # --- positions, out -----------------------------------------------------------------------

    def _commit(self) -> None:
        if self._client is not None:
            self._client.poll(0)  # hears of errors and of commits' ends
        settled = self._settled
        if self._reader_errors.down or self._errors.down:
            return
        changed = [
            TopicPartition(*part, offset)
            for part, offset in settled.items()
            if self._committed.get(part) != offset
        ]
        if not changed:
            return
        try:
            self._connected().commit(offsets=changed, asynchronous=True)
        except KafkaException as error:
            log.debug("kafka_commit_failed", error=str(error))
        else:
            self._committed = settled

    def _on_commit(self, error: object, committed: list[TopicPartition]) -> None:
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

    # --- partitions, in -----------------------------------------------------------------------

    def _look(self) -> None:
        """Ask the cluster for its partitions; an answer also tells that it is there."""
        cluster = Cluster(self._connected(), self._errors, _PATIENCE, idle=True)
        try:
            parts = cluster.parts(self._choice)
            self._reader_errors.answered()
            if self._look_for_new:
                self._compare(cluster, parts)
        except FatalError as error:
            if not error.unreachable and not self._stop.is_set():
                self.fatal = error

    def _compare(self, cluster: Cluster, parts: Mapping[str, list[Part] | None]) -> None:
        missing = {name for name, found in parts.items() if found is None}
        for name in sorted(missing & self._missed):  # twice: it is no broker that just started
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
