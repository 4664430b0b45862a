"""Once per key: the operator between ingest and a pipeline's first step, and its part of settle.

ingest ── once per key ── step ── step ── settle
                │                            │
   reserves the batch's keys      they are done, held on (parked) or
     in one transaction         released (failed), with the settlement

the key is free, or the execution's own   goes on
done, for the same data                   skipped, as a duplicate of that execution
done, for other data                      fails: idempotency_key_reused
held by another execution                 waits for it, and its lane behind it
"""

from __future__ import annotations

import json
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from connectors.errors import HeldError, PenstockError, PermanentError
from flows.runtime.halt import Halt
from flows.runtime.key_keeper import KeyKeeper
from flows.runtime.parking import Parking
from flows.runtime.tenants import tenants
from flows.state.idempotency import digest_of
from flows.state.jsontext import json_text
from flows.state.records import Claim, Held, KeyOutcome, Settlement
from transforms.executions import UNSET, Duplicate, Ended, Executions, Wait
from transforms.expressions import compile_jq, compile_template
from transforms.steps.outbox import refused_indexes

if TYPE_CHECKING:
    from flows.plan import PipelinePlan

HELD_ON = 7 * 86_400.0
"""Seconds beyond its time that a parked execution keeps its key: its lane may be long, a person slow."""

SOONEST, LATEST = 0.05, 5.0
"""Seconds between looks whether the execution that holds a key is through."""


class OncePerKey:
    """The idempotency of one pipeline in one worker; belongs to the dataflow's thread."""

    def __init__(
        self,
        plan: PipelinePlan,
        keeper: KeyKeeper,
        halt: Halt,
        parking: Parking,
        *,
        elsewhere: bool,
    ) -> None:
        """`elsewhere`: the keys are not in the state store."""
        assert plan.idempotency is not None  # noqa: S101 - nobody asks for one that it hasn't
        self._pipeline = plan.name
        self._key = compile_template(plan.idempotency.key_template)
        self._tenant = compile_jq(plan.tenant) if plan.tenant else None
        self._ttl = plan.idempotency.ttl
        self._steps = len(plan.steps)
        self._keeper = keeper
        self._halt = halt
        self._parking = parking
        self._elsewhere = elsewhere

    @property
    def status(self) -> str:
        """What it waits for, or ""; read by the reporter."""
        return self._keeper.status

    # --- before the first step ----------------------------------------------------------------

    def __call__(self, executions: Executions) -> bool:
        """Let those go on whose keys are theirs. Returns False when the worker must stop."""
        if self._halt.error:
            return False
        claims = self._claims(executions)
        wanted: dict[int, Claim] = {}
        first: dict[bytes, int] = {}
        for index, claim in claims.items():
            if executions.jumps.get(index, 0) >= self._steps:
                executions.claims[index] = claim  # failed long ago, and is being compensated
                continue
            before = first.setdefault(claim.digest, index)
            if before == index:
                wanted[index] = claim
            elif claim.holder == claims[before].holder:
                executions.end(index, Ended("repeated"))
            else:
                self._wait(executions, index, claims[before].holder)
        found = self._keeper.reserve(list(wanted.values()))
        if found is None:
            return False
        for (index, claim), held in zip(wanted.items(), found, strict=True):
            if held is None:
                executions.claims[index] = claim
            else:
                self._refused(executions, index, claim, held)
        if executions.waits:
            self._keep_order(executions)
        return True

    def _claims(self, executions: Executions) -> dict[int, Claim]:
        """Return the claim of each execution that comes this far; those that can't have one fail."""
        # Of an execution that is done but for an event in an outbox, the key was told so.
        through = refused_indexes(executions) if executions.replays else ()
        indexes = [
            k
            for k in range(executions.events.size)
            if k not in executions.ended and k not in through
        ]
        keys, errors = self._key.column(executions, indexes, required=True)
        owners = tenants(self._tenant, executions, indexes)
        data = executions.events.column("data")
        waiting = len(self._parking)
        claims: dict[int, Claim] = {}
        for index, key, tenant in zip(indexes, keys, owners, strict=True):
            if index in errors or not key:
                error = _no_key(errors.get(index))
                executions.end(index, Ended("failed", None, error))
                continue
            holder = executions.execution_id(index)
            if waiting and index not in executions.resumed and self._parking.has(holder):
                executions.end(index, Ended("repeated"))
                continue
            claims[index] = Claim(
                digest_of("pipeline", self._pipeline, tenant, key),
                self._pipeline,
                holder,
                fingerprint(data[index]),
                key,
                tenant,
            )
        return claims

    def _refused(self, executions: Executions, index: int, claim: Claim, held: Held) -> None:
        """Say what becomes of an execution whose key another has, or has had."""
        if not held.done:
            self._wait(executions, index, held.holder)
        elif held.fingerprint != claim.fingerprint:
            executions.end(index, Ended("failed", None, _reused(held.holder)))
        elif held.holder == claim.holder:
            executions.end(index, Ended("repeated"))
        else:
            executions.duplicates[index] = Duplicate(held.holder, held.result)
            executions.end(index, Ended("skipped"))

    def _wait(self, executions: Executions, index: int, holder: str) -> None:
        before = executions.resumed.get(index)
        error = in_flight("the event's idempotency key", holder, pause(executions, index))
        attempts = 0 if before is None else before.place.attempts
        step = executions.jumps.pop(index, 0)
        executions.waits[index] = Wait(step, attempts, error.retry_after or 0.0, error)
        executions.end(index, Ended("parked", None, error))

    def _keep_order(self, executions: Executions) -> None:
        """Let what comes behind a waiting execution, in its lane, wait too, and hold no key."""
        lanes = executions.lanes
        if lanes is None:
            return
        behind: set[object] = set()
        for index in range(executions.events.size):
            lane = lanes[index]
            if lane is None:
                continue
            if index in executions.waits:
                behind.add(lane)
            elif lane in behind and index not in executions.ended:
                executions.waits[index] = Wait(executions.jumps.pop(index, 0))
                executions.end(index, Ended("parked"))

    # --- at the end ---------------------------------------------------------------------------

    def settle(self, executions: Executions, settlement: Settlement) -> None:
        """Add to the settlement what becomes of the keys."""
        if not executions.claims:
            return
        ended, outcomes = executions.ended, []
        results = _Results(executions)
        for index, claim in executions.claims.items():
            end = ended.get(index)
            outcome = "done" if end is None else end.outcome
            if outcome == "parked":
                outcomes.append(_while_parked(executions, index, claim))
            elif outcome in {"failed", "undone"}:
                outcomes.append(KeyOutcome(claim, "released"))
            else:
                outcomes.append(KeyOutcome(claim, "done", self._ttl, results.of(index)))
        (settlement.keys_elsewhere if self._elsewhere else settlement.keys).extend(outcomes)
        self._keeper.let_go(list(executions.claims.values()))


