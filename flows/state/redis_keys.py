"""Idempotency keys in Redis or Valkey: a string per key, changed by small scripts, a batch a call.

    penstock:<flow>:<digest>   <state><holder: 36><fingerprint: 32><result>

`state` is `h` (held) or `d` (done). Expiry is Redis's own (PX). What a script does, nobody sees half
of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from connectors.contracts import Check
from connectors.errors import FatalError, PenstockError, RetryableError
from flows.state.records import Claim, Held, KeyOutcome

TIMEOUT = 5.0
"""Seconds for connecting, and for an answer."""

_HOLDER, _FINGERPRINT = 36, 32

# ARGV: milliseconds, then holder and value for each key. Answers with the values that stand in the
# way, and with an empty text for each key that was taken.
_RESERVE = """
local found = {}
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  local holder, mine = ARGV[2 * i], ARGV[2 * i + 1]
  if not value then
    redis.call('SET', key, mine, 'PX', ARGV[1])
    found[i] = ''
  elseif value:sub(1, 37) == 'h' .. holder then
    local left = redis.call('PTTL', key)
    if left < tonumber(ARGV[1]) then left = ARGV[1] end
    redis.call('SET', key, mine, 'PX', left)
    found[i] = ''
  else
    found[i] = value
  end
end
return found
"""

# ARGV: for each key outcome, holder, milliseconds and value. A key that has expired meanwhile and
# is nobody's is kept all the same.
_SETTLE = """
for i, key in ipairs(KEYS) do
  local outcome, holder = ARGV[4 * i - 3], ARGV[4 * i - 2]
  local value = redis.call('GET', key)
  if not value or value:sub(1, 37) == 'h' .. holder then
    if outcome == 'released' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, ARGV[4 * i], 'PX', ARGV[4 * i - 1])
    end
  end
end
return 'OK'
"""

# ARGV: milliseconds, then each key's holder.
_PROLONG = """
for i, key in ipairs(KEYS) do
  local value = redis.call('GETRANGE', key, 0, 36)
  if value == 'h' .. ARGV[i + 1] and redis.call('PTTL', key) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return 'OK'
"""

Result = TypeVar("Result")


class RedisKeys:
    """The keys of one flow in Redis: a KeyStore (flows.state.idempotency)."""

    def __init__(self, url: str, flow: str) -> None:
        """Connect to nothing yet. Raises FatalError for a URL that is none."""
        try:
            self.client = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                health_check_interval=30,
                # Whoever calls tries again, and says what it waits for. Once, at once: a server that
                # was restarted has closed the connections that we keep.
                retry=Retry(NoBackoff(), 1),
                retry_on_error=[RedisConnectionError],
            )
        except ValueError:
            raise FatalError(
                "the URL of the idempotency store can't be read.",
                code="idempotency_url",
                hint="Write redis://user:password@host:6379/0, or rediss:// for TLS.",
            ) from None
        self.label = _label(url)
        self.prefix = f"penstock:{flow}:"
        self._reserve = self.client.register_script(_RESERVE)
        self._settle = self.client.register_script(_SETTLE)
        self._prolong = self.client.register_script(_PROLONG)

    def reserve(self, claims: Sequence[Claim], seconds: float) -> list[Held | None]:
        """Take the keys that are free or the claimants' own; see KeyStore."""
        if not claims:
            return []
        arguments: list[str | int] = [_milliseconds(seconds)]
        for claim in claims:
            arguments += (claim.holder, _value("h", claim))
        found = self.call(lambda: self._reserve(keys=self._names(claims), args=arguments))
        return [None if not value else _held(value) for value in found]

    def settle(self, outcomes: Sequence[KeyOutcome]) -> None:
        """Say what becomes of keys; see KeyStore."""
        if not outcomes:
            return
        arguments: list[str | int] = []
        for each in outcomes:
            is_done = each.outcome == "done"
            arguments += (
                each.outcome,
                each.claim.holder,
                _milliseconds(each.seconds),
                _value("d" if is_done else "h", each.claim) + (each.result or ""),
            )
        names = self._names([each.claim for each in outcomes])
        self.call(lambda: self._settle(keys=names, args=arguments))

    def prolong(self, claims: Sequence[Claim], seconds: float) -> None:
        """Let what is still held end later; see KeyStore."""
        if claims:
            arguments: list[str | int] = [_milliseconds(seconds)]
            arguments += [claim.holder for claim in claims]
            self.call(lambda: self._prolong(keys=self._names(claims), args=arguments))

    def preflight(self) -> list[Check]:
        """Ask for all that keys need, and change nothing. Raises RetryableError, FatalError."""
        self.prolong([Claim(b"", "", "")], 1.0)
        policy = self.call(lambda: self.client.info("memory")).get("maxmemory_policy")
        keeps = policy in {None, "noeviction"}
        return [
            Check("idempotency store", ok=True, found=f"{self.label} answers and runs scripts"),
            Check(
                "keys are kept",
                ok=keeps,
                found=f"maxmemory-policy is {policy}",
                hint=""
                if keeps
                else "Set it to noeviction: a key that is thrown away is forgotten.",
                severity="warning",
            ),
        ]

    def close(self) -> None:
        """Close the connections."""
        with suppress(RedisError):
            self.client.close()

    @staticmethod
    def held(value: bytes) -> Held:
        """Return what a key's value says."""
        return _held(value)

    def _names(self, claims: Sequence[Claim]) -> list[str]:
        return [self.prefix + claim.digest.hex() for claim in claims]

    def call(self, script: Callable[[], Result]) -> Result:
        """Ask Redis. Raises RetryableError, FatalError."""
        try:
            return script()
        except RedisError as error:
            raise _translated(error, self.label) from None


