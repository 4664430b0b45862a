"""Finds the place in the file of a character of a scalar's value.

An expression's error says at which character of its text it is; the text was written plain,
quoted, or as a block, where indentation and line breaks are not part of the value as they stand.
What every style keeps is the order of the characters that are not white space, so the n-th of
those in the value is the n-th in the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.spec.nodes import Scalar
from flows.spec.problems import Place

_ESCAPE_LENGTHS = {"x": 4, "u": 6, "U": 10}


def place_of(scalar: Scalar, offset: int) -> Place:
    """Return the place of the character `offset` of the scalar's value."""
    start, end = scalar.span
    text = scalar.source.text
    if text[start : start + 1] == "!":
        return scalar.place
    offset = _before_substitution(scalar, offset)
    raw = scalar.raw
    offset = max(0, min(offset, len(raw)))
    skipped = sum(1 for character in raw[:offset] if not character.isspace())
    last = start
    for index, character in _characters(text, start, end, scalar.style):
        if character.isspace():
            continue
        if skipped == 0:
            if offset < len(raw) and not raw[offset].isspace():
                return _place(scalar, index)
            break
        skipped -= 1
        last = index
    since = offset - len(raw[:offset].rstrip())
    line_end = text.find("\n", last)
    limit = len(text) if line_end < 0 else line_end
    return _place(scalar, min(last + 1 + since, limit))


def _before_substitution(scalar: Scalar, offset: int) -> int:
    """Return where `offset` of the value was before `${…}` were replaced."""
    grown = 0
    for edit in scalar.edits:
        made_at = edit.start + grown
        if offset < made_at:
            break
        if offset < made_at + edit.made:
            return edit.start
        grown += edit.made - edit.length
    return offset - grown


def _characters(text: str, start: int, end: int, style: str | None) -> Iterator[tuple[int, str]]:
    """Yield (place in `text`, character) of what a scalar's text stands for."""
    if style in {"|", ">"}:
        header_end = text.find("\n", start, end)
        if header_end >= 0:
            for index in range(header_end + 1, end):
                yield index, text[index]
    elif style == "'":
        index = start + 1
        while index < end - 1:
            yield index, text[index]
            index += 2 if text[index] == "'" else 1
    elif style == '"':
        yield from _double_quoted(text, start + 1, end - 1)
    else:
        for index in range(start, end):
            yield index, text[index]


def _double_quoted(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    index = start
    while index < end:
        if text[index] != "\\":
            yield index, text[index]
            index += 1
            continue
        letter = text[index + 1]
        # Escapes of white space stand for white space; the rest for one visible character.
        yield index, " " if letter in "ntrvfNLP_ \n\t" else letter
        index += _ESCAPE_LENGTHS.get(letter, 2)


def _place(scalar: Scalar, index: int) -> Place:
    text = scalar.source.text
    line_start = text.rfind("\n", 0, index) + 1
    return Place(scalar.place.file, text.count("\n", 0, index) + 1, index - line_start + 1)
