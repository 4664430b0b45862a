"""The circuit breakers of `step.http_call`: one for each server that it calls."""

from __future__ import annotations

from typing import Any

import httpx

from connectors.errors import HeldError, PenstockError, RetryableError
from transforms.contracts import StepEnvironment
from transforms.steps.breaker import Breaker, SharedCircuit
from transforms.steps.circuit import Outcome, Rules
from transforms.steps.http_answers import Answer, Call
from transforms.steps.http_settings import HttpCallSettings

_MOST = 1000
"""Servers of which something is remembered, where events name them."""
_SHOWN = 3
_TO_SLOW_DOWN = {408, 425, 429}


class RefusedError(Exception):
    """In the place of an answer: the circuit is open, and no call was made."""

    def __init__(self, seconds: float, reason: str) -> None:
        """`seconds` until it may be tried; `reason`: the failure that opened it."""
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class HttpBreakers:
    """The circuits of one step, or of all steps that use one step module."""

    def __init__(self, name: str, key: str, settings: HttpCallSettings) -> None:
        """`name`: what the operator knows the step by; `key`: what Redis does."""
        made = settings.circuit_breaker
        assert made is not None  # noqa: S101 - see `breakers_of`
        self._name = name
        self._key = key
        self._store = made.store
        self._rules = Rules(
            made.failure_threshold,
            made.success_threshold,
            made.timeout,
            # A redirect or a new token may make a call last longer than its own time, but not twice.
            probe_timeout=2 * settings.timeout,
        )
        self._names_host = "{{" in settings.url
        self._breakers: dict[str, Breaker] = {}
        self.users = 0

    def of(self, url: httpx.URL) -> Breaker:
        """Return the circuit of a URL's server. On the loop's thread."""
        server = url.netloc.decode()
        breaker = self._breakers.get(server)
        if breaker is None:
            self._forget()
            shared = None
            if self._store != "local":
                shared = SharedCircuit(self._store, f"{self._key}:{server}")
            name = f"{self._name} ({server})" if self._names_host else self._name
            breaker = self._breakers[server] = Breaker(name, self._rules, shared)
        return breaker

    def refused(self, url: httpx.URL) -> RefusedError | None:
        """Return what a call gets whose circuit is known to be open; may be asked by any thread."""
        breaker = self._breakers.get(url.netloc.decode())
        seconds = None if breaker is None else breaker.refuses
        return None if breaker is None or seconds is None else RefusedError(seconds, breaker.reason)

    def _forget(self) -> None:
        """Make room by those that have nothing to tell."""
        if len(self._breakers) >= _MOST:
            self._breakers = {
                server: breaker for server, breaker in self._breakers.items() if breaker.status
            }

    @property
    def status(self) -> str:
        """What the operator should know now; "" while all circuits are closed."""
        told = [status for each in list(self._breakers.values()) if (status := each.status)]
        more = f" and {len(told) - _SHOWN} more circuits" if len(told) > _SHOWN else ""
        return "; ".join(told[:_SHOWN]) + more

    async def close(self) -> None:
        """Disconnect from Redis, once nobody uses them any more."""
        self.users -= 1
        if not self.users:
            for breaker in self._breakers.values():
                await breaker.close()


def breakers_of(settings: HttpCallSettings, environment: StepEnvironment) -> HttpBreakers | None:
    """Return a step's circuits; where it uses a module, those that it shares with its other users."""
    if settings.circuit_breaker is None or not settings.circuit_breaker.enabled:
        return None
    name = environment.module or f"{environment.pipeline}/{environment.place}"
    common: dict[str, Any] = {} if environment.common is None else environment.common
    made = HttpBreakers(name, f"penstock:{environment.flow}:circuit:{name}", settings)
    found = common.setdefault("http circuits", made)
    assert isinstance(found, HttpBreakers)  # noqa: S101 - nobody else takes that name
    found.users += 1
    return found


def told_by(answer: Answer | PenstockError) -> tuple[Outcome, str]:
    """Return what a call's end says of its server's health, and how to say it."""
    if isinstance(answer, PenstockError):
        # What is wrong with the request, or with what the flow says, is not the server's fault.
        return (
            ("failure", answer.message) if isinstance(answer, RetryableError) else ("neither", "")
        )
    if answer.status in _TO_SLOW_DOWN:
        return "neither", ""
    return ("failure", f"it answered {answer.status}") if answer.status >= 500 else ("success", "")


def refusal(refused: RefusedError, call: Call, *, holds: bool) -> PenstockError:
    """Return what an open circuit means for an event that has no fallback."""
    about: dict[str, Any] = {"url": call.shown, "method": call.method, "effect": "none"}
    message = f"{call.method} {call.shown} was not called: its circuit is open ({refused.reason})."
    if holds:
        return HeldError(
            message,
            code="circuit_open",
            hint="The event waits until the circuit closes.",
            retry_after=refused.seconds,
            **about,
        )
    return RetryableError(
        message,
        code="circuit_open",
        hint="`fallback: {type: error}` asks for this; without it events wait.",
        retry_after=refused.seconds,
        **about,
    )
