"""Parking: which executions of a pipeline wait, behind whom, and until when. In memory, no bodies.

An execution whose step is to be tried again is set aside in the state store and resumed when it is
due. Order is kept by *lane*: the event's key (`order: key`) or its partition (`order: partition`).
While one of a lane waits, whatever comes later in that lane waits behind it, in order; other
lanes go on. What has no lane waits for itself alone.

Belongs to the dataflow's thread. Settle tells it what was parked and what has ended, in the same
turn in which it hands that to the committer, so the next batch already finds its lane blocked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from connectors.batch import Batch
from flows.state.records import Parked, ParkedPlace, ReplayLink
from flows.state.tries import NONE, with_try
from transforms.executions import Executions


class Parking:
    """What waits of one pipeline in this worker."""

    def __init__(self, last_turn: int = 0, *, one_by_one: bool = False) -> None:
        """`last_turn`: the greatest one in the state store.

        `one_by_one`: of a lane, one goes on only when the one before it has ended.
        """
        self._turn = last_turn
        self._one_by_one = one_by_one
        self._places: dict[str, ParkedPlace] = {}
        self._lanes: dict[str | None, deque[str]] = {}
        self._due: list[tuple[float, int, str]] = []
        self._running: set[str] = set()
        self._stored_with: dict[str, int] = {}
        self.replays = 0
        """How many of those that wait are replays of dead letters."""

    def __len__(self) -> int:
        return len(self._places)

    def has(self, execution: str) -> bool:
        """Whether the execution with this id waits here, or goes on just now after a wait."""
        return execution in self._places

    @property
    def blocked(self) -> Collection[str | None]:
        """The lanes whose executions have to wait behind another."""
        return self._lanes.keys()

    def next_turn(self) -> int:
        """Return the turn of an execution that is parked for the first time."""
        self._turn += 1
        return self._turn

    def take_over(self, place: ParkedPlace) -> None:
        """Add what the state store has, at the start, in the order of the turns."""
        self._add(place)

    def park(self, place: ParkedPlace, ticket: int) -> None:
        """Set an execution aside, or aside again; it is in the store once `ticket` is stored."""
        self._stored_with[place.id] = ticket
        self._running.discard(place.id)
        self._add(place)

    def all_stored(self) -> None:
        """Let all go on that is due: what was told so far is durable, whatever its ticket."""
        self._stored_with.clear()

    def _add(self, place: ParkedPlace) -> None:
        known = place.id in self._places
        self._places[place.id] = place
        if place.replay is not None and not known:
            self.replays += 1
        if place.lane is not None and not known:
            self._lanes.setdefault(place.lane, deque()).append(place.id)
        if self._is_head(place):
            heappush(self._due, (place.due_at, place.turn, place.id))

    def _is_head(self, place: ParkedPlace) -> bool:
        return place.lane is None or self._lanes[place.lane][0] == place.id

    def ended(self, execution: str) -> None:
        """Forget a parked execution that is through; the next of its lane is due."""
        place = self._places.pop(execution, None)
        if place is None:
            return
        self._running.discard(execution)
        self._stored_with.pop(execution, None)
        if place.replay is not None:
            self.replays -= 1
        if place.lane is None:
            return
        lane = self._lanes[place.lane]
        lane.remove(execution)
        if not lane:
            del self._lanes[place.lane]
            return
        head = self._places[lane[0]]
        if head.id not in self._running:
            heappush(self._due, (head.due_at, head.turn, head.id))

    def is_paused(self, execution: str) -> bool:
        """Whether an operator holds it."""
        return self._places[execution].paused_at is not None

    def held(self) -> int:
        """Return how many go on only when somebody resumes one: the paused, and those behind them."""
        count = 0
        for lane in self._lanes.values():
            paused = (n for n, each in enumerate(lane) if self.is_paused(each))
            count += len(lane) - next(paused, len(lane))
        alone = (place for place in self._places.values() if place.lane is None)
        return count + sum(place.paused_at is not None for place in alone)

    def behind(self, execution: str) -> str | None:
        """Return the execution whose end it waits for, the first of its lane; None: it is first."""
        place = self._places[execution]
        return None if self._is_head(place) else self._lanes[place.lane][0]

    def pause(self, execution: str, now: float, ticket: int) -> None:
        """Hold it, and its lane behind it, until it is let go on."""
        self._places[execution] = replace(self._places[execution], paused_at=now)
        self._stored_with[execution] = ticket

    def let_go_on(self, execution: str, ticket: int, due_at: float | None = None) -> None:
        """Hold it no longer; `due_at`: when it goes on, where that is not what it was."""
        place = self._places[execution]
        place = replace(place, paused_at=None, due_at=place.due_at if due_at is None else due_at)
        self._places[execution] = place
        self._stored_with[execution] = max(ticket, self._stored_with.get(execution, 0))
        if self._is_head(place) and execution not in self._running:
            heappush(self._due, (place.due_at, place.turn, execution))

    def pull(self, execution: str, stored: int) -> bool:
        """Take it out of its turn, to be ended; False while it can't be read yet."""
        if self._stored_with.get(execution, 0) > stored:
            return False
        self._running.add(execution)
        return True

    def due(self, now: float, stored: int, limit: int) -> list[str]:
        """Return what may go on now, at most `limit`, each lane's in order: they are running then.

        `stored`: the committer's last ticket that is durable. A lane's first execution goes alone
        while it has failed before; those behind it that never have go together.
        """
        found: list[str] = []
        unstored: list[tuple[float, int, str]] = []
        while self._due and self._due[0][0] <= now and len(found) < limit:
            entry = heappop(self._due)
            place = self._places.get(entry[2])
            if place is None or place.id in self._running or place.due_at != entry[0]:
                continue  # it has ended, or has been set aside again since
            if not self._is_head(place) or place.paused_at is not None:
                continue
            if self._stored_with.get(place.id, 0) > stored:
                unstored.append(entry)
                continue
            train = self._train(place, stored, limit - len(found))
            self._running.update(train)  # it may be among what is due once more
            found += train
        for entry in unstored:
            heappush(self._due, entry)
        return found

    def _train(self, head: ParkedPlace, stored: int, limit: int) -> list[str]:
        if head.lane is None or head.attempts or self._one_by_one:
            return [head.id]
        train: list[str] = []
        for each in self._lanes[head.lane]:
            unstored = self._stored_with.get(each, 0) > stored
            place = self._places[each]
            if len(train) == limit or place.attempts or unstored or place.paused_at is not None:
                break
            if each in self._running:
                break  # it is being ended out of its turn
            train.append(each)
        return train

    def put_back(self, ids: Iterable[str]) -> None:
        """Let what `due` gave wait again: it could not be resumed."""
        for each in ids:
            place = self._places[each]
            self._running.discard(each)
            if self._is_head(place):
                heappush(self._due, (place.due_at, place.turn, each))


