"""Hands copies of dead letters to the sink that their pipeline names (`dead_letter.sink`).

    letter + copy stored, one transaction ──► handed to the sink ──► confirmed ──► copy forgotten

So a copy is handed over at least once, whatever dies in between. It happens on a thread of its own, with a
sink and a connection of its own: a sink that is away holds nothing up but its copies, which wait in the
state store. What it refuses for good is kept there with the reason, out of the others' way, and tried once
more at the next start. Of all workers of a flow one hands over what a source's pipelines copy to one sink:
the one that has the lease for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from connectors.contracts import RecordSink, Sink, SinkOpening
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.failpoints import fail_point
from flows.runtime.backoff import Backoff
from flows.runtime.committer import LEASE_TTL
from flows.runtime.halt import Halt
from flows.runtime.letter_messages import events_of, record_of
from flows.state.contracts import StateStore
from flows.state.copies import CopiedLetter, read_copy
from flows.state.copy_store import RefusedCopy, WaitingCopy
from flows.state.records import Lease

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan

log = structlog.get_logger("penstock.worker")

IDLE = 1.0
"""Seconds between looks while nothing waits: one question to the state store, by an index."""

FIRST_DELAY, LONGEST_DELAY = 0.2, 15.0
"""Backoff in seconds while the sink, or the state store, is away."""

LINGER = 30.0
"""Seconds without a copy after which the sink is closed, and the lease given back."""

PATIENCE = 5.0
"""Seconds that a drain gives copies that still wait: the others are handed over after the next start."""

SLOW = 3.0
"""Seconds after which a sink that has not answered is said to be waited for."""

SINK_AWAY = "dead_letter_sink_away"
"""The code of a warning: no error's, for the flow goes on."""

COPY_REFUSED = "dead_letter_copy_refused"
"""Another one's."""


def writer_of(source: str, sink: str) -> str:
    """Return the name of the lease, and of the sink's state, of who hands copies to a sink."""
    return f"{source}/dead-letters/{sink}"


def copied_to(source: SourcePlan) -> dict[str, list[str]]:
    """Return sink → the pipelines of a source that copy their dead letters to it."""
    found: dict[str, list[str]] = {}
    for pipeline in source.pipelines:
        if pipeline.dead_letter.sink is not None:
            found.setdefault(pipeline.dead_letter.sink, []).append(pipeline.name)
    return found


def writers_of(plan: FlowPlan) -> set[str]:
    """Return the names of all who hand copies of this flow's dead letters over."""
    return {writer_of(source.name, sink) for source in plan.sources for sink in copied_to(source)}


