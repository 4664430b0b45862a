"""The entry point of `penstock` and `python -m penstock`.

It is read by whatever Python is there, so nothing above `main` may need a fitting one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial

OLDEST, TOO_NEW = (3, 10), (3, 13)


def unsupported(version: tuple[int, int]) -> str | None:
    """Return what to tell the user of a Python that Penstock can't run on; None if it can."""
    if OLDEST <= version < TOO_NEW:
        return None
    return (
        "Penstock needs Python 3.10, 3.11 or 3.12 (Bytewax 0.21.1 has no wheel for 3.13); "
        f"found {version[0]}.{version[1]}."
    )


def main() -> int:
    """Run the command line; return its exit code."""
    refusal = unsupported(sys.version_info[:2])
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return 2
    # What is imported and compiled stays: looking through it for garbage takes a tenth of a start.
    gc.set_threshold(100_000, 10, 10)
    try:
        from flows.runtime.teardown import Ending  # noqa: PLC0415 - needs a fitting Python
        from penstock.cli.interrupts import keep_interrupts  # noqa: PLC0415

        ending = Ending()
        keep_interrupts()
        command = _command(sys.argv[1:])
    except KeyboardInterrupt:
        return 130  # as flows.runtime.exits.INTERRUPTED, which is still being imported
    return ending(command())


def _command(arguments: list[str]) -> Callable[[], int]:
    from penstock.cli.ending import ended  # noqa: PLC0415 - needs a fitting Python
    from penstock.cli.testing import plain_call  # noqa: PLC0415

    call = plain_call(arguments)
    if call is not None:
        return partial(ended, call)
    from penstock.cli.app import main as run  # noqa: PLC0415 - takes 60 ms to import

    return partial(run, arguments)


if __name__ == "__main__":
    sys.exit(main())
