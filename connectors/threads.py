"""Threads of our own, which must not end in silence."""

from __future__ import annotations

from collections.abc import Callable

from connectors.errors import FatalError, defect


def watched(
    part: str, run: Callable[..., None], fail: Callable[[FatalError], None]
) -> Callable[..., None]:
    """Return what a thread is to run so that a defect in `run` is told to `fail`.

    Else the thread would be gone, and the others would wait for it. `part` says what it does.
    """

    def running(*given: object) -> None:
        try:
            run(*given)
        except Exception as error:  # noqa: BLE001 - a defect must stop the worker, not the thread alone
            fail(defect(part, error))

    return running