def parked_record(
    executions: Executions,
    index: int,
    execution: str,
    *,
    events: Batch,
    place: int,
    source: str,
    steps: Sequence[str],
    now: float,
    turn: Callable[[], int],
    redact: Callable[[str], str],
    body: bytes,
) -> Parked:
    """Return what the state store keeps of an execution that a step has parked.

    `execution` is its id, and `place` where its event is in `events`. `steps` are the pipeline's, by
    number; `body` is of flows.state.bodies.encode_each. One that was parked before keeps its id,
    turn and time.
    """
    wait = executions.waits[index]
    before: Parked | None = executions.resumed.get(index)
    link: ReplayLink | None = executions.replays.get(index)
    lanes = executions.lanes
    parked = ParkedPlace(
        id=execution if before is None else before.place.id,
        pipeline=executions.pipeline,
        source=source,
        partition=events.column("partition")[place] or "",
        lane=None if lanes is None else lanes[index],
        turn=turn() if before is None else before.place.turn,
        attempts=wait.attempts,
        due_at=now + wait.seconds,
        replay=None if link is None else link.replay,
        paused_at=now if wait.paused else None,
    )
    tries = NONE if before is None else before.tries
    if wait.error is not None:
        tries = with_try(
            tries,
            at=now,
            step=steps[wait.step],
            code=wait.error.code,
            message=redact(wait.error.message),
            after=wait.seconds,
        )
    begun = wait.step > 0 or wait.attempts > 0
    return Parked(
        place=parked,
        step=steps[wait.step] if begun else None,
        # A replay that comes to be parked for the first time begins when it goes on.
        started_at=executions.started_at(index)
        if begun and (before is not None or link is None)
        else None,
        parked_at=now if before is None else before.parked_at,
        event_id=events.column("id")[place] or "",
        event_type=events.column("type")[place] or "",
        error_code=wait.error.code if wait.error else "",
        error_message=redact(wait.error.message) if wait.error else "",
        body=body,
        letter=None if link is None else link.letter,
        tries=tries,
    )
