"""Calls a store until it answers: what the dataflow's thread does while one is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from connectors.errors import FatalError, PenstockError, RetryableError
from flows.runtime.backoff import Backoff
from flows.runtime.committer import FIRST_DELAY, LONGEST_DELAY
from flows.runtime.halt import Halt

Result = TypeVar("Result")


def until_it_answers(
    call: Callable[[], Result],
    halt: Halt,
    *,
    waits: Callable[[str], None],
    stopped: Callable[[PenstockError], FatalError],
    patience: float,
) -> Result | None:
    """Return what `call` returns, once it does; None when the worker must stop.

    A RetryableError is waited out with backoff, and `waits` is told of it, or "" when it is over.
    Any other error stops the worker. Once it is to drain, the store has `patience` more seconds,
    then the worker stops with `stopped`: 0 where nothing has been done yet that would be in
    doubt, and the events come again; more where an effect is waiting to be recorded.
    """
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    draining_since: float | None = None
    while not halt.error:
        try:
            result = call()
        except RetryableError as error:
            waits(error.message)
            if halt.wait(backoff.longer()):
                now = time.monotonic()
                if draining_since is None:
                    draining_since = now
                if now - draining_since >= patience:
                    halt.fail(stopped(error))
                    break
                time.sleep(FIRST_DELAY)  # a halt that was asked for cuts no wait short any more
        except PenstockError as error:
            halt.fail(error)
        else:
            waits("")
            return result
    return None
