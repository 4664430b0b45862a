"""Client libraries that only some connectors need: extras of the wheel, and what to say without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.errors import FlowFileError


@contextmanager
def importing(extra: str, what: str) -> Iterator[None]:
    """Raise FlowFileError with the command that installs `extra` where the block can't import `what`'s client.

    An import of ours that fails stays what it is: a fault, and not a missing library.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "connectors"}:
            raise
        raise FlowFileError(
            f"{what} needs the library {missing}, which is not installed.",
            code="extra_missing",
            hint=f"pip install 'penstock[{extra}]'",
        ) from error
