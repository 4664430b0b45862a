"""Which file an event goes to. Pure: nothing here looks at the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from connectors.contracts import Outgoing
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.rendering import EventTemplate, Render

# os.path, and not pathlib, which would quietly drop the empty and "." parts refused here.
# ruff: noqa: PTH100, PTH118, PTH119, PTH120, PTH122


class PathRule:
    """Renders the template `path` and holds each result inside the folder it begins with."""

    def __init__(
        self,
        path: str,
        *,
        writer: str = "",
        compile_template: Callable[[str], Render] | None = None,
    ) -> None:
        """`writer` goes before the extension. Raises FatalError for a path that can't be used."""
        fixed = path.partition("{{")[0]
        self.folder = os.path.abspath(os.path.dirname(fixed))
        self._written = path
        self._writer = writer
        self._skip = len(fixed) - len(os.path.basename(fixed))
        self._template = EventTemplate(path, compile_template)
        self.constant: str | None = None
        """The one path, where the template has no `{{ … }}`."""
        if self._template.constant:
            try:
                self.constant = self._checked(path)
            except PermanentError as error:
                raise FatalError(error.message, code=error.code, hint=error.hint) from error

    def group(self, events: Outgoing) -> tuple[dict[str, Sequence[int]], dict[int, PenstockError]]:
        """Return path → places in `events`, and the events that have no usable path."""
        if self.constant is not None:
            return {self.constant: range(len(events))}, {}
        rendered, failures = self._template.group(events)
        groups: dict[str, Sequence[int]] = {}
        for text, indexes in rendered.items():
            try:
                groups[self._checked(text)] = indexes
            except PermanentError as error:
                failures.update(dict.fromkeys(indexes, error))
        return groups, failures

    def _checked(self, rendered: str) -> str:
        """Return the absolute path. Raises PermanentError when it leaves the folder."""
        inner = rendered[self._skip :]
        segments = inner.split("/")
        if (
            "\x00" in rendered
            or any(segment in {"", ".", ".."} for segment in segments)
            or not _encodable(rendered)
        ):
            raise PermanentError(
                f"the event's path {rendered[:200]!r} is not one inside {self.folder}.",
                code="file_path",
                hint=f"Check what {self._written} renders to: no empty part, no . or .. in it.",
            )
        path = os.path.join(self.folder, inner)
        return labelled(path, self._writer) if self._writer else path


def labelled(path: str, label: str) -> str:
    """Return the path with `.label` before its extension: orders.jsonl → orders.2.jsonl."""
    stem, extension = os.path.splitext(path)
    return f"{stem}.{label}{extension}"


def _encodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
