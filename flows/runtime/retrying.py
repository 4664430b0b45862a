"""When a failed step is tried again: the delays of `retry:`."""

from __future__ import annotations

from random import Random

from flows.spec.pipelines import Retry

_LONGEST_SAID = 86_400.0
"""Seconds: a server that asks for more (`Retry-After`) is asked again after a day."""


def delay_before(retry: Retry, attempts: int, retry_after: float | None, random: Random) -> float:
    """Return the seconds to wait after `attempts` tries that failed (1, 2, …).

    What the server asked for is the least; jitter is added to that and never taken off.
    """
    first = retry.initial_delay
    if retry.backoff == "exponential":
        # Beyond 2**64 any delay is past max_delay, and an int of that power would only grow.
        delay = first * 2.0 ** min(attempts - 1, 64)
    elif retry.backoff == "linear":
        delay = first * attempts
    else:
        delay = first
    delay = min(delay, retry.max_delay)
    delay *= 1 + retry.jitter * random.uniform(-1, 1)
    if retry_after is None:
        return delay
    asked = min(retry_after, _LONGEST_SAID)
    return max(delay, asked * (1 + retry.jitter * random.random() / 2))
