"""What the API answers with, field by field. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from connectors.settings import Settings


class LagDocument(Settings):
    """How far reading is behind; null what the source does not know."""

    events: int | None
    """Events not read yet."""
    bytes: int | None
    """Bytes not read yet."""
    seconds: float | None
    """Age of the last event that was read."""


class FlowDocument(Settings):
    """The flow that this process runs."""

    name: str
    """Its name."""
    version: str
    """A hash of its modules, schemas and pipelines as they are written."""
    started_at: str
    """When `penstock run` was started."""
    penstock: str
    """The version of Penstock."""
    state: str
    """The state store, without its password."""
    ready: bool
    """Whether every worker runs; see /readyz."""
    sources: list[str]
    """Source modules."""
    sinks: list[str]
    """Sink modules."""
    pipelines: list[str]
    """Pipelines."""


class FlowsDocument(Settings):
    """The flows of this process: one."""

    flows: list[FlowDocument]
    """The flows."""


class CountsDocument(Settings):
    """Executions since `penstock run` was started, over restarts of its workers."""

    received: int
    """Started."""
    done: int
    """Went through."""
    failed: int
    """Became dead letters."""
    skipped: int
    """Left out, by `on_invalid: skip` or a step."""


class PipelineDocument(Settings):
    """One pipeline as it is now, by its workers' last reports."""

    name: str
    """Its name."""
    source: str | None
    """The source module that starts it; null for one that is started by nothing."""
    state: str
    """What its workers do, or what they wait for."""
    counts: CountsDocument
    """Executions since `penstock run` was started."""
    active: int
    """Executions that are in their steps."""
    parked: int
    """Executions that wait to be tried again, or behind one that does."""
    error_rate: float
    """Failed executions of the last five minutes, in percent."""
    lag: LagDocument
    """How far its source is behind."""


class PipelinesDocument(Settings):
    """All pipelines."""

    pipelines: list[PipelineDocument]
    """In the order of the flow file."""


class RetryDocument(Settings):
    """How often a step is tried."""

    max_attempts: int
    """Attempts in all."""
    backoff: str
    """How the delay grows."""
    initial_delay_seconds: float
    """Delay before the second attempt."""
    max_delay_seconds: float
    """Longest delay."""


class StepDocument(Settings):
    """One step of a pipeline, and what it did since `penstock run` was started."""

    name: str
    """Its place in the pipeline: `charge`, `lines.charge` for one inside another."""
    type: str
    """Its type, such as `step.http_call`."""
    use: str | None
    """The step module it uses."""
    acts: bool
    """Whether it changes something outside."""
    condition: str | None = Field(alias="if")
    """jq: the events it runs for."""
    skip_if: str | None
    """jq: the events it is passed over for."""
    on_error: str
    """What happens when it fails: `fail` or `skip`."""
    retry: RetryDocument | None
    """How often it is tried; null: once."""
    completed: int
    """Executions it went through for."""
    failed: int
    """Executions it gave up on."""
    skipped: int
    """Executions it was passed over for."""
    retries: int
    """Tries that were, or are to be, repeated."""
    error_rate: float
    """Its failures of the last five minutes, in percent."""


class PlanDocument(Settings):
    """What the flow file says of a pipeline."""

    event_type: str | None
    """Glob of the types that start it."""
    when: str | None
    """jq that must be true."""
    schema_: str | None = Field(alias="schema")
    """The schema that events must fit."""
    on_invalid: str
    """What becomes of those that don't."""
    order: str
    """What order is kept by."""
    key: str | None
    """jq for the key; null: the source's."""
    partition_by: str | None
    """jq for what it is spread over workers by."""
    steps: list[StepDocument]
    """Its steps, each followed by those inside it."""


class TotalsDocument(Settings):
    """What the state store says, since the flow was first run."""

    done: int
    """Executions that went through."""
    failed: int
    """Executions that became dead letters."""
    skipped: int
    """Executions that were left out."""
    dead_letters: int
    """Dead letters that there are now."""
    parked: int
    """Executions that wait now."""


class PipelineDetailDocument(PipelineDocument):
    """One pipeline with its plan, and its totals from the state store."""

    plan: PlanDocument
    """What the flow file says of it."""
    totals: TotalsDocument
    """Since the flow was first run."""


class PartitionDocument(Settings):
    """One partition of a source."""

    partition: str
    """Its name, as the source gives it."""
    position: str
    """The position after the last settled event."""
    stored_at: str
    """When that was stored."""
    lag: LagDocument
    """How far it was behind then."""


class WorkerDocument(Settings):
    """One worker process."""

    source: str
    """The source module it reads."""
    shard: int
    """Its number, from 0."""
    state: Literal["starting", "standby", "running", "draining", "stopped"]
    """What it does; `standby` waits to take over from another run of the flow."""
    status: str
    """What it waits for; empty when all is well."""
    trouble: str
    """Why it is not ready; empty when it is."""
    pid: int | None
    """Its process; null when none runs."""
    restarts: int
    """How often it was started again."""
    silent_seconds: float
    """Since its last report; they come twice a second."""
    stalled_seconds: float
    """Since the last checkpoint, while something waits for one; else 0."""
    memory_bytes: int | None
    """Memory it holds; null where the system doesn't tell."""
    cpu_seconds: float
    """CPU it used, those before it included."""


