"""The circuit breaker of a step, or of all steps that use one step module.

Belongs to the loop of the HTTP calls. A circuit is this worker's own, or kept in Redis for all
workers: there every change is one compare-and-set of the rules' result (transforms.steps.circuit).
A Redis that is away changes nothing but that each worker goes by what it sees itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import structlog

from transforms.steps.circuit import CLOSED, Circuit, Entry, Outcome, Rules, decode, enter, leave

if TYPE_CHECKING:
    import redis.asyncio

log = structlog.get_logger("penstock.breaker")

_FRESH = 0.25
"""Seconds that a circuit read from Redis is gone by."""
_LOOK_AGAIN = 0.1
"""Seconds between two looks at a half-open circuit whose probes may be another worker's."""
_PATIENCE = 0.5
"""Seconds that Redis has to answer."""
_AWAY = 2.0
"""Seconds for which Redis is left alone after an error."""
_KEPT = 86_400
"""Seconds after which Redis forgets a circuit that nobody has changed."""
_TRIES = 20

_SET_IF = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 1
"""

T = TypeVar("T")


class Breaker:
    """Says before each call whether it may be made, and learns what came of it."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        shared: SharedCircuit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`name`: what the operator knows it by. `shared`: where it is kept for all workers."""
        self._name = name
        self._rules = rules
        self._shared = shared
        self._clock = clock
        self._circuit = CLOSED
        self._changed = asyncio.Event()
        self._numbers = count()
        self._self = uuid4().hex[:8]
        self._reason = ""

    @property
    def status(self) -> str:
        """What the operator should know now, "" while it is closed; may be asked by any thread."""
        circuit = self._circuit
        state = circuit.state(self._clock())
        if state == "closed":
            return ""
        if state == "open":
            left = (circuit.open_until or 0.0) - self._clock()
            return f"circuit of {self._name} is open for {left:.0f} s: {self._reason}"
        return f"circuit of {self._name} is half open: {self._reason}"

    @property
    def reason(self) -> str:
        """The failure that opened it."""
        return self._reason

    @property
    def refuses(self) -> float | None:
        """Seconds for which nothing is called, None where that is not sure; may be asked by any thread.

        Of a circuit that is shared it never is: others may know better by now.
        """
        until = self._circuit.open_until
        if until is None or self._shared is not None:
            return None
        left = until - self._clock()
        return left if left > 0 else None

    async def enter(self) -> tuple[str, Entry]:
        """Return a name for `leave`, and whether the call may be made; waits for others' probes."""
        if self._shared is None and self._circuit.is_untroubled:
            return "", Entry("call")
        probe = f"{self._self}.{next(self._numbers)}"
        while True:
            entry = await self._apply(lambda circuit, now: enter(circuit, self._rules, probe, now))
            if entry.verdict != "wait":
                return probe, entry
            # The probes are our own, and their end wakes us; or another worker's.
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), _LOOK_AGAIN)
            except (asyncio.TimeoutError, TimeoutError):
                continue

    async def leave(self, probe: str, outcome: Outcome, reason: str = "") -> None:
        """Tell what came of the call; `reason` of a failure is what the operator is told."""
        circuit = self._circuit
        if outcome != "failure" and circuit.is_untroubled:
            return
        if outcome == "failure":
            self._reason = reason

        def transition(circuit: Circuit, now: float) -> tuple[Circuit, None]:
            return leave(circuit, self._rules, probe, outcome, now), None

        await self._apply(transition)

    async def _apply(self, transition: Callable[[Circuit, float], tuple[Circuit, T]]) -> T:
        """Change the circuit, everywhere if it is shared, and return what the transition says."""
        before = self._circuit
        if self._shared is not None:
            result = await self._shared.apply(transition, self._clock)
            if result is not None:
                circuit, made = result
                self._now_is(before, circuit)
                return made
        circuit, made = transition(before, self._clock())
        self._now_is(before, circuit)
        return made

    def _now_is(self, before: Circuit, circuit: Circuit) -> None:
        if circuit == before:
            return
        self._circuit = circuit
        if circuit.open_until is None and before.open_until is not None:
            log.info("circuit closed", circuit=self._name)
        elif circuit.open_until is not None and circuit.open_until != before.open_until:
            log.warning(
                "circuit opened",
                circuit=self._name,
                seconds=self._rules.timeout,
                error=self._reason or "another worker has opened it",
            )
        self._changed.set()
        self._changed = asyncio.Event()

    async def close(self) -> None:
        """Close the connection to Redis."""
        if self._shared is not None:
            await self._shared.close()


class SharedCircuit:
    """A circuit in Redis."""

    def __init__(self, url: str, key: str) -> None:
        """Nothing connects yet. Raises ValueError for a URL that is none."""
        import redis.asyncio  # noqa: PLC0415 - takes time to import, and few flows use it

        self._key = key
        self._client: redis.asyncio.Redis = redis.asyncio.from_url(
            url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        )
        self._set_if: Any = self._client.register_script(_SET_IF)
        self._seen = CLOSED
        self._seen_at = 0.0
        self._lock = asyncio.Lock()
        self._away_until = 0.0

    async def apply(
        self,
        transition: Callable[[Circuit, float], tuple[Circuit, T]],
        clock: Callable[[], float],
    ) -> tuple[Circuit, T] | None:
        """Change it by a transition; None while Redis is away."""
        now = clock()
        if now < self._away_until:
            return None
        try:
            if now - self._seen_at < _FRESH:
                circuit, made = transition(self._seen, now)
                if circuit == self._seen:
                    return circuit, made
            async with self._lock:  # so that only other workers can come between
                return await self._exchange(transition, clock)
        except Exception as error:  # noqa: BLE001 - redis-py raises its own, OSError and ValueError
            log.warning(
                "a circuit can't be shared: each worker goes by what it sees itself",
                key=self._key,
                error=type(error).__name__,
            )
            self._away_until = clock() + _AWAY
            return None

    async def _exchange(
        self,
        transition: Callable[[Circuit, float], tuple[Circuit, T]],
        clock: Callable[[], float],
    ) -> tuple[Circuit, T] | None:
        for _ in range(_TRIES):
            text = await self._client.get(self._key) or b""
            found = decode(text or None)
            circuit, made = transition(found, clock())
            stored = True
            if circuit != found:
                new = "" if circuit == CLOSED else circuit.encode()
                stored = await self._set_if(keys=[self._key], args=[text, new, _KEPT])
            if stored:
                self._seen, self._seen_at = circuit, clock()
                return circuit, made
        return None

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()
