"""Which source a path leads to; a segment `{name}` takes any text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Target = TypeVar("Target")

_PARAMETER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Found(Generic[Target]):
    """What a path leads to: targets by method, and the parameters' values."""

    methods: Mapping[str, Target]
    parameters: Mapping[str, str]


def shape_of(path: str) -> str:
    """Return the path without what makes no difference: parameters' names, a slash at the end."""
    return _PARAMETER.sub("{}", path.rstrip("/") or "/")


class Routes(Generic[Target]):
    """Paths, and what each leads to for which methods."""

    def __init__(self, routes: Iterable[tuple[str, Iterable[str], Target]]) -> None:
        """Of two routes with one shape and method the first counts: load refuses such flows."""
        self._plain: dict[str, dict[str, Target]] = {}
        patterns: dict[str, tuple[re.Pattern[str], dict[str, Target]]] = {}
        for path, methods, target in routes:
            shape = shape_of(path)
            if "{}" not in shape:
                known = self._plain.setdefault(shape, {})
            else:
                # Each shape once: names of parameters may differ by method, so they are numbered.
                known = patterns.setdefault(shape, (_pattern(path), {}))[1]
            for method in methods:
                known.setdefault(method, target)
        # Of those that fit, the one with most text of its own: /orders/{id}/lines before /{a}/{b}/{c}.
        self._patterns = [
            patterns[shape] for shape in sorted(patterns, key=lambda s: (s.count("{}"), -len(s)))
        ]

    def find(self, path: str) -> Found[Target] | None:
        """Return what a path leads to; None where there is nothing."""
        path = path.rstrip("/") or "/"
        plain = self._plain.get(path)
        if plain is not None:
            return Found(plain, {})
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return Found(methods, match.groupdict())
        return None


def _pattern(path: str) -> re.Pattern[str]:
    pieces = _PARAMETER.split(path.rstrip("/") or "/")
    text = "".join(
        f"(?P<{piece}>[^/]+)" if place % 2 else re.escape(piece)
        for place, piece in enumerate(pieces)
    )
    return re.compile(text)
