"""A circuit breaker's rules. Pure: no clock, no sockets; a state is a value.

    closed ──(failure_threshold failures in a row)──▶ open ──(timeout)──▶ half open
       ▲                                               ▲                     │
       └──(success_threshold successes in a row)───────┼─────────────────────┤
                                                       └──(one failure)──────┘

A half-open circuit lets as many calls through at a time as successes are missing: probes. Whoever
else wants to call waits for what they find out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Outcome = Literal["success", "failure", "neither"]
"""Of a call. `neither` says nothing of the server's health: it was told to slow down (429)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens and closes."""

    failure_threshold: int
    success_threshold: int
    timeout: float
    """Seconds that it stays open."""
    probe_timeout: float
    """Seconds after which a probe is given up for lost: whoever made it may have been killed."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit's state; times are seconds since the epoch."""

    failures: int = 0
    """In a row, while it is closed."""
    open_until: float | None = None
    """None: closed. Once that time has come it is half open."""
    successes: int = 0
    """In a row, while it is half open."""
    probes: Mapping[str, float] = field(default_factory=dict)
    """Probes under way → when each is given up for lost."""

    def state(self, now: float) -> Literal["closed", "open", "half_open"]:
        """Return its name."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    @property
    def is_untroubled(self) -> bool:
        """Whether it is closed, and one more success would change nothing."""
        return self.open_until is None and not self.failures

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps([self.failures, self.open_until, self.successes, dict(self.probes)])


CLOSED = Circuit()


def decode(text: str | bytes | None) -> Circuit:
    """Return what `encode` made; a closed circuit for None. Raises ValueError."""
    if text is None:
        return CLOSED
    failures, open_until, successes, probes = json.loads(text)
    return Circuit(int(failures), open_until, int(successes), probes)


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether a call may be made now."""

    verdict: Literal["call", "probe", "wait", "refused"]
    """`wait`: others are finding out whether the server is back."""
    seconds: float = 0.0
    """Of one that is refused: until it may be tried."""


def enter(circuit: Circuit, rules: Rules, probe: str, now: float) -> tuple[Circuit, Entry]:
    """Say whether a call may be made; `probe` names it, should it become one."""
    if circuit.open_until is None:
        return circuit, Entry("call")
    if now < circuit.open_until:
        return circuit, Entry("refused", circuit.open_until - now)
    probes = {name: lost for name, lost in circuit.probes.items() if lost > now}
    if len(probes) + circuit.successes >= rules.success_threshold:
        return circuit, Entry("wait")
    probes[probe] = now + rules.probe_timeout
    return replace(circuit, probes=probes), Entry("probe")


def leave(circuit: Circuit, rules: Rules, probe: str, outcome: Outcome, now: float) -> Circuit:
    """Return the circuit once a call has ended.

    What ends after the circuit has opened was begun before: only a probe says anything then.
    """
    if circuit.open_until is None:
        if outcome == "success":
            return CLOSED if circuit.failures else circuit
        if outcome == "neither":
            return circuit
        failures = circuit.failures + 1
        if failures < rules.failure_threshold:
            return Circuit(failures)
        return Circuit(open_until=now + rules.timeout)
    if probe not in circuit.probes:
        return circuit
    if outcome == "failure":
        return Circuit(open_until=now + rules.timeout)
    probes = {name: lost for name, lost in circuit.probes.items() if name != probe}
    successes = circuit.successes + (outcome == "success")
    if successes >= rules.success_threshold:
        return CLOSED
    return replace(circuit, successes=successes, probes=probes)