class WorkersDocument(Settings):
    """All workers."""

    workers: list[WorkerDocument]
    """By source, then shard."""


class SourceDocument(Settings):
    """One source module: where it stands, and its workers."""

    name: str
    """The module's name."""
    type: str
    """Its type, such as `source.kafka`."""
    pipelines: list[str]
    """The pipelines it starts."""
    status: str
    """What reading waits for; empty when all is well."""
    lag: LagDocument
    """How far it is behind, all partitions together, by its workers' last reports."""
    partitions: list[PartitionDocument]
    """Its partitions, from the state store."""
    workers: list[WorkerDocument]
    """Its workers."""


class SourcesDocument(Settings):
    """All sources that start a pipeline."""

    sources: list[SourceDocument]
    """In the order of the flow file."""


class ParkedErrorDocument(Settings):
    """The error of a parked execution's last try."""

    code: str
    """Its code; see the error reference."""
    message: str
    """What happened."""


class ParkedDocument(Settings):
    """An execution that waits."""

    id: str
    """The execution's id."""
    pipeline: str
    """Its pipeline."""
    source: str
    """The source module of its event."""
    partition: str
    """The source partition of its event."""
    key: str | None
    """What its order is kept by; null: nothing waits behind it."""
    step: str | None
    """The step it goes on with; null: the first."""
    attempts: int
    """Tries that this step has had; 0 for one that waits behind another execution."""
    due_at: str
    """When it goes on, at the earliest."""
    parked_at: str
    """When it was first set aside."""
    event_id: str
    """Its event's id."""
    event_type: str
    """Its event's type."""
    error: ParkedErrorDocument | None
    """Of its last try; null for one that only waits behind another."""


class ParkedPageDocument(Settings):
    """A page of parked executions, those that are due first first."""

    parked: list[ParkedDocument]
    """The executions."""
    cursor: str | None
    """Pass it on as `cursor` for the next page; null at the end."""


class ErrorDocument(Settings):
    """Why an execution failed."""

    code: str
    """Its code; see the error reference."""
    kind: str
    """`permanent`, `retryable`: whether it could have passed later."""
    message: str
    """What happened."""


class LetterDocument(Settings):
    """A dead letter: an event that failed for good."""

    id: str
    """The execution's id."""
    flow: str
    """Its flow."""
    pipeline: str
    """Its pipeline."""
    step: str | None
    """The step that failed; null: before the first."""
    event_id: str
    """The event's id."""
    event_type: str
    """The event's type."""
    tenant: str
    """The event's tenant."""
    error: ErrorDocument
    """Why it failed."""
    attempts: int
    """How often it was tried."""
    status: Literal["waiting", "replaying"]
    """Whether it waits for somebody, or is being replayed."""
    replays: int
    """How often it was replayed."""
    first_failed_at: str
    """When it failed for the first time."""
    last_failed_at: str
    """When it failed last."""


class LettersDocument(Settings):
    """A page of dead letters, newest failure first."""

    dead_letters: list[LetterDocument]
    """The entries."""
    cursor: str | None
    """Pass it on as `cursor` for the next page; null at the end."""


class FullErrorDocument(ErrorDocument):
    """Why an execution failed, with all that is known of it."""

    hint: str
    """What to do."""
    context: dict[str, Any]
    """What the error is about: URL, status, a stack."""


class TryDocument(Settings):
    """One try that failed."""

    at: str
    """When it failed."""
    step: str | None
    """The step; null: before the first."""
    code: str
    """The error's code."""
    message: str
    """What happened, shortened."""
    after: float | None = None
    """After how many seconds the next try was to begin; absent where none was."""


class CopyDocument(Settings):
    """A dead letter's copy that is not at its sink."""

    status: Literal["waiting", "refused"]
    """`waiting`: it is handed over as soon as the sink takes it. `refused`: the sink never will."""
    error_code: str
    """Why it was refused."""
    error_message: str
    """The same as a sentence."""


