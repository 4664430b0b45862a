"""Undoes what lost workers wrote and never settled, where no worker of this run does it.

A worker that starts again undoes its own. But a run with fewer workers than the one that crashed
has none for some of the old shards, and what they had read comes again through others: their
files would keep what was never settled, and have it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from connectors.contracts import Undoing
from connectors.errors import FatalError, RetryableError
from flows.plan import FlowPlan
from flows.runtime.assemble import IN_USE
from flows.runtime.sinks import make_sink
from flows.state.contracts import StateStore
from flows.state.records import Lease

log = structlog.get_logger("penstock.worker")


def undo_abandoned(
    plan: FlowPlan,
    store: StateStore,
    shards: Collection[str],
    *,
    holder: str,
    ttl: float,
    wait: Callable[[str], bool],
) -> bool:
    """Undo what the writers that are none of `shards` left; wait for those that still live.

    Each is undone once, by whoever gets its lease. Another copy of the flow with more workers is
    waited for as by any standby, and so is a lease that must run out first. `wait` gets the reason,
    and returns whether to give up: then the result is False. Raises FatalError.
    """
    while True:
        try:
            for shard, sinks in _abandoned(plan, store, shards).items():
                lease = store.acquire_lease(plan.name, shard, holder, ttl)
                if lease is None:
                    reason = f"another run's worker still has the lease of {shard}"
                    break
                _undo(store, lease, sinks)
            else:
                return True
        except RetryableError as error:
            reason = f"state store: {error.message}"
        except FatalError as error:
            if error.code != IN_USE:
                raise
            reason = error.message  # its worker was taken over from, and does not know yet
        if wait(reason):
            return False


def _abandoned(
    plan: FlowPlan, store: StateStore, shards: Collection[str]
) -> dict[str, dict[str, Undoing]]:
    """Return shard → the sinks of the flow through which its worker wrote and that can undo it."""
    found: dict[str, dict[str, Undoing]] = {}
    modules = {each.name: each for each in plan.sinks}
    for shard, names in store.sink_writers(plan.name).items():
        if shard not in shards:
            undoing: dict[str, Undoing] = {}
            for name in names:
                sink = make_sink(modules[name]) if name in modules else None
                if isinstance(sink, Undoing):
                    undoing[name] = sink
            if undoing:
                found[shard] = undoing
    return found


def _undo(store: StateStore, lease: Lease, sinks: dict[str, Undoing]) -> None:
    """Undo what the writer of the lease's shard left, and give the lease back."""
    try:
        # Read under the lease: another worker of this run may have been first.
        states = store.sink_states(lease.flow, lease.shard)
        found = [name for name in sinks if name in states]
        for name in found:
            sinks[name].undo_unsettled(states[name])
            log.info("cut back what a lost worker had not settled", sink=name, shard=lease.shard)
        store.forget_sink_states(lease, found)
    finally:
        store.release_lease(lease)
