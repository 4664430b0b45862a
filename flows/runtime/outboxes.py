"""The outboxes of one worker: a relay for each table that steps of its source write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from connectors.contracts import SinkOpening
from flows.runtime.halt import Halt
from flows.runtime.sinks import evaluator, make_sink, renderer
from flows.state.contracts import StateStore

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan, StepPlan
    from flows.runtime.outbox_relay import OutboxRelay

_Place = tuple[str, str]
"""A database's URL and a table in it."""


class Outboxes:
    """The relays; empty for a source whose steps have no outbox."""

    def __init__(self, relays: Mapping[_Place, OutboxRelay]) -> None:
        self._relays = relays

    def start(self) -> None:
        """Begin to publish."""
        for relay in self._relays.values():
            relay.start()

    def waker(self, step: StepPlan) -> Callable[[], None]:
        """Return what wakes the relay of a database step's outbox."""
        return self._relays[_place(step)].wake

    def drain(self) -> None:
        """Publish what is left; see `OutboxRelay.drain`."""
        for relay in self._relays.values():
            relay.drain()

    @property
    def status(self) -> str:
        """What they wait for, or ""; read by the reporter."""
        return "; ".join(relay.status for relay in self._relays.values() if relay.status)

    def sinks(self) -> dict[str, str]:
        """Return sink → what it waits for, or ""."""
        found: dict[str, str] = {}
        for relay in self._relays.values():
            for name in relay.sinks:
                found[name] = found.get(name) or relay.away.get(name, "")
        return found

    def depths(self) -> dict[str, int]:
        """Return pipeline → how many events wait; nothing in workers that do not count."""
        found: dict[str, int] = {}
        for relay in self._relays.values():
            for name, depth in relay.depths.items():
                found[name] = depth + found.get(name, 0)
        return found


def open_outboxes(
    plan: FlowPlan,
    source: SourcePlan,
    halt: Halt,
    opened: ExitStack,
    *,
    shard: str,
    open_store: Callable[[], StateStore],
    counts: bool,
) -> Outboxes:
    """Return the relays, their sinks open; `opened` closes all. Raises FatalError.

    `shard` is this worker's; `counts`: it tells how much waits.
    """
    wanted: dict[_Place, dict[str, None]] = {}
    written: dict[_Place, set[str]] = {}
    for pipeline in source.pipelines:
        for step in pipeline.steps:
            for publish in step.publishes:
                wanted.setdefault(_place(step), {})[publish.settings.sink] = None
                written.setdefault(_place(step), set()).add(pipeline.name)
    if not wanted:
        return Outboxes({})
    # Imported for flows that have one only, as the driver of the database.
    from flows.runtime.outbox_letters import OutboxLetters  # noqa: PLC0415 - see above
    from flows.runtime.outbox_relay import OutboxRelay  # noqa: PLC0415 - see above
    from transforms.steps.outbox_table import OutboxTable  # noqa: PLC0415 - see above

    relays: dict[_Place, OutboxRelay] = {}
    for place, names in wanted.items():
        database, table = place
        sinks = {}
        for name in names:
            sinks[name] = make_sink(plan.sink(name))
            sinks[name].open(
                SinkOpening(
                    state={}, compile_template=renderer, compile_jq=evaluator, flow=plan.name
                )
            )
            opened.callback(sinks[name].close)
        told = written[place] if counts else ()
        letters = OutboxLetters(plan, source.name, shard, open_store)
        relay = OutboxRelay(
            database, OutboxTable(table, plan.name), sinks, halt, letters=letters, counts=told
        )
        opened.callback(relay.close)
        relays[place] = relay
    return Outboxes(relays)


def _place(step: StepPlan) -> _Place:
    return step.settings.database, str(step.publishes[0].outbox)
