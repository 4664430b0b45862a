"""The reader's thread: looks for new partitions and topics made anew, and commits positions for lag tools.

Nothing here is on the events' road, and it has a client of its own. The reader's would not do: a
consumer lets one thread in at a time, and what it asks a broker waits behind a fetch that waits
for events (0.5 s). What is found is left in queues that the reader empties between two batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.contracts import Shard
from connectors.errors import FatalError
from connectors.kafka.cluster import Cluster, log
from connectors.kafka.failures import ClientErrors, topic_missing
from connectors.kafka.positions import Part, TopicChoice, Watermarks, part_of_name
from connectors.kafka.topic_ids import TopicIds
from connectors.threads import watched

TICK = 1.0
"""Seconds between commits."""

REFRESH = 30.0
"""Seconds between looks at the cluster's topics."""

WORRIED_REFRESH = 2.0
"""The same while no broker answers, or a topic seems to be gone or just made."""

_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A partition has come, and begins at this offset."""

    part: Part
    offset: int
    topic_id: str


@dataclass(frozen=True, slots=True)
class Departed:
    """A partition's topic is gone (with `topics_regex`; any other that is gone is fatal)."""

    part: Part


@dataclass(frozen=True, slots=True)
class Recreated:
    """A partition's topic is another one by now, which holds this much."""

    part: Part
    topic_id: str
    available: Watermarks


@dataclass(frozen=True, slots=True)
class Identified:
    """The id of a partition's topic was not known, and is this one."""

    part: Part
    topic_id: str


class Watch:
    """Owns the thread and its client; `settle` and `close` are called by the reader.

    `connect` makes a client that reports to the errors and the function it is given. It is made
    when it is first needed. `reader_errors` is told when the cluster answers again. `known` are the
    reader's partitions, with the ids of their topics.
    """

    def __init__(
        self,
        connect: Callable[[ClientErrors, Callable[..., None]], Consumer],
        reader_errors: ClientErrors,
        choice: TopicChoice,
        shard: Shard,
        known: Mapping[Part, str],
        *,
        ids: TopicIds,
        look_for_new: bool,
        refresh: float = REFRESH,
    ) -> None:
        self._connect = connect
        self._reader_errors = reader_errors
        self._errors = ClientErrors("")
        self._choice = choice
        self._shard = shard
        self._known = dict(known)
        """The partitions that are read, each with the id of its topic; "" where that is not known."""
        self._past: set[str] = set()
        """Ids of topics that are no more: a broker that lags behind may still tell them."""
        self._ids = ids
        self._look_for_new = look_for_new
        self._refresh = refresh
        self._missed: set[str] = set()
        self._unsure = False
        self._settled: dict[Part, int] = {}
        self._committed: dict[Part, int] = {}
        self._commit_failed = False
        self._is_committing = False
        """Whether a commit is on its way. Of two, the older may come last, and would stand."""
        self._stop = threading.Event()
        self._client: Consumer | None = None
        self._thread = threading.Thread(
            target=watched("watching Kafka", self._run, self._fail), name="kafka-watch", daemon=True
        )
        self.news: deque[Arrived | Departed | Recreated | Identified] = deque()
        """What was found, in order; the reader takes it out."""
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

    def knows(self, part: Part, topic_id: str) -> None:
        """Take the id of a partition's topic, which the reader has found by itself."""
        known = self._known.get(part)
        if topic_id and known is not None and known != topic_id:
            self._past.add(known)
            self._known[part] = topic_id

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
                down = self._reader_errors.down or self._errors.down
                worried = down or bool(self._missed) or self._unsure
                pause = min(self._refresh, WORRIED_REFRESH) if worried else self._refresh
                if time.monotonic() >= looked + pause:
                    self._look()
                    looked = time.monotonic()
            self._commit_what_is_left()
        except FatalError as error:
            self._fail(error)
        finally:
            if self._client is not None:
                self._client.close()  # waits for commits that are on their way

    def _fail(self, error: FatalError) -> None:
        self.fatal = error

    def _connected(self) -> Consumer:
        if self._client is None:
            self._client = self._connect(self._errors, self._on_commit)
        return self._client

    # --- positions, out -----------------------------------------------------------------------

    def _commit_what_is_left(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._is_committing and self._client is not None and time.monotonic() < deadline:
            self._client.poll(0.05)
        self._commit()

    def _commit(self) -> None:
        if self._client is not None:
            self._client.poll(0)  # hears of errors and of commits' ends
        settled = self._settled
        if self._is_committing or self._reader_errors.down or self._errors.down:
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
            self._is_committing = True

    def _on_commit(self, error: object, committed: list[TopicPartition]) -> None:
        self._is_committing = False
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
            # The ids before the offsets: what is read of an id holds for no older topic.
            there = self._choice.share(
                (p for found in parts.values() for p in found or ()), self._shard
            )
            ids = self._ids.of({part.topic for part in there}, _PATIENCE)
            self._reader_errors.answered()
            self._identify(cluster, there, ids)
            if self._look_for_new:
                self._compare(cluster, parts, there, ids)
        except FatalError as error:
            if not error.unreachable and not self._stop.is_set():
                self.fatal = error

    def _identify(self, cluster: Cluster, there: list[Part], ids: Mapping[str, str]) -> None:
        """Find partitions that are of another topic than the one which was read."""
        self._unsure = False
        for part in there:
            topic_id, known = ids.get(part.topic, ""), self._known.get(part)
            if known is None or topic_id in ("", known) or topic_id in self._past:
                continue
            if known:
                try:
                    found = cluster.watermarks(part)
                except FatalError as error:
                    if error.code != "topic_missing":
                        raise
                    self._unsure = True  # it is being made, or deleted once more
                    continue
                self._past.add(known)
                self.news.append(Recreated(part, topic_id, found))
            else:
                self.news.append(Identified(part, topic_id))
            self._known[part] = topic_id

    def _compare(
        self,
        cluster: Cluster,
        parts: Mapping[str, list[Part] | None],
        there: list[Part],
        ids: Mapping[str, str],
    ) -> None:
        missing = {name for name, found in parts.items() if found is None}
        for name in sorted(missing & self._missed):  # twice: it is no broker that just started
            self.fatal = topic_missing(name)
        self._missed = missing
        for part in [part for part in there if part not in self._known]:
            low, _ = cluster.watermarks(part)
            topic_id = ids.get(part.topic, "")
            self._known[part] = topic_id
            self.news.append(Arrived(part, low, topic_id))
            log.info("kafka_partition_new", partition=part.name, offset=low)
        if self._choice.names is None:
            for part in sorted(p for p in self._known if p.topic not in parts):
                del self._known[part]
                self.news.append(Departed(part))
                log.warning("kafka_topic_gone", partition=part.name)
