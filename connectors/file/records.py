"""From a file's bytes to its records: lines, or rows of CSV that go over several (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Records:
    """Records that stand one behind another, and where each ends."""

    texts: Sequence[bytes]
    """Without their line ends."""
    ends: Sequence[int]
    """Offset behind each."""
    numbers: Sequence[int]
    """Number of the first line of each, from 1."""
    lines: int
    """Lines of the file up to their end, blank ones too."""
    end: int
    """Offset behind all of them, and behind blank lines that follow."""

    def __len__(self) -> int:
        return len(self.texts)


def split(
    content: bytes, offset: int, lines: int, *, quote: bytes = b"", keep_blank: bool = False
) -> Records:
    """Return the records of `content`, which begins at `offset` and ends behind a line feed.

    `quote`: what a row of CSV may put around line feeds; then what is open at the end is left out.
    """
    if not content:
        return Records([], [], [], lines, offset)
    texts = content.split(b"\n")
    texts.pop()  # what is behind the last line feed: nothing
    ends = list(accumulate([len(text) + 1 for text in texts], initial=offset))[1:]
    numbers: Sequence[int] = range(lines + 1, lines + 1 + len(texts))
    total, end = lines + len(texts), ends[-1]
    if quote and quote in content:
        texts, ends, numbers = _joined(texts, ends, numbers, quote)
        if not texts:
            return Records([], [], [], lines, offset)
        end = ends[-1]
        total = lines + content[: end - offset].count(b"\n")
    if b"\r" in content:
        texts = [text.removesuffix(b"\r") for text in texts]
    if not keep_blank and (b"" in texts or b" " in content):
        kept = [k for k, text in enumerate(texts) if text and not text.isspace()]
        if len(kept) != len(texts):
            texts = [texts[k] for k in kept]
            ends = [ends[k] for k in kept]
            numbers = [numbers[k] for k in kept]
    return Records(texts, ends, numbers, total, end)


def _joined(
    texts: Sequence[bytes], ends: Sequence[int], numbers: Sequence[int], quote: bytes
) -> tuple[list[bytes], list[int], list[int]]:
    """Join lines while a quote is open: a quote within quotes is doubled, so they are counted."""
    found: tuple[list[bytes], list[int], list[int]] = ([], [], [])
    parts: list[bytes] = []
    is_open = False
    for text, end, number in zip(texts, ends, numbers, strict=True):
        if not parts:
            first = number
        parts.append(text)
        is_open ^= text.count(quote) % 2 == 1
        if not is_open:
            found[0].append(parts[0] if len(parts) == 1 else b"\n".join(parts))
            found[1].append(end)
            found[2].append(first)
            parts = []
    return found
