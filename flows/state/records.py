"""What the state store keeps, as plain records. Times are seconds since the epoch (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from connectors.batch import Position
from flows.state.sagas import Saga

DEFAULT_TENANT = "default"
"""Whose an event is that says nothing of it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that failed, with all that is needed to see why and to try again.

    `id` is the execution's id, so the same failure settled twice is one entry.
    `event` is the CloudEvent in JSON (structured mode); `wire` the bytes that arrived where they
    did not decode; `outputs` the JSON object of step outputs so far; `context` a JSON object.
    `change` is the JSON object of a row's change (operation, before, after): what the CloudEvent
    has no place for and a replay must show to the steps again.
    """

    id: str
    flow: str
    flow_version: str
    pipeline: str
    step: str | None
    source: str
    partition: str
    position: Position
    event_id: str
    event_type: str
    tenant: str
    error_code: str
    error_kind: str
    error_message: str
    error_hint: str
    context: str
    event: str
    wire: bytes | None
    outputs: str
    attempts: int
    first_failed_at: float
    last_failed_at: float
    change: str | None = None
    key: str | None = None
    """The source's partition key."""
    status: str = "waiting"
    """`waiting`, or `replaying`: a replay has it, and nobody else's takes it."""
    replays: int = 0
    """How often it was replayed and stayed."""
    replay: int | None = None
    """The replay that has it."""
    compensation: str | None = None
    """JSON list of what its saga has undone, in that order; None where it has none."""
    tries: str = "[]"
    """JSON list of its failed tries, each `{at, step, code, message, after}`: flows.state.tries."""
    details: str | None = None
    """JSON object: step → what it had beside its output (`status`, `headers`); None where none had."""
    begins_at: str | None = None
    """The step that each replay of it begins and ends with, whatever is asked for: its execution is
    done but for an event that left an outbox and was refused. None: the first step."""


@dataclass(frozen=True, slots=True)
class LetterCopy:
    """A copy of a dead letter that is to go to the sink its pipeline names."""

    letter: str
    """Its id."""
    pipeline: str
    failed_at: float
    body: bytes
    """Of flows.state.copies."""


@dataclass(frozen=True, slots=True)
class HistoryChunk:
    """The executions of one settled batch in one pipeline, compressed (see flows.state.history)."""

    flow: str
    flow_version: str
    pipeline: str
    source: str
    first_time: float
    last_time: float
    recorded_at: float
    count: int
    failed: int
    body: bytes
    skipped: int | None = None
    errors: str | None = None
    """Codes of the failed ones' errors, a line each; None: not known."""
    types: str | None = None
    """Types of the events, a line each; None: not known."""


@dataclass(frozen=True, slots=True)
class ArchiveChunk:
    """The events of one batch as their source handed them over (see flows.state.archive_bodies)."""

    source: str
    first_time: float
    last_time: float
    archived_at: float
    count: int
    partitions: str
    """JSON list of the source partitions."""
    types: str | None
    """Types of the events, a line each; None: too many to tell."""
    digest: bytes
    """Of the body and of all that chunks are chosen by."""
    body: bytes
    first_id: int | None = None
    """The first of the chunks that it was put together of; None for one of a single batch."""


@dataclass(frozen=True, slots=True)
class ParkedPlace:
    """Where a parked execution waits: all that must be in memory to know when its turn comes."""

    id: str
    """The execution's id."""
    pipeline: str
    source: str
    """The source module."""
    partition: str
    lane: str | None
    """What order is kept in: executions of a lane go on one after another; None: on its own."""
    turn: int
    """Order of arrival; grows within a lane."""
    attempts: int
    """Tries that its step has had; 0 for one that only waits behind another."""
    due_at: float
    replay: int | None = None
    """The replay that it is an execution of."""
    paused_at: float | None = None
    """Since when an operator holds it; None: nobody does."""