class LetterCopying:
    """Hands the copies of some pipelines' dead letters to a sink, on its thread."""

    def __init__(
        self,
        flow: str,
        pipelines: Sequence[str],
        sink: str,
        *,
        writer: str,
        holder: str,
        make: Callable[[], Sink],
        opening: Callable[[Mapping[str, str]], SinkOpening],
        open_store: Callable[[], StateStore],
        halt: Halt,
        patient: bool = False,
    ) -> None:
        """`holder` names this worker; `opening` makes of the sink's state what it is opened with.

        `patient`: at the end, hand everything over that the sink takes, however long it takes.
        """
        self.sink = sink
        self._flow = flow
        self._pipelines = list(pipelines)
        self._writer = writer
        self._holder = holder
        self._make = make
        self._opening = opening
        self._open_store = open_store
        self._halt = halt
        self._patient = patient
        self._store: StateStore | None = None
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._open: Sink | None = None
        self._last_copy = 0.0
        self._asked_at: float | None = None
        self._away = ""
        self._is_tried_again = False
        self._backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        self._wake = threading.Event()
        self._closing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"copies to {sink}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def status(self) -> str:
        """Return "" when all is well, else what it waits for; from any thread."""
        asked_at = self._asked_at
        if not self._away and asked_at is not None and time.monotonic() - asked_at > SLOW:
            return f"copies of dead letters wait for {self.sink}: no answer yet"
        return self._away and f"copies of dead letters wait for {self.sink}: {self._away}"

    def close(self) -> None:
        """Hand over what waits, if that can be done soon, and stop. Call it when all is settled."""
        self._closing_since = time.monotonic()
        self._wake.set()
        if self._patient:
            while self._thread.is_alive() and not self.status:
                self._thread.join(0.1)
        self._thread.join(PATIENCE)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                closing = self._closing_since is not None
                try:
                    delay = self._look()
                except RetryableError:  # the state store: the committer says so, and waits too
                    delay = self._backoff.longer()
                except FatalError as error:
                    if error.code != "lease_lost":
                        raise
                    self._let_go()
                    delay = IDLE
                if closing and (delay or self._is_late()):
                    return
                if delay:
                    self._wake.wait(delay)
                    self._wake.clear()
        except PenstockError as error:
            self._halt.fail(error)
        except Exception:
            # The flow goes on, as it does while the sink is away; `status` says that copies don't.
            log.exception("copies of dead letters have stopped", flow=self._flow, sink=self.sink)
        finally:
            if self._closing_since is None and not self._halt.error:
                self._away = "a defect has stopped it; see the log"
            self._let_go(release=True)
            if self._store is not None:
                self._store.close()

    def _is_late(self) -> bool:
        since = self._closing_since
        return not self._patient and since is not None and time.monotonic() - since > PATIENCE

    def _look(self) -> float:
        """Hand over the next copies; return after how many seconds to look again, 0 for at once.

        Raises RetryableError and FatalError, of the state store alone.
        """
        store = self._store
        if store is None:
            store = self._store = self._open_store()
        if not self._is_tried_again:
            store.copies.try_refused_again(self._flow, self._pipelines)
            self._is_tried_again = True
        waiting = store.copies.waiting(self._flow, self._pipelines)
        if not waiting:
            self._rest(store)
            return IDLE
        if not self._has_lease(store):
            return IDLE
        self._last_copy = time.monotonic()
        fail_point("after_letter_before_copy")
        sink = self._opened(store)
        if sink is None or not self._hand_over(store, sink, waiting):
            return self._backoff.longer()
        self._backoff.reset()
        return 0.0

    def _rest(self, store: StateStore) -> None:
        """Keep the sink open while copies may be about to come, and let go of it later."""
        self._back()
        if self._lease is not None:
            if time.monotonic() - self._last_copy > LINGER:
                self._let_go(release=True)
            else:
                self._has_lease(store)

    def _has_lease(self, store: StateStore) -> bool:
        """Take the lease, or prolong it; False while another worker has it."""
        now = time.monotonic()
        if self._lease is None:
            self._lease = store.acquire_lease(self._flow, self._writer, self._holder, LEASE_TTL)
        elif now - self._renewed < LEASE_TTL / 3:
            return True
        elif not store.renew_lease(self._lease, LEASE_TTL):
            self._let_go()
        self._renewed = now
        return self._lease is not None

    def _opened(self, store: StateStore) -> Sink | None:
        """Return the sink, open; None while it can't be."""
        if self._open is not None:
            return self._open
        assert self._lease is not None  # noqa: S101 - nothing is handed over without
        known = store.sink_states(self._flow, self._writer)
        sink = self._make()
        self._asked_at = time.monotonic()
        try:
            sink.open(self._opening(known.get(self.sink, {})))
        except PenstockError as error:
            self._wait_for_sink(error)
            return None
        finally:
            self._asked_at = None
        self._open = sink
        state = sink.settled_state()
        if self.sink not in known and state is not None:
            store.save_sink_states(self._lease, {self.sink: state})
        return sink

    def _hand_over(self, store: StateStore, sink: Sink, waiting: Sequence[WaitingCopy]) -> bool:
        """Hand copies over and forget those that are confirmed; False when some have to wait."""
        readable, refused = _read(waiting)
        self._asked_at = time.monotonic()
        try:
            failures = _deliver(sink, readable)
        finally:
            self._asked_at = None
        fail_point("after_copy_before_forgotten")
        assert self._lease is not None  # noqa: S101 - nothing is handed over without
        confirmed: list[int] = []
        away: PenstockError | None = None
        for place, (copy, copied) in enumerate(readable):
            error = failures.get(place)
            if error is None:
                confirmed.append(copy.number)
            elif isinstance(error, PermanentError):
                refused[copy.number] = RefusedCopy(error.code, error.message)
                self._warn_of(copied, error)
            else:
                away = error
        store.copies.settle(self._lease, confirmed, refused, self.sink, sink.settled_state())
        if away is None:
            self._back()
            return True
        self._wait_for_sink(away)
        if isinstance(away, FatalError):
            self._close_sink()  # it may not work again as it is
        return False

    # --- telling ------------------------------------------------------------------------------

    def _warn_of(self, copied: CopiedLetter, error: PenstockError) -> None:
        letter = copied.letter
        log.warning(
            "a sink refused the copy of a dead letter",
            code=COPY_REFUSED,
            flow=self._flow,
            pipeline=letter.pipeline,
            sink=self.sink,
            dead_letter=letter.id,
            error=error.message,
            error_code=error.code,
            hint="The dead letter itself is kept. The copy is tried again at the next start.",
        )

    def _wait_for_sink(self, error: PenstockError) -> None:
        if not self._away:
            log.warning(
                "copies of dead letters wait for their sink",
                code=SINK_AWAY,
                flow=self._flow,
                sink=self.sink,
                error=error.message,
                error_code=error.code,
                hint=f"The flow goes on, and the copies are kept. {error.hint}".rstrip(),
            )
        self._away = error.message

    def _back(self) -> None:
        if self._away:
            log.info("copies of dead letters go on", flow=self._flow, sink=self.sink)
        self._away = ""

    # --- letting go ---------------------------------------------------------------------------

    def _let_go(self, *, release: bool = False) -> None:
        self._close_sink()
        lease, self._lease = self._lease, None
        if release and lease is not None and self._store is not None:
            with suppress(PenstockError):  # else it runs out by itself
                self._store.release_lease(lease)

    def _close_sink(self) -> None:
        sink, self._open = self._open, None
        if sink is not None:
            sink.close()


