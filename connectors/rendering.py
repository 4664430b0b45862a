"""A sink's template rendered over outgoing events: a file's path, a webhook's URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from connectors.contracts import Outgoing
from connectors.errors import FatalError, PenstockError, PermanentError

Render = Callable[[Mapping[str, Any]], str]
Groups = dict[str, Sequence[int]]

_ACTION = re.compile(r"\{\{\s*\.([a-z0-9]+)\s*\}\}")
_REMEMBERED = 10_000


class EventTemplate:
    """Text with `{{ … }}` over an event's attributes, `data` and the publish step's `topic`."""

    def __init__(self, text: str, compile_template: Callable[[str], Render] | None) -> None:
        """Compile it. Raises FatalError when it needs a compiler and there is none."""
        self.text = text
        self.constant = "{{" not in text
        self._render: Render | None = None
        self._names: tuple[str, ...] | None = None
        self._remembered: dict[tuple[Any, ...], str] = {}
        if self.constant:
            return
        self._render = compiled(text, compile_template)
        names = _ACTION.findall(text)
        if len(names) == text.count("{{") and "data" not in names:
            self._names = tuple(names)

    def group(self, events: Outgoing) -> tuple[Groups, dict[int, PenstockError]]:
        """Return rendered text → places in `events`, and those it can't be rendered for."""
        if self.constant:
            return {self.text: range(len(events))}, {}
        attributes = events.attributes()
        if events.topic is not None:
            attributes = {**attributes, "topic": events.topic}
        if self._names is not None and all(name in attributes for name in self._names):
            return self._group_by_attributes(self._names, attributes, len(events))
        groups: dict[str, list[int]] = {}
        failures: dict[int, PenstockError] = {}
        for index, value in enumerate(events.values):
            context = context_of(attributes, value, index)
            try:
                groups.setdefault(self._rendered(context), []).append(index)
            except PermanentError as error:
                failures[index] = error
        return {**groups}, failures

    def _group_by_attributes(
        self, names: tuple[str, ...], attributes: Mapping[str, Any], count: int
    ) -> tuple[Groups, dict[int, PenstockError]]:
        """Group by a template that only names attributes: rendered once per combination of them."""
        columns = [attributes[name] for name in names]
        places: dict[tuple[Any, ...], Sequence[int]] = {}
        if any(isinstance(column, list) for column in columns):
            listed = [c if isinstance(c, list) else [c] * count for c in columns]
            found: dict[tuple[Any, ...], list[int]] = {}
            for index, values in enumerate(zip(*listed, strict=True)):
                found.setdefault(values, []).append(index)
            places.update(found)
        else:
            places[tuple(columns)] = range(count)
        groups: Groups = {}
        failures: dict[int, PenstockError] = {}
        for values, indexes in places.items():
            rendered = self._remembered.get(values)
            if rendered is None:
                context = {n: v for n, v in zip(names, values, strict=True) if v is not None}
                try:
                    rendered = self._rendered(context)
                except PermanentError as error:
                    failures.update(dict.fromkeys(indexes, error))
                    continue
                if len(self._remembered) < _REMEMBERED:
                    self._remembered[values] = rendered
            # Two combinations may render to the same text.
            groups[rendered] = sorted([*groups.get(rendered, ()), *indexes])
        return groups, failures

    def _rendered(self, context: Mapping[str, Any]) -> str:
        render = self._render
        assert render is not None  # noqa: S101 - a constant text is never rendered
        return render(context)


def context_of(attributes: Mapping[str, Any], value: bytes | None, index: int) -> dict[str, Any]:
    """Return what an event's templates are rendered over: its attributes, and `data`."""
    found = {}
    for name, column in attributes.items():
        entry = column[index] if isinstance(column, list) else column
        if entry is not None:
            found[name] = entry
    found["data"] = None if value is None else orjson.loads(value)
    return found


def escaped(value: Any, escape: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it escaped."""
    match value:
        case str():
            return escape(value)
        case dict():
            return {name: escaped(inner, escape) for name, inner in value.items()}
        case list():
            return [escaped(inner, escape) for inner in value]
        case _:
            return value


def compiled(text: str, compile_template: Callable[[str], Render] | None) -> Render:
    """Compile one template. Raises FatalError when it needs a compiler and there is none."""
    if "{{" not in text:
        return lambda _context: text
    if compile_template is None:
        raise FatalError(
            f"{text} is a template, and there is nothing to render it with.",
            code="template_compiler",
            hint="Open the sink with SinkOpening.compile_template.",
        )
    return compile_template(text)
