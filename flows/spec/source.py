"""Reads YAML 1.2 files into trees of nodes with places; says what is wrong in plain words.

Composed from ruamel.yaml's events, so that duplicate keys, aliases and the place of every key
and value are ours to see. Plain scalars follow YAML 1.2's core schema: `NO` and `2026-11-01` are
text, whatever a `%YAML` directive says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from flows.spec.nodes import Entry, Mapping, Node, Scalar, Sequence, SourceText
from flows.spec.problems import Place, Problems

_MOST_NODES = 200_000
_DEEPEST = 100
"""Bounds, aliases counted as what they stand for: a small file can't fill the memory."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_TAG = "tag:yaml.org,2002:"


def read_documents(path: Path, problems: Problems) -> list[Node]:
    """Return the documents of a file; what is wrong goes to `problems`, and then [] comes back."""
    file = str(path)
    start = Place(file, 1, 1)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        problems.add(
            start,
            "there is no such file.",
            code="file_missing",
            hint="Check the path; `penstock init` writes a flow file to start from.",
        )
        return []
    except IsADirectoryError:
        problems.add(
            start,
            "this is a folder; expected a flow file.",
            code="file_unreadable",
            hint="Name the files in it, such as flows/*.yaml.",
        )
        return []
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problems.add(
            start,
            f"the file can't be read: {reason}.",
            code="file_unreadable",
            hint="Check its permissions and owner.",
        )
        return []
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line = before.count("\n") + 1
        problems.add(
            Place(file, line, len(before) - before.rfind("\n")),
            f"the file is not UTF-8 text: byte 0x{content[error.start]:02x}.",
            code="file_not_utf8",
            hint="Save it as UTF-8.",
        )
        return []
    return read_text(text, file, problems)


def read_text(text: str, file: str, problems: Problems) -> list[Node]:
    """Return the documents of a YAML text; `file` names it in problems."""
    problems.know(file, text.split("\n"))
    if not text.strip():
        problems.add(
            Place(file, 1, 1),
            "the file is empty.",
            code="file_empty",
            hint="`penstock init` writes a flow file to start from.",
        )
        return []
    before = len(problems)
    try:
        documents = list(_Composer(text, file, problems).documents())
    except _TooMuchError as error:
        problems.add(error.place, f"{error}.", code="yaml_too_large", hint="Split the file.")
        return []
    except ReaderError as error:
        at = _place_of_index(text, file, int(error.position))
        problems.add(
            at,
            f"the character U+{int(error.character):04X} may not stand in YAML.",
            code="yaml_syntax",
            hint="Delete it, or write it as an escape in double quotes.",
        )
        return []
    except MarkedYAMLError as error:
        _explain(error, text, file, problems)
        return []
    except YAMLError as error:
        problems.add(Place(file, 1, 1), f"this is not YAML: {error}.", code="yaml_syntax")
        return []
    if not documents and len(problems) == before:
        problems.add(
            Place(file, 1, 1),
            "the file holds nothing but comments.",
            code="file_empty",
            hint="`penstock init` writes a flow file to start from.",
        )
    return documents


class _TooMuchError(Exception):
    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


class _Composer:
    """Builds nodes from parser events."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._source = SourceText(file, text)
        self._problems = problems
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def documents(self) -> Iterator[Node]:
        """Yield each document that holds something."""
        for event in self._events:
            match event:
                case StreamStartEvent() | DocumentEndEvent():
                    continue
                case DocumentStartEvent():
                    self._anchors.clear()
                    node = self._node(next(self._events), 0)
                    if not (isinstance(node, Scalar) and node.value is None):
                        yield node
                case StreamEndEvent():
                    return

    def _node(self, event: Any, depth: int) -> Node:
        place = self._place(event.start_mark)
        self._count += 1
        if depth > _DEEPEST:
            raise _TooMuchError(place, f"values are nested more than {_DEEPEST} deep")
        if self._count > _MOST_NODES:
            raise _TooMuchError(place, f"the file holds more than {_MOST_NODES} values")
        if isinstance(event, AliasEvent):
            return self._alias(event, place)
        before = self._count
        node: Node
        match event:
            case ScalarEvent():
                node = self._scalar(event, place)
            case SequenceStartEvent():
                self._check_tag(event, "seq", place)
                node = Sequence(place)
                while not isinstance(inner := next(self._events), SequenceEndEvent):
                    node.items.append(self._node(inner, depth + 1))
            case MappingStartEvent():
                self._check_tag(event, "map", place)
                node = self._mapping(place, depth)
            case _:  # pragma: no cover - the parser yields no other event here
                raise AssertionError(event)
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - before + 1)
        return node

    def _alias(self, event: Any, place: Place) -> Node:
        known = self._anchors.get(event.anchor)
        if known is None:
            self._problems.add(
                place,
                f"*{event.anchor} refers to an anchor that is not defined above it.",
                code="yaml_syntax",
                hint=f"Define it with &{event.anchor}, or put text that starts with * in quotes.",
                width=len(event.anchor) + 1,
            )
            return Scalar(None, place, self._source, self._span(event), None, "")
        node, size = known
        self._count += size
        return node

    def _mapping(self, place: Place, depth: int) -> Mapping:
        node = Mapping(place)
        inherited: list[Node] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._problems.add(
                    key.place,
                    "a key must be text, not a list or a mapping.",
                    code="yaml_syntax",
                    hint='Text that starts with {{ or [ must be in quotes: "{{ .data.id }}".',
                )
                continue
            name = key.raw
            if name == "<<" and key.style is None:
                inherited.append(value)
                continue
            first = node.entries.get(name)
            if first is not None:
                self._problems.add(
                    key.place,
                    f"{name} is there twice; the first is on line {first.key.place.line}.",
                    code="yaml_duplicate_key",
                    hint="Delete or rename one of them.",
                    width=key.width,
                )
                continue
            node.entries[name] = Entry(key, value)
        for value in inherited:
            self._inherit(node, value)
        return node

    def _inherit(self, node: Mapping, value: Node) -> None:
        """Add the entries of a merge key (`<<: *base`); the mapping's own win."""
        bases = value.items if isinstance(value, Sequence) else [value]
        for base in bases:
            if not isinstance(base, Mapping):
                self._problems.add(
                    base.place, "<< expects a mapping, such as *base.", code="yaml_syntax"
                )
                continue
            for name, entry in base.entries.items():
                node.entries.setdefault(name, entry)

    def _scalar(self, event: Any, place: Place) -> Scalar:
        text: str = event.value
        tag = event.tag
        value: Any = text
        if tag is None:
            value = _resolve(text) if event.style is None else text
        elif tag == f"{_TAG}str":
            pass
        elif tag in {f"{_TAG}{name}" for name in ("int", "float", "bool", "null")}:
            value = _resolve(text)
        elif tag != "!":
            self._unknown_tag(tag, place)
        return Scalar(value, place, self._source, self._span(event), event.style, text)

    def _check_tag(self, event: Any, kind: str, place: Place) -> None:
        if event.tag not in {None, "!", f"{_TAG}{kind}"}:
            self._unknown_tag(event.tag, place)

    def _unknown_tag(self, tag: str, place: Place) -> None:
        shown = tag.replace(_TAG, "!!")
        self._problems.add(
            place,
            f"the tag {shown} means nothing here.",
            code="yaml_syntax",
            hint="Put text that starts with ! in quotes.",
            width=len(shown),
        )

    def _place(self, mark: Any) -> Place:
        return Place(self._source.file, mark.line + 1, mark.column + 1)

    def _span(self, event: Any) -> tuple[int, int]:
        return event.start_mark.index, event.end_mark.index


