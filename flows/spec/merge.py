"""Merges the documents of all files into one tree; a clash names both places."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flows.spec.nodes import Entry, Mapping, Node, Scalar, Sequence
from flows.spec.problems import Place, Problems

_LISTS = ("modules", "alerts")
_MAPS = ("schemas", "pipelines")
_FLOW = {*_LISTS, *_MAPS, "steps"}
_NOUNS = {"schemas": "schema", "pipelines": "pipeline"}


def merge(documents: Iterable[Node], problems: Problems) -> Mapping:
    """Return one mapping: lists concatenated, maps merged, everything else only once."""
    whole = Mapping(Place("", 1, 1))
    for document in documents:
        if not isinstance(document, Mapping):
            _refuse(document, problems)
            continue
        if not whole.entries:
            whole.place = document.place
        if _is_foreign(document, problems):
            continue
        _name_steps(document, problems)
        for name, entry in document.entries.items():
            _merge_entry(whole, name, entry, problems)
    return whole


def is_test_document(node: Node) -> bool:
    """Whether a document holds tests of a flow, for `penstock test`, and nothing of a flow itself."""
    return isinstance(node, Mapping) and "tests" in node.entries and not _FLOW & set(node.entries)


def _merge_entry(whole: Mapping, name: str, entry: Entry, problems: Problems) -> None:
    have = whole.entries.get(name)
    value = entry.value
    empty = isinstance(value, Scalar) and value.value is None
    if name in _LISTS + _MAPS and empty:
        return
    if have is None:
        whole.entries[name] = Entry(entry.key, _copy(value))
    elif name in _LISTS and isinstance(have.value, Sequence) and isinstance(value, Sequence):
        have.value.items.extend(value.items)
    elif name in _MAPS and isinstance(have.value, Mapping) and isinstance(value, Mapping):
        for inner, added in value.entries.items():
            first = have.value.entries.setdefault(inner, added)
            if first is not added:
                _clash(f"{_NOUNS[name]} {inner}", first.key, added.key, problems)
    elif not _same(have.value, value):
        _clash(name, have.key, entry.key, problems)


def _copy(node: Node) -> Node:
    """Return a copy one level deep: what is merged into it must not change its document."""
    match node:
        case Mapping():
            return Mapping(node.place, dict(node.entries), node.width)
        case Sequence():
            return Sequence(node.place, list(node.items), node.width)
        case _:
            return node


def _same(one: Node, other: Node) -> bool:
    """Whether two scalars say the same: `version: 1` may stand in every file."""
    return isinstance(one, Scalar) and isinstance(other, Scalar) and one.value == other.value


def _clash(what: str, first: Scalar, second: Scalar, problems: Problems) -> None:
    problems.add(
        second.place,
        f"{what} is set twice: here and at {first.place}.",
        code="flow_clash",
        hint="Delete or rename one of them.",
        width=second.width,
    )


def _name_steps(document: Mapping, problems: Problems) -> None:
    """Turn a document's own `steps:` into a pipeline that is named like its file."""
    steps = document.entries.pop("steps", None)
    if steps is None:
        return
    name = Path(steps.key.place.file).stem
    pipeline = Mapping(steps.key.place, {"steps": steps}, steps.key.width)
    entry = Entry(steps.key, pipeline)
    pipelines = document.entries.get("pipelines")
    if pipelines is None or not isinstance(pipelines.value, Mapping):
        if pipelines is None:
            whole = Mapping(steps.key.place, {name: entry}, steps.key.width)
            document.entries["pipelines"] = Entry(steps.key, whole)
        return
    first = pipelines.value.entries.setdefault(name, entry)
    if first is not entry:
        _clash(f"pipeline {name}", first.key, steps.key, problems)


def _refuse(document: Node, problems: Problems) -> None:
    what = "a list" if isinstance(document, Sequence) else "a single value"
    problems.add(
        document.place,
        f"this is {what}, not a flow file.",
        code="not_a_flow_file",
        hint="A flow file is a mapping with keys such as modules, schemas and pipelines.",
        width=document.width,
    )


def _is_foreign(document: Mapping, problems: Problems) -> bool:
    """Whether this is another program's file; says whose."""
    entry = document.entries.get("apiVersion")
    kind = document.text("kind")
    if entry is None or kind is None:
        return False
    problems.add(
        entry.key.place,
        f"this is a Kubernetes manifest ({kind.value}), not a flow file.",
        code="not_a_flow_file",
        hint="A flow file is a mapping with keys such as modules, schemas and pipelines.",
        width=entry.key.width,
    )
    return True