def _while_parked(executions: Executions, index: int, claim: Claim) -> KeyOutcome:
    """Return what becomes of a parked execution's key: it keeps it, unless it has done nothing yet.

    One that waits behind others could be what one of those waits for.
    """
    wait, before = executions.waits[index], executions.resumed.get(index)
    if wait.step or wait.attempts or (before is not None and before.step is not None):
        return KeyOutcome(claim, "held", wait.seconds + HELD_ON)
    return KeyOutcome(claim, "released")


class _Results:
    """The executions' results: the output of the last step that has one."""

    def __init__(self, executions: Executions) -> None:
        outputs = executions.outputs
        self._columns = [
            (outputs[name], executions.encoded.get(name)) for name in reversed(outputs)
        ]

    def of(self, index: int) -> str | None:
        """Return a result as JSON; None where no step has an output."""
        for column, encoded in self._columns:
            value = column[index]
            if value is not UNSET:
                text = encoded[index] if encoded and len(encoded) == len(column) else None
                return (json_text(value) if text is None else text).decode()
        return None


def fingerprint(data: Any) -> bytes:
    """Return the hash of an event's data: the same for the same JSON, however it is written."""
    try:
        text = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # An integer of more than 64 bits, or a value that only Python knows.
        try:
            text = json.dumps(data, sort_keys=True, default=str).encode()
        except (TypeError, ValueError, RecursionError):
            text = json_text(data)
    return blake2b(text, digest_size=16).digest()


def in_flight(what: str, holder: str, seconds: float) -> HeldError:
    """Return why an execution waits for another one."""
    return HeldError(
        f"{what} is held by execution {holder}, which is not through yet.",
        code="idempotency_key_in_flight",
        hint="It goes on by itself when that one has ended.",
        retry_after=seconds,
        effect="none",
        execution=holder,
    )


def pause(executions: Executions, index: int) -> float:
    """Return the seconds until a waiting execution looks again: a quarter of what it has waited.

    None at all the first time: what a batch holds is settled with it.
    """
    before = executions.resumed.get(index)
    if before is None:
        return 0.0
    waited: float = time.time() - before.parked_at
    return min(max(waited / 4, SOONEST), LATEST)


def _no_key(error: PenstockError | None) -> PermanentError:
    why = "it is empty" if error is None else error.message.rstrip(".")
    return PermanentError(
        f"the event has no idempotency key: {why}.",
        code="idempotency_key",
        hint="Mend the event or idempotency.key_template, then replay the event.",
        **({} if error is None else {"cause": error.code}),
    )


def _reused(holder: str) -> PermanentError:
    return PermanentError(
        f"the event's idempotency key was used by execution {holder}, for other data.",
        code="idempotency_key_reused",
        hint="Nothing was done. Either the key says too little (see idempotency.key_template), or the "
        "sender used it twice.",
        execution=holder,
    )
