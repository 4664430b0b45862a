"""What a user sees when something is wrong: a message, a hint, an exit code. No traceback."""

from __future__ import annotations

import os
import sys

from connectors.errors import FatalError, FlowFileError, PenstockError, RetryableError
from flows.runtime import exits
from flows.spec.secrets import Secrets
from penstock.cli.output import printable

BUG = 70
"""Exit code of a defect of Penstock itself (EX_SOFTWARE of sysexits.h)."""

PIPE_CLOSED = 141
"""Exit code when whoever read our output has stopped reading: what SIGPIPE would have given."""


def report_error(error: PenstockError) -> int:
    """Print the error to stderr; return the exit code of its kind.

    Of a flow that does not load, every problem is shown with its place first.
    """
    if hasattr(error, "problems"):
        print(f"{error}\n", file=sys.stderr)
    print_error(error.code, error.message, error.hint)
    return exit_code(error)


def exit_code(error: PenstockError) -> int:
    """Return the exit code of an error's kind."""
    if isinstance(error, FlowFileError):
        return exits.USAGE
    if isinstance(error, RetryableError) or (isinstance(error, FatalError) and error.unreachable):
        return exits.UNREACHABLE
    return exits.FATAL


def print_error(code: str, message: str, hint: str = "") -> None:
    """Print `error[code]: message` and the hint below it to stderr."""
    # The flow's own secrets are masked where they are known; this is for a URL that was typed in.
    redact = Secrets().redact
    print(f"{_red(f'error[{code}]')}: {printable(redact(message))}", file=sys.stderr)
    for line in redact(hint).splitlines():
        print(f"  {printable(line)}", file=sys.stderr)


def print_bug(error: BaseException) -> None:
    """Print that this is our fault and how to report it; the stack only with PENSTOCK_DEBUG=1."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if os.environ.get("PENSTOCK_DEBUG") == "1":
        import traceback  # noqa: PLC0415 - needed only here

        traceback.print_exception(type(error), error, error.__traceback__)
    print_error(
        "bug",
        f"Penstock broke: {what}.",
        "This is a defect of Penstock, not of your flow. Run the command again with\n"
        "PENSTOCK_DEBUG=1 and report what it prints, with `penstock --version`.",
    )


def _red(text: str) -> str:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[1;31m{text}\x1b[0m"
    return text
