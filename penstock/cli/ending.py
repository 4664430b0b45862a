"""The end of every command: its exit code, and what its user sees of an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from connectors.errors import PenstockError
from flows.runtime import exits
from penstock.cli.errors import BUG, PIPE_CLOSED, print_bug, report_error


def ended(command: Callable[[], int]) -> int:
    """Run a command; return its exit code. Nothing is raised."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except PenstockError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as end:
        # typer and rich answer a closed pipe with exit code 1, where the reason can't be told
        if isinstance(end.__context__, BrokenPipeError):
            return _pipe_closed()
        return end.code if isinstance(end.code, int) else exits.DONE
    except Exception as error:  # noqa: BLE001 - the last stop: everything else is a defect
        print_bug(error)
        return BUG


def _pipe_closed() -> int:
    """End quietly: nobody reads what is left, and Python would complain of it at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
