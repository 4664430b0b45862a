"""What is wrong with a flow file: each problem with its place, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from connectors.errors import FlowFileError
from flows.spec.secrets import Secrets

_WIDTH = 100
"""Longest part of a line that is shown."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a flow file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, what was expected there and what to do."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    code: str = "flow_invalid"
    excerpt: str = ""
    """The offending line, secrets masked."""
    width: int = 1
    """How many characters from `column` on are meant."""

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.file}:{self.line}:{self.column}: {self.message}"]
        if self.excerpt.strip():
            text, column = self.excerpt.replace("\t", " "), self.column - 1
            if len(text) > _WIDTH:
                cut = max(0, min(column - _WIDTH // 2, len(text) - _WIDTH))
                text, column = text[cut : cut + _WIDTH], column - cut
            number = str(self.line)
            carets = "^" * max(1, min(self.width, len(text) - column))
            lines += [f"  {number} | {text}", f"  {' ' * len(number)} | {' ' * column}{carets}"]
        lines += [f"  {line}" for line in self.hint.splitlines()]
        return "\n".join(lines)


class FlowErrors(FlowFileError):  # noqa: N818 - one exception, many problems
    """A flow does not load: `problems` holds everything that is wrong with its files."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} in the flow file.",
            code=problems[0].code if count == 1 else "flow_invalid",
        )
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the problems as JSON values."""
        return [problem.as_dict() for problem in self.problems]


class Problems:
    """Collects problems while a flow is read; each only once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}
        self._lines: dict[str, list[str]] = {}
        self.secrets = Secrets()
        self.written_secrets = Secrets()
        """Those that stand in the files themselves."""

    def __len__(self) -> int:
        return len(self._found)

    def know(self, file: str, lines: list[str]) -> None:
        """Remember a file's lines, to show the one that a problem is on."""
        self._lines[file] = lines

    def files(self) -> list[str]:
        """Return the files that were read, in order."""
        return list(self._lines)

    def add(self, place: Place, message: str, *, code: str, hint: str = "", width: int = 1) -> None:
        """Add a problem at a place."""
        problem = Problem(place.file, place.line, place.column, message, hint, code, width=width)
        self._found.setdefault(problem)

    def make(
        self, place: Place, message: str, *, code: str, hint: str = "", width: int = 1
    ) -> Problem:
        """Return a problem with its line, secrets masked, without adding it."""
        return self._shown(
            Problem(place.file, place.line, place.column, message, hint, code, width=width)
        )

    def found(self) -> list[Problem]:
        """Return the problems in the order of files and lines, secrets masked."""
        order = {file: number for number, file in enumerate(self._lines)}
        return sorted(
            (self._shown(problem) for problem in self._found),
            key=lambda p: (order.get(p.file, -1), p.line, p.column),
        )

    def raise_if_any(self) -> None:
        """Raise FlowErrors with everything found so far, if there is anything."""
        if self._found:
            raise FlowErrors(self.found())

    def _shown(self, problem: Problem) -> Problem:
        lines = self._lines.get(problem.file, [])
        line = lines[problem.line - 1] if 0 < problem.line <= len(lines) else ""
        redact = self.secrets.redact
        return replace(
            problem,
            message=redact(problem.message),
            hint=redact(problem.hint),
            excerpt=self.secrets.redact_line(line),
        )


def close_name(name: str, valid: Iterable[str]) -> str:
    """Return the valid name that `name` is probably meant to be, "" when none is close."""
    folded = {candidate.lower().replace("-", "_"): candidate for candidate in sorted(set(valid))}
    close = get_close_matches(name.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def did_you_mean(name: str, valid: Iterable[str], *, none: str = "") -> str:
    """Return "Did you mean …?", or else which names are valid; `none` when there are none."""
    names = sorted(set(valid))
    if not names:
        return none
    close = close_name(name, names)
    if close:
        return f"Did you mean {close}?"
    shown = ", ".join(names[:20])
    return f"Valid here: {shown}{', …' if len(names) > 20 else ''}."