def _resolve(text: str) -> Any:
    """Return what a plain scalar stands for (YAML 1.2.2, section 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text) if len(text) < 4000 else text
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


_CURLY_HINT = 'Text with braces must be in quotes: url: "http://${HOST}/{{ .data.id }}".'
_INDENT_HINT = "Keys of one mapping start in the same column, and so do the dashes of one list."

_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"found character '\\t'",
        "a tab is used to indent; YAML takes spaces only.",
        "Replace the tab by spaces.",
    ),
    (
        "mapping values are not allowed here",
        "a colon is not expected here.",
        'Put text that holds ": " in quotes, and look at the indentation of this line and above.',
    ),
    (
        r"expected <block end>, but found '<scalar>'",
        "the value goes on after its end.",
        f"Put the whole text in quotes. {_CURLY_HINT}",
    ),
    (
        r"expected <block end>, but found '-'",
        "a list item is not expected here: its dash is not where the other items' dashes are.",
        _INDENT_HINT,
    ),
    (
        r"expected <block end>",
        "this line's indentation does not match the lines above it.",
        _INDENT_HINT,
    ),
    ("could not find expected ':'", "a key without a colon.", 'Write it as "key: value".'),
    (
        "found unexpected end of stream",
        "a quoted text is not closed: the file ends before its second quote.",
        "Add the closing quote.",
    ),
    (
        "found unexpected document separator",
        "a quoted text is not closed before the document ends.",
        "Add the closing quote.",
    ),
    (
        "node content",
        "a value is expected here.",
        "Write the value, or close the [ or { before it; quote text that starts with a sign.",
    ),
    (r"expected ',' or '\]'", "a list that was opened with [ is not closed.", "Add the ]."),
    (r"expected ',' or '\}'", "a mapping that was opened with { is not closed.", _CURLY_HINT),
    (
        r"found character '(.)' that cannot start",
        "text can't start with {0} unless it is in quotes.",
        'Put it in quotes: "…".',
    ),
    (
        "found unknown escape character '(.)'",
        "\\{0} means nothing in double quotes.",
        "Use single quotes, or write the backslash twice.",
    ),
    (
        "found duplicate anchor",
        "an anchor of this name is there already.",
        "Give it another name.",
    ),
)
_AT_OPENING = ("found unexpected", "expected ',' or")
"""Of these the place that matters is where it began, not where it was found out."""


def _explain(error: MarkedYAMLError, text: str, file: str, problems: Problems) -> None:
    problem = str(error.problem or error.context or "")
    mark = error.problem_mark or error.context_mark
    if problem.startswith(_AT_OPENING) and error.context_mark is not None:
        mark = error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    message, hint = f"this is not YAML: {problem}.", ""
    for pattern, words, advice in _WORDS:
        found = re.search(pattern, problem)
        if found:
            message, hint = words.replace("{0}", "".join(found.groups())), advice
            break
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        place = Place(file, place.line, indent.index("\t") + 1)
        message, hint = _WORDS[0][1], _WORDS[0][2]
    problems.add(place, message, code="yaml_syntax", hint=hint)


def _place_of_index(text: str, file: str, index: int) -> Place:
    index = max(0, min(index, len(text)))
    return Place(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))
