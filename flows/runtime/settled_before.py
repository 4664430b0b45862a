"""What processes of a cluster settled before a crash, and another number of them would be given again.

A process of a cluster settles what it was sent before the source's position is stored. Its own marks tell it
what comes again (`exchange.Marks`). Where the events are shared out otherwise after the crash, over more or
fewer processes, over one, or by another `partition_by`, nobody has those marks for its own. So whoever reads
looks at all there are: an event was settled if it is before the mark of the share that it was in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from connectors.batch import Position
from connectors.errors import FatalError
from flows.runtime.exchange import Marks, OpenMarks, share_of
from flows.state.marks import owner_name, share_of_owner
from transforms.executions import Ended, Executions
from transforms.expressions import Program, compile_jq

if TYPE_CHECKING:
    from flows.plan import PipelinePlan, SourcePlan
    from flows.runtime.build import Cluster
    from flows.state.contracts import StateStore

_SETTLED = Ended("not_triggered")
"""It is counted and recorded already."""


def share_name(pipeline: PipelinePlan, at: Cluster) -> str:
    """Return the name of a process's share of a pipeline; one that is not spread has one share.

    Which process that is goes by the partition, which is told beside it.
    """
    if not pipeline.partition_by:
        return f"0/1:{_key_of('')}"
    return f"{at.process}/{at.of}:{_key_of(pipeline.partition_by)}"


def _key_of(partition_by: str) -> str:
    return f"{crc32(partition_by.encode()):08x}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one share of a pipeline's events had settled."""

    marks: OpenMarks
    process: int = 0
    of: int = 1
    program: Program | None = None
    """What the events were shared out by; None: there was one share."""


class SettledBefore:
    """Ends the executions of a batch that were settled before; false when no more can come."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims = list(claims)

    def __bool__(self) -> bool:
        return bool(self._claims)

    def __call__(self, executions: Executions) -> None:
        """Look at all that come, in their order: a claim is dropped where the source has passed it."""
        events = executions.events
        partitions, positions = events.column("partition"), events.column("position")
        for claim in self._claims:
            claim.marks.forget_others(events.after)
            # Each is asked for, also one that has ended: it may be what the source has passed a mark with.
            before = [
                place
                for place, (partition, at) in enumerate(zip(partitions, positions, strict=True))
                if claim.marks.covering(partition, at) is not None
            ]
            going = [index for index in before if index not in executions.ended]
            for index in _settled(claim, executions, going):
                executions.end(index, _SETTLED)
        self._claims = [claim for claim in self._claims if claim.marks]


def _settled(claim: Claim, executions: Executions, before: list[int]) -> Iterable[int]:
    if claim.program is None or not before:
        return before
    values, errors = claim.program.column(executions, before)
    return [
        index
        for index, value in zip(before, values, strict=True)
        if index not in errors and share_of(value, claim.of) == claim.process
    ]


def settled_before(
    source: SourcePlan,
    found: Mapping[str, Mapping[str, Position]],
    at: Cluster,
    begins: Mapping[str, Position],
    formerly: Callable[[str], Iterable[str]],
) -> dict[str, SettledBefore]:
    """Return pipeline → what was settled of it before, of each of which anything was.

    `found`: owner → its marks. `formerly` returns what a pipeline's `partition_by` has been. Without what
    the processes of this cluster find by their own marks. Raises FatalError.
    """
    pipelines = {pipeline.name: pipeline for pipeline in source.pipelines}
    claims: dict[str, list[Claim]] = {}
    for owner, marks in found.items():
        name, share = share_of_owner(owner)
        open_marks = OpenMarks(marks, begins)
        pipeline = pipelines.get(name)
        if pipeline is None or not open_marks or _is_own(pipeline, share, at):
            continue
        part, _, key = share.partition(":")
        process, _, of = part.partition("/")
        program = None
        if int(of) > 1:
            program = _program(pipeline, key, formerly)
        claims.setdefault(name, []).append(Claim(open_marks, int(process), int(of), program))
    return {name: SettledBefore(each) for name, each in claims.items()}


def _is_own(pipeline: PipelinePlan, share: str, at: Cluster) -> bool:
    """Whether it is a share of this cluster, whose process leaves out itself what comes again."""
    if not pipeline.partition_by or not at.of:
        return False
    return share.partition("/")[2] == share_name(pipeline, at).partition("/")[2]


def _program(pipeline: PipelinePlan, key: str, formerly: Callable[[str], Iterable[str]]) -> Program:
    for text in (pipeline.partition_by or "", *formerly(pipeline.name)):
        if text and _key_of(text) == key:
            return compile_jq(text)
    raise FatalError(
        f"a worker of pipeline {pipeline.name} has crashed, and by what `partition_by` it shared events "
        "out is not known: what it had done would come twice.",
        code="partition_by_unknown",
        hint="Start once with `partition_by` and the number of workers as they were, stop, and change "
        "them then.",
        pipeline=pipeline.name,
    )


def marks_of(
    source: SourcePlan,
    found: Mapping[str, Mapping[str, Position]],
    at: Cluster,
    begins: Mapping[str, Position],
) -> dict[str, Marks]:
    """Return pipeline → how far this process of a cluster has settled its share; of one, nothing."""
    if not at.of:
        return {}
    owners = {
        pipeline.name: owner_name(source.name, pipeline.name, share_name(pipeline, at))
        for pipeline in source.pipelines
    }
    return {name: Marks(owner, found.get(owner, {}), begins) for name, owner in owners.items()}


def partitions_formerly(store: StateStore, flow: str) -> Callable[[str], Iterable[str]]:
    """Return what tells what a pipeline's `partition_by` was in the flow's former versions."""

    def formerly(pipeline: str) -> Iterable[str]:
        for document in store.chunks.versions(flow):
            text = document["pipelines"].get(pipeline, {}).get("partition_by")
            if text:
                yield text

    return formerly