def _read(
    waiting: Sequence[WaitingCopy],
) -> tuple[list[tuple[WaitingCopy, CopiedLetter]], dict[int, RefusedCopy]]:
    """Return the copies with what they are made from, and by number those that can't be read."""
    readable: list[tuple[WaitingCopy, CopiedLetter]] = []
    refused: dict[int, RefusedCopy] = {}
    for copy in waiting:
        try:
            readable.append((copy, read_copy(copy.body)))
        except (KeyError, TypeError, ValueError) as error:
            what = f"what is stored of it can't be read: {type(error).__name__}: {error}"
            refused[copy.number] = RefusedCopy("dead_letter_copy_unreadable", what)
    return readable, refused


def _deliver(
    sink: Sink, copies: Sequence[tuple[WaitingCopy, CopiedLetter]]
) -> Mapping[int, PenstockError]:
    """Hand copies over; what the sink's code breaks at fails alone, so that it blocks no other."""
    if not copies:
        return {}
    try:
        if isinstance(sink, RecordSink):
            return sink.deliver_records([record_of(copied, copy.shard) for copy, copied in copies])
        return sink.deliver(events_of([copied for _, copied in copies]))
    except Exception as error:
        if len(copies) > 1:
            alone = [_deliver(sink, [each]) for each in copies]
            return {place: found[0] for place, found in enumerate(alone) if found}
        log.exception("a sink broke at the copy of a dead letter")
        said = f"the sink broke at it: {type(error).__name__}: {error}"
        return {0: PermanentError(said, code="dead_letter_sink_broke", hint="Please report it.")}