@dataclass(frozen=True, slots=True)
class Parked:
    """An execution set aside until a time: all it needs to go on, and why it waits."""

    place: ParkedPlace
    step: str | None
    """The step it goes on with; None: the first."""
    parked_at: float
    """When it was first set aside."""
    event_id: str
    event_type: str
    error_code: str
    """Of its last try; "" for one that only waits behind another."""
    error_message: str
    body: bytes
    """The execution so far: flows.state.history."""
    letter: str | None = None
    """The dead letter that is being replayed."""
    tries: str = "[]"
    """JSON list of the tries so far: flows.state.tries."""
    started_at: float | None = None
    """When its first step was first tried; None: it was not yet."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Executions of one pipeline that ended in a settlement; added to the stored totals."""

    done: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class ReplayLink:
    """The dead letter that an execution replays."""

    replay: int
    letter: str
    taken_by: str | None = None
    """Who has taken it out of the inbox; None once it is parked."""

    def run_of(self, execution: str) -> str:
        """Return what makes the ids of this replay's executions their own.

        `execution`: the id that the event's execution has without a replay. It may have several dead
        letters, of what it wrote into an outbox; then each replays as an execution of its own.
        """
        run = f"replay-{self.replay}"
        return run if execution == self.letter else f"{run}/{self.letter}"


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a dead letter's replay has come: `running` once its execution is parked."""

    replay: int
    letter: str
    outcome: Literal["running", "done", "failed", "skipped", "returned"]
    """`returned`: it was not run, and waits as before."""
    taken_by: str | None = None
    """Who has taken it out of the inbox; None where it was running already."""
    execution: str = ""
    step: str | None = None
    error_code: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish to be the one execution that acts for an idempotency key."""

    digest: bytes
    """16 bytes: the hash of the key and of what it is a key of (pipeline and tenant, or step)."""
    scope: str
    """What it is a key of, for people: `orders` or `orders/charge`."""
    holder: str
    """The execution's id; the same one may claim again."""
    fingerprint: bytes = b""
    """The hash of the event's data; empty where nobody compares it."""
    key: str | None = None
    """Its text and its tenant, for people; the state store shows them."""
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A key that a claim did not get: it is done, or another execution has it just now."""

    holder: str
    fingerprint: bytes
    done: bool
    result: str | None = None
    """What came of it, as JSON; None where that has no output."""


@dataclass(frozen=True, slots=True)
class KeyOutcome:
    """What becomes of a key that is held, `seconds` from now its end.

    `done`: it is remembered with its result. `held`: its execution waits, and keeps it.
    `released`: anybody may have it. `forgotten`: so may one that its holder had done; what it did was
    taken back.
    """

    claim: Claim
    outcome: Literal["done", "held", "released", "forgotten"]
    seconds: float = 0.0
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a pipeline made of an event whose sender waits for it."""

    source: str
    number: int
    """Of the event in its source's inbox."""
    pipeline: str
    outcome: Literal["done", "failed", "skipped"]
    answer: str | None = None
    """JSON: status, headers and body, where a step says what is answered."""


@dataclass(frozen=True, slots=True)
class SignalOutcome:
    """What became of an operator's signal; what it changes of a parked execution is written with it."""

    number: int
    pipeline: str
    execution: str
    status: Literal["applied", "refused"]
    note: str
    """Where it took effect, or why it did not."""
    change: Literal["paused", "resumed"] | None = None
    """Of the parked execution's row."""
    at: float = 0.0


@dataclass(slots=True)
class Settlement:
    """One batch's outcome in one pipeline: stored in one transaction, or not at all."""

    pipeline: str
    counts: Counts
    dead_letters: list[DeadLetter] = field(default_factory=list)
    history: HistoryChunk | None = None
    sink_states: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Sink module → what the sink keeps beside the checkpoint."""
    parked: list[Parked] = field(default_factory=list)
    """Set aside, or set aside again."""
    resumed: list[str] = field(default_factory=list)
    """Ids of parked executions that have ended."""
    replayed: list[Replayed] = field(default_factory=list)
    """What became of dead letters that are being replayed. One that failed again is among
    `dead_letters`, with the replay's number."""
    sagas: list[Saga] = field(default_factory=list)
    """Sagas that have failed, and what came of it; their dead letters tell it too."""
    sagas_completed: list[str] = field(default_factory=list)
    """Ids of sagas that are done: they are forgotten."""
    keys: list[KeyOutcome] = field(default_factory=list)
    """What becomes of idempotency keys that the state store keeps."""
    keys_elsewhere: list[KeyOutcome] = field(default_factory=list)
    """What becomes of those that another store keeps: it is told when this is stored, and what it is
    to be told is noted here until then."""
    copies: list[LetterCopy] = field(default_factory=list)
    """Copies of `dead_letters` that are to go to a sink."""
    archived: list[ArchiveChunk] = field(default_factory=list)
    """The events themselves, where the source has an archive: all of the batch, whatever pipelines
    took of it. One of the batch's settlements has them."""
    answers: list[Answered] = field(default_factory=list)
    """What came of events whose senders wait for it."""
    signals: list[SignalOutcome] = field(default_factory=list)
    """What became of operators' signals."""
    history_pieces: list[bytes] = field(default_factory=list)
    """What the body of `history` is made of, by `flows.state.history.compress_history`; empty once it is."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one flow's shard: `fence` grows with each new holder."""

    flow: str
    shard: str
    holder: str
    fence: int
    taken_from: str = ""
    """Another holder, whose time ran out: its process may still be there, and not know yet. Known until
    `forget_former_holder`, also by who starts anew or comes next."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One row of `penstock state show`."""

    source: str
    partition: str
    position: Position
    updated_at: float
    lag_events: int | None
    lag_bytes: int | None
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class PipelineTotals:
    """Counts of a pipeline since its flow was first run, and its dead letters of now."""

    pipeline: str
    done: int
    failed: int
    skipped: int
    dead_letters: int
    parked: int = 0
