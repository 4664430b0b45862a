"""The end of a process: all that Python does at an exit, but for taking the interpreter apart.

Threads that are daemons, ours and those of libraries, may still run then. They hold up no exit, but
one that comes out of C code while the interpreter is taken apart, as SQLite closing a file, can end
the process with a segmentation fault instead of its exit code. It also takes 50 ms and more.
"""

from __future__ import annotations

import atexit
import os
import sys


class Ending:
    """Ends the process with the code it was given last.

    Made before anything else asks `atexit` for something: what was asked for first is done last. By
    then all other threads have been waited for.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        atexit.register(self._end)

    def __call__(self, code: int) -> int:
        """Take the exit code, and return it. Without one, Python ends as ever."""
        self._code = code
        return code

    def _end(self) -> None:
        if self._code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                return  # Python complains of it, and has an exit code for it
        os._exit(self._code)
