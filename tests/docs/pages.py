"""Reads the documentation: its pages, their code blocks with the comment before them, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    mark: str
    """What an HTML comment on the line before says: `fragment: steps`."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """Return the code blocks of all pages that are in one of the languages."""
    found = []
    for page in PAGES:
        text = read(page)
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("text"))
            block = Block(page, line, match["language"], match["mark"] or "", match["text"])
            if block.language in languages:
                found.append(block)
    return found


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", read(page))


def anchors(page: str) -> set[str]:
    """Return what `#…` may name in a page: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
