"""Writes events to standard output; nothing is kept, so a redelivered event is printed again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, Literal

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError
from connectors.jsonlines import joined, lines_of
from connectors.settings import Settings


class StdoutSettings(Settings):
    """Configuration of `sink.stdout`."""

    format: Literal["json", "cloudevents_json"] = "cloudevents_json"
    """What a line holds: the data, or the CloudEvent."""


class StdoutSink:
    """The sink; `stream` stands in for standard output where a caller has another one."""

    def __init__(
        self, name: str, settings: StdoutSettings, *, stream: BinaryIO | None = None
    ) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="at_least_once",
            embeds=settings.format == "cloudevents_json",
        )
        self._given = stream
        self._stream: BinaryIO | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has none
        """Look whether standard output is open."""
        is_open = self._given is not None or sys.stdout is not None
        yield Check(
            "standard output",
            ok=is_open,
            found="open" if is_open else "closed",
            hint="" if is_open else "Start without `>&-`, or use sink.file.",
        )

    def open(self, opening: SinkOpening) -> None:  # noqa: ARG002 - nothing is kept between runs
        """Take the stream. Raises FatalError when standard output is closed."""
        if self._given is None and sys.stdout is None:
            raise FatalError(
                "standard output is closed.",
                code="stdout_closed",
                hint="Start without `>&-`, or use sink.file.",
            )
        self._stream = self._given or sys.stdout.buffer

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Print the events and flush; once the reader is gone, every event gets a FatalError."""
        stream = self._stream
        if not len(events) or stream is None:
            return {}
        try:
            stream.write(joined(lines_of(events, self._settings.format)))
            stream.flush()
        except (OSError, ValueError) as error:
            return dict.fromkeys(range(len(events)), self._gone(error))
        return {}

    def _gone(self, error: Exception) -> FatalError:
        if self._given is None:
            # What is still buffered has no reader; without this, Python prints a traceback for
            # it when the interpreter flushes standard output at exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        reader_left = isinstance(error, (BrokenPipeError, ValueError))
        return FatalError(
            "standard output was closed by its reader."
            if reader_left
            else f"can't write to standard output: {error}.",
            code="stdout_closed",
            hint="Events that are to outlive their reader belong in sink.file.",
        )

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: a terminal can't be cut back."""
        return None

    def close(self) -> None:
        """Leave standard output open: it is not ours."""
        self._stream = None
