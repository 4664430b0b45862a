"""jq's own format for tests: a program, its input and its outputs, a line each.

    # a comment; blank lines and comments end a case
    .[] | . + 1
    [1, 2]
    2
    3

    %%FAIL
    .a b
    jq: error: what jq says of it, and where

`%%FAIL IGNORE MSG` does not say what jq says. A comment right above a program that begins with
`#:` says of a case of ours that libjq answers otherwise, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_DEPARTS = "#:"


@dataclass(frozen=True)
class Case:
    """One case of a file."""

    file: str
    line: int
    program: str
    input: str | None
    """None where the program must not compile."""
    expected: list[str] = field(default_factory=list)
    """The outputs, or what jq says of the program."""
    message_matters: bool = False
    departs: str | None = None
    """Why libjq answers otherwise."""

    @property
    def place(self) -> str:
        """The file and line, as editors read it."""
        return f"{self.file}:{self.line}"


def read_cases(path: Path) -> Iterator[Case]:
    """Yield the cases of a file. Raises ValueError for a program without an input."""
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
    must_fail: str | None = None
    departs: str | None = None
    for number, line in lines:
        if line.startswith(_DEPARTS):
            departs = line.removeprefix(_DEPARTS).strip()
        if _skipped(line):
            continue
        if line in {"%%FAIL", "%%FAIL IGNORE MSG"}:
            must_fail = line
            continue
        following: list[str] = []
        for _, after in lines:
            if _skipped(after) and (following or must_fail):
                break
            following.append(after)
        if must_fail:
            matters = must_fail == "%%FAIL"
            yield Case(path.name, number, line, None, following, matters, departs)
        elif not following:
            raise ValueError(f"{path}:{number}: a program without an input")
        else:
            yield Case(path.name, number, line, following[0], following[1:], departs=departs)
        must_fail = departs = None


def _skipped(line: str) -> bool:
    start = line.lstrip(" \t")
    return not start or start.startswith("#")
