"""Opens what hands copies of dead letters to sinks, in the worker that does it for its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from connectors.contracts import SinkOpening
from flows.runtime.assemble import sinks_of
from flows.runtime.copying import LetterCopying, copied_to, writer_of
from flows.runtime.halt import Halt
from flows.runtime.sinks import evaluator, make_sink, renderer
from flows.state.contracts import StateStore

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan


def open_copying(
    plan: FlowPlan,
    source: SourcePlan,
    *,
    holder: str,
    open_store: Callable[[], StateStore],
    halt: Halt,
    patient: bool,
    opened: ExitStack,
) -> list[LetterCopying]:
    """Start one for each sink that the source's pipelines copy their dead letters to.

    `opened` ends them: after everything is settled, for they hand over what waits then.
    """
    found = []
    for sink, pipelines in copied_to(source).items():
        label = _label(plan, source, sink)
        copying = LetterCopying(
            plan.name,
            pipelines,
            sink,
            writer=writer_of(source.name, sink),
            holder=holder,
            make=partial(make_sink, plan.sink(sink)),
            opening=partial(_opening, plan.name, label),
            open_store=open_store,
            halt=halt,
            patient=patient,
        )
        copying.start()
        opened.callback(copying.close)
        found.append(copying)
    return found


def _opening(flow: str, label: str, state: Mapping[str, str]) -> SinkOpening:
    return SinkOpening(
        state=state,
        writer=label,
        compile_template=renderer,
        compile_jq=evaluator,
        flow=flow,
    )


def _label(plan: FlowPlan, source: SourcePlan, sink: str) -> str:
    """Return what tells this writer apart at a sink that others write through, too."""
    copying = [each.name for each in plan.sources if sink in copied_to(each)]
    published = any(sink in sinks_of(pipeline) for pipeline in plan.pipelines)
    if len(copying) > 1:
        return f"dead-letters-{source.name}"
    return "dead-letters" if published else ""
