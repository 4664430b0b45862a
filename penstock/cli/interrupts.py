"""Ctrl-C at a moment in which Python can't raise it.

While a callback runs that nobody has called (of a weak reference, a `__del__`) there is nobody to
raise to: Python prints a traceback, and the Ctrl-C is lost. Imports are full of such callbacks.
"""

from __future__ import annotations

import _thread
import signal
import sys
import time

_LATER = 0.01
"""Seconds after which the callback is over."""


def keep_interrupts() -> None:
    """From now on, send a Ctrl-C that was lost once more. Call from the main thread."""
    usual = sys.unraisablehook
    main = _thread.get_ident()

    def told(lost: sys.UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            # Not with `threading`, whose locks the interrupted code may hold.
            _thread.start_new_thread(_send_again, (main,))
        else:
            usual(lost)

    sys.unraisablehook = told


def _send_again(thread: int) -> None:
    time.sleep(_LATER)
    # A signal, since it also wakes a thread that sleeps or waits for an answer.
    signal.pthread_kill(thread, signal.SIGINT)
