"""Which file an event goes to. Pure: nothing here looks at the disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from connectors.contracts import Outgoing
from connectors.errors import FatalError, PenstockError, PermanentError

Render = Callable[[Mapping[str, Any]], str]

_ACTION = re.compile(r"\{\{\s*\.([a-z0-9]+)\s*\}\}")


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
        fixed, braces, _ = path.partition("{{")
        self.folder = os.path.abspath(os.path.dirname(fixed))  # noqa: PTH100,PTH120 - see below
        self._written = path
        self._writer = writer
        self._cache: dict[tuple[Any, ...], str] = {}
        self._names: tuple[str, ...] | None = None
        self._render: Render | None = None
        self.constant: str | None = None
        self._skip = len(fixed) - len(os.path.basename(fixed))  # noqa: PTH119
        # os.path instead of pathlib, which would quietly drop the empty and "." segments that
        # are refused here.
        if not braces:
            try:
                self.constant = self._checked(path)
            except PermanentError as error:
                raise FatalError(error.message, code=error.code, hint=error.hint) from error
            return
        if compile_template is None:
            raise FatalError(
                f"the path {path} is a template, and there is nothing to render it with.",
                code="file_path",
                hint="Open the sink with SinkOpening.compile_template.",
            )
        self._render = compile_template(path)
        names = _ACTION.findall(path)
        if len(names) == path.count("{{"):
            self._names = tuple(names)

    def group(self, events: Outgoing) -> tuple[dict[str, Sequence[int]], dict[int, PenstockError]]:
        """Return path → places in `events`, and the events that have no usable path."""
        count = len(events)
        if self.constant is not None:
            return {self.constant: range(count)}, {}
        attributes = events.attributes()
        if events.topic is not None:
            attributes = {**attributes, "topic": events.topic}
        if self._names is not None and all(name in attributes for name in self._names):
            return self._group_by_attributes(attributes, count)
        groups: dict[str, list[int]] = {}
        failures: dict[int, PenstockError] = {}
        for index in range(count):
            try:
                value = events.values[index]
                context = _attributes_of(attributes, index)
                context["data"] = None if value is None else orjson.loads(value)
                path = self._rendered(context)
            except PermanentError as error:
                failures[index] = error
            else:
                groups.setdefault(path, []).append(index)
        return dict(groups), failures

    def _group_by_attributes(
        self, attributes: Mapping[str, Any], count: int
    ) -> tuple[dict[str, Sequence[int]], dict[int, PenstockError]]:
        """Group a template that only names attributes: rendered once per combination of them."""
        names = self._names or ()
        columns = [attributes[name] for name in names]
        groups: dict[str, Sequence[int]] = {}
        failures: dict[int, PenstockError] = {}
        combinations: dict[tuple[Any, ...], Sequence[int]] = {}
        if not any(isinstance(column, list) for column in columns):
            combinations[tuple(columns)] = range(count)
        else:
            listed = [c if isinstance(c, list) else [c] * count for c in columns]
            places: dict[tuple[Any, ...], list[int]] = {}
            for index, values in enumerate(zip(*listed, strict=True)):
                places.setdefault(values, []).append(index)
            combinations.update(places)
        for values, indexes in combinations.items():
            try:
                path = self._cache.get(values)
                if path is None:
                    context = {n: v for n, v in zip(names, values, strict=True) if v is not None}
                    path = self._rendered(context)
                    if len(self._cache) < 10_000:
                        self._cache[values] = path
            except PermanentError as error:
                failures.update(dict.fromkeys(indexes, error))
            else:
                # Two combinations may render to the same path.
                groups[path] = sorted([*groups[path], *indexes]) if path in groups else indexes
        return groups, failures

    def _rendered(self, context: Mapping[str, Any]) -> str:
        render = self._render
        assert render is not None  # noqa: S101 - a constant path is never rendered
        return self._checked(render(context))

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
        path = os.path.join(self.folder, inner)  # noqa: PTH118
        return labelled(path, self._writer) if self._writer else path


def labelled(path: str, label: str) -> str:
    """Return the path with `.label` before its extension: orders.jsonl → orders.2.jsonl."""
    stem, extension = os.path.splitext(path)  # noqa: PTH122 - text in, text out
    return f"{stem}.{label}{extension}"


def _attributes_of(attributes: Mapping[str, Any], index: int) -> dict[str, Any]:
    found = {}
    for name, value in attributes.items():
        entry = value[index] if isinstance(value, list) else value
        if entry is not None:
            found[name] = entry
    return found


def _encodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