class LetterDetailDocument(LetterDocument):
    """All of a dead letter. What came as JSON is given digit for digit."""

    error: FullErrorDocument
    """Why it failed."""
    flow_version: str
    """The flow's version when it failed."""
    source: str
    """The source module of its event."""
    partition: str
    """The source partition."""
    position: str
    """The event's position in it."""
    key: str | None
    """The key that order is kept by."""
    replay: int | None
    """The number of the replay that has it; null for none."""
    event: dict[str, Any]
    """The CloudEvent."""
    change: dict[str, Any] | None
    """Of a row: operation, before, after."""
    outputs: dict[str, Any]
    """Of the steps that had run."""
    details: dict[str, Any] | None
    """Step → what it had beside its output, such as `status` and `headers`; null where none had."""
    begins_at: str | None
    """The step that its replays begin and end with, those before it being done; null: the first."""
    compensation: list[Any] | None
    """What its saga has undone, in that order; null where the pipeline has none."""
    tries: list[TryDocument]
    """The tries that failed, with their times; of many the first and the newest."""
    copy_: Annotated[CopyDocument | None, Field(alias="copy")]
    """What keeps its copy from the sink of dead letters; null where it is there, or none is named."""
    wire_base64: str | None
    """The bytes that arrived, where they could not be read."""


class DiscardedDocument(Settings):
    """What was discarded."""

    discarded: int
    """How many dead letters: one."""
    archive: str | None
    """The file on the flow's machine that has it now; null when it was purged."""


class GroupDocument(Settings):
    """Dead letters that failed at one step with one code."""

    flow: str
    """Their flow."""
    pipeline: str
    """Their pipeline."""
    step: str | None
    """The step that failed; null: before the first. The pass of a loop is left out of it."""
    error_code: str
    """Their error code."""
    count: int
    """How many there are."""
    trend: Literal["new", "growing", "steady", "quiet"]
    """How failures go."""
    first_failed_at: str
    """When they began, to a bar of the histogram."""
    last_failed_at: str
    """When the last of them failed."""
    histogram: list[int]
    """How many failed in each bar of time."""
    hint: str
    """What to do about the last of them."""
    sample: LetterDocument
    """The last of them."""


class StatisticsDocument(Settings):
    """Dead letters counted by where and how they failed."""

    total: int
    """How many there are in these groups."""
    start: str = Field(alias="from")
    """When the histograms begin."""
    bar_seconds: float
    """How long a bar of the histograms is."""
    complete: bool
    """Whether all dead letters were counted. With `where`, jq is asked about the newest failures for some
    seconds, and what it has not come to by then is left out."""
    groups: list[GroupDocument]
    """The groups, the likeliest cause first."""


class ReplayDocument(Settings):
    """A replay of dead letters. `total` is what it took; the rest says what became of them."""

    id: int
    """Its number."""
    flow: str
    """Its flow."""
    created_at: str
    """When it was asked for."""
    created_by: str
    """Who asked for it."""
    selection: dict[str, Any]
    """What was asked for."""
    edit: str | None
    """jq that each event's data went through."""
    rate: float | None
    """Executions per second at most."""
    from_step: bool
    """Whether each goes on at the step that failed."""
    status: Literal["selecting", "running", "done", "cancelling", "cancelled"]
    """How far it is."""
    total: int
    """Dead letters that it took."""
    done: int
    """Went through; they are no dead letters any more."""
    failed: int
    """Failed again."""
    skipped: int
    """Left out by the flow."""
    returned: int
    """Not run; they wait as before."""
    finished_at: str | None
    """When it was over."""


class StartedDocument(ReplayDocument):
    """An execution that was started by hand, with the replay that runs it."""

    execution_id: str
    """The execution's id, which is known before it runs."""
    repeated: bool
    """Whether its idempotency key had been used before: nothing was started now."""


class ReplaysDocument(Settings):
    """A page of replays, newest first."""

    replays: list[ReplayDocument]
    """The replays."""
    cursor: str | None
    """Pass it on as `cursor` for the next page; null at the end."""


class ReplayEntryDocument(Settings):
    """One dead letter of a replay."""

    dead_letter: str
    """Its id."""
    pipeline: str
    """Its pipeline."""
    event_id: str
    """Its event's id."""
    status: Literal["waiting", "running", "done", "failed", "skipped", "returned"]
    """What became of it."""
    execution: str | None
    """The id of the execution that replays it."""
    step: str | None
    """The step that failed."""
    error: ParkedErrorDocument | None
    """Why it failed, or was returned."""
    edited: Any
    """The data that was replayed; null where it was not edited."""
    original: dict[str, Any] | None
    """The CloudEvent before the edit."""
    ended_at: str | None
    """When it had an outcome."""


class ReplayEntriesDocument(Settings):
    """A page of a replay's dead letters, by their ids."""

    entries: list[ReplayEntryDocument]
    """The entries."""
    cursor: str | None
    """Pass it on as `cursor` for the next page; null at the end."""


class HealthDocument(Settings):
    """Whether the process lives."""

    status: Literal["ok"]
    """It does."""


class CheckDocument(Settings):
    """One thing that must be well."""

    name: str
    """What was looked at: `state`, or a worker as `source/shard`."""
    ok: bool
    """Whether it is well."""
    detail: str | None
    """What is wrong; null when nothing is, and for callers without a token where tokens are set."""


class ReadyDocument(Settings):
    """Whether every worker runs and the state store answers."""

    ready: bool
    """Whether all checks passed."""
    checks: list[CheckDocument]
    """What was looked at."""
