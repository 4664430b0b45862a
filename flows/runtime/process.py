"""The entry of a worker's process: `python -m flows.runtime.process ORDER`.

structlog imports rich if it is there, for tracebacks in colour: 12 MB that a worker, whose log goes
through a pipe, has no use for. So rich is hidden before anything is imported.
"""

from __future__ import annotations

import gc
import signal
import sys

if __name__ == "__main__":
    # The terminal's Ctrl-C is the supervisor's to answer; it comes blocked (see supervisor.py), so
    # that none kills us before this line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.modules["rich"] = None  # type: ignore[assignment]  # importing it raises ImportError now
    gc.set_threshold(100_000, 10, 10)  # what is imported stays
    from flows.runtime.teardown import Ending

    ending = Ending()
    from flows.runtime.worker import main

    sys.exit(ending(main(sys.argv[1])))