def _value(state: str, claim: Claim) -> str:
    # Whoever does not compare fingerprints has none.
    return f"{state}{claim.holder:36.36}{claim.fingerprint.hex():{_FINGERPRINT}}"


def _held(value: bytes) -> Held:
    end = 1 + _HOLDER + _FINGERPRINT
    text = value[:end].decode("ascii", "replace")
    return Held(
        holder=text[1 : 1 + _HOLDER].strip(),
        fingerprint=bytes.fromhex(text[1 + _HOLDER : end].strip()),
        done=text[:1] == "d",
        result=value[end:].decode("utf-8", "replace") or None,
    )


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _label(url: str) -> str:
    """Return host, port and database of a URL, without what is secret in it."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or 'localhost'}:{port or 6379}{parts.path}"


def _translated(error: RedisError, label: str) -> PenstockError:
    """Return what an operator sees: may it pass by itself, and what to do."""
    said = " ".join(str(error).split()).rstrip(".")
    message = f"the idempotency store {label} answered: {said}."
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return FatalError(
            message,
            code="idempotency_login_refused",
            hint="Check user and password in idempotency.store; the user needs GET, SET, DEL, "
            "GETRANGE, PEXPIRE, PTTL and EVALSHA on penstock:*.",
        )
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, BusyLoadingError)):
        return RetryableError(
            f"the idempotency store {label} can't be reached: {said}.",
            code="idempotency_unavailable",
            hint="The flow waits until it is back.",
        )
    if isinstance(error, (ReadOnlyError, ResponseError)) and _passes(said):
        return RetryableError(
            message, code="idempotency_unavailable", hint="The flow waits until that has passed."
        )
    return FatalError(
        message,
        code="idempotency_failed",
        hint="Keys need a Redis or Valkey that runs Lua scripts and is no cluster.",
    )


def _passes(said: str) -> bool:
    """Whether what a server refuses passes by itself: no memory left, a failover, a slow script."""
    words = (
        "OOM",
        "READONLY",
        "read only",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "BUSY",
        "MISCONF",
    )
    return any(word in said for word in words) or "used memory" in said


__all__ = ["RedisKeys"]
