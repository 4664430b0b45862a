"""The inbox of replays: a thread that takes what waits in the state store, for the intake to park.

It asks once a second whether any replay of the flow runs, by an index; while one does, it has the next
entries ready when those before are parked. Only what this worker's partitions have is taken. An entry
that can't be run here is returned with the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from connectors.errors import PenstockError, RetryableError
from connectors.threads import watched
from flows.plan import PipelinePlan
from flows.runtime.halt import Halt
from flows.state.contracts import StateStore
from flows.state.replay_outcomes import TRIGGER_REQUESTED
from flows.state.replays import Taken

IDLE, ACTIVE, SOON = 1.0, 0.1, 0.01
"""Seconds between looks: when there is nothing, while a replay runs, while a batch is stored."""

TOGETHER = 500
"""Entries taken at once."""

OUTSTANDING = 1000
"""Replays that are parked at once: a million of them must not fill what live events may wait in."""


HALF_UNDONE = "its saga is not undone to the end: see to it with `penstock saga retry` or `resolve`, then replay."
"""Why a dead letter is not run again: what of its first run still stands would be done twice."""


PARTLY_DONE = (
    "pipeline {} has a saga now, and could not undo what the execution did before: an event that it"
    " wrote into an outbox is all that is missing of it."
)
"""Why another is not: a part of an execution is no saga."""


class Stored(Protocol):
    """What the inbox needs of the committer."""

    @property
    def stored(self) -> int:
        """The ticket of the last batch that is durable."""


class ReplayInbox:
    """Takes entries on its thread; `take` and `parked` are the dataflow's."""

    def __init__(
        self,
        flow: str,
        source: str,
        pipelines: Mapping[str, PipelinePlan],
        *,
        clustered: Sequence[str],
        by: str,
        owns: Callable[[str], bool],
        open_store: Callable[[], StateStore],
        committer: Stored,
        halt: Halt,
        also: Callable[[StateStore], float] = lambda _store: IDLE,
    ) -> None:
        """`clustered` pipelines are spread over a cluster, which replays nothing.

        `by` names this worker; `owns` says whose partitions are this worker's. `also` looks for something
        else on the same thread, and returns the seconds until it looks again.
        """
        self._flow = flow
        self._source = source
        self._pipelines = pipelines
        self._clustered = clustered
        self._by = by
        self._owns = owns
        self._open_store = open_store
        self._committer = committer
        self._halt = halt
        self._also = also
        self._come: list[Taken] = []
        self._ticket = 0
        self._outstanding = 0
        self._wake = threading.Event()
        self._closing = False
        self.is_empty = False
        """Whether the last look found nothing, also nothing that is held back by a rate."""
        self._thread = threading.Thread(
            target=watched("the inbox of replays", self._run, halt.fail),
            name="replays",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def has_come(self) -> bool:
        """Whether entries are there to be parked."""
        return bool(self._come)

    def take(self) -> list[Taken]:
        """Return what has come; nothing more comes before `parked` is called."""
        return self._come

    def parked(self, ticket: int) -> None:
        """Tell that what was taken is durable once `ticket` is stored."""
        self._ticket = ticket
        self._come = []
        self._wake.set()

    def tell_outstanding(self, count: int) -> None:
        """Tell how many replays are parked just now."""
        self._outstanding = count

    def close(self) -> None:
        """Stop the thread. What it had taken and nobody parked is taken anew by who follows."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        store: StateStore | None = None
        released = False
        try:
            while not self._closing:
                delay = IDLE
                try:
                    if store is None:
                        store = self._open_store()
                    if not released:
                        store.replays.release(self._flow, self._source, self._owns)
                        released = True
                    delay = min(self._look(store), self._also(store))
                except RetryableError:
                    pass  # the committer says what is wrong with the state store, and waits too
                self._wake.wait(delay)
                self._wake.clear()
        except PenstockError as error:
            self._halt.fail(error)
        finally:
            if store is not None:
                store.close()

    def _look(self, store: StateStore) -> float:
        """Take what there is, unless the last is still on its way; return when to look again."""
        if self._come:
            return IDLE  # `parked` wakes us
        if self._committer.stored < self._ticket:
            return SOON
        if not store.replays.any_active(self._flow):
            self.is_empty = True
            return IDLE
        room = min(TOGETHER, OUTSTANDING - self._outstanding)
        if room <= 0:
            return ACTIVE
        taken = store.replays.take(self._flow, self._source, self._by, self._owns, room)
        half_undone = self._half_undone(store, taken)
        come: list[Taken] = []
        refused: dict[tuple[int, str, str], list[str]] = {}
        for each in taken:
            reason = self._refused(each, half_undone)
            if reason is None:
                come.append(each)
            else:
                refused.setdefault((each.replay, *reason), []).append(each.letter.id)
        for (replay, code, why), letters in refused.items():
            store.replays.give_back(replay, letters, code, why)
        self.is_empty = not taken and not store.replays.has_waiting(self._flow, self._source)
        self._come = come
        return IDLE if self.is_empty else ACTIVE

    def _half_undone(self, store: StateStore, taken: Sequence[Taken]) -> set[str]:
        """Return the dead letters whose sagas somebody has to see to first."""
        with_saga = {name for name, each in self._pipelines.items() if each.saga is not None}
        if not with_saga:
            return set()
        letters = [each.letter.id for each in taken if each.letter.pipeline in with_saga]
        return store.replays.half_undone(self._flow, letters)

    def _refused(self, taken: Taken, half_undone: Collection[str]) -> tuple[str, str] | None:
        """Return code and reason why it can't be replayed here; None when it can."""
        name = taken.letter.pipeline
        if taken.cancelled:
            return "replay_cancelled", "the replay was cancelled."
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            return "pipeline_gone", f"the source {self._source} no longer starts pipeline {name}."
        started = taken.letter.error_code == TRIGGER_REQUESTED
        if not pipeline.dead_letter.replayable and not started:
            return "not_replayable", f"pipeline {name} says dead_letter.replayable: false."
        if taken.from_step and pipeline.saga is not None:
            saga = f"pipeline {name} has a saga, which has undone the steps before the failed one"
            return "replay_from_step", f"{saga}: replay it from the first step."
        if taken.letter.begins_at is not None and pipeline.saga is not None:
            return "replay_from_step", PARTLY_DONE.format(name)
        if taken.letter.id in half_undone:
            return "saga_unfinished", HALF_UNDONE
        if name in self._clustered:
            spread = f"pipeline {name} is spread over a cluster by partition_by"
            return "replay_clustered", f"{spread}: replay it while the flow is stopped."
        return None
