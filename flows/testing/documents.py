"""Finds the tests of flows and the flows of tests, and reads them.

A test document is a YAML document with `tests:`. It stands in a file of its own, which is named
after the flow's (`shop.yaml` → `shop.test.yaml`), or in the flow file behind a `---`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from connectors.errors import FlowFileError
from flows.spec.expressions import check_expressions
from flows.spec.merge import is_test_document
from flows.spec.nodes import Entry, Mapping, Node, Scalar, plain
from flows.spec.nodes import Sequence as SequenceNode
from flows.spec.problems import Place, Problems
from flows.spec.source import read_documents
from flows.spec.wording import report
from flows.testing.model import Case, CasesFile

ENDINGS = (".test.yaml", ".test.yml")

_TESTS = re.compile(rb"""^(---)?[\s{"']*tests["']?\s*:""", re.MULTILINE)

Steps = AbstractSequence[str | int]
"""Keys and indexes from a document's root."""


@dataclass(frozen=True, slots=True)
class Cases:
    """A test document: what it says, and where it says it."""

    file: Path
    node: Mapping
    model: CasesFile

    def place(self, path: Steps) -> Place:
        """Return the place of what the document has at `path`, or of the last part it has of it."""
        return place_at(self.node, path)[0]

    def pipeline_of(self, case: Case) -> str | None:
        """Return the pipeline that a case names, or its file for it."""
        return case.pipeline or self.model.pipeline


@dataclass(frozen=True, slots=True)
class Suite:
    """Test documents that are about the same flow, with the same values for its variables."""

    flow: tuple[Path, ...]
    environment: AbstractMapping[str, str]
    documents: tuple[Cases, ...]
    problems: Problems
    """Knows the lines of the files; gathers what does not fit the flow."""

    @property
    def files(self) -> list[Path]:
        """Return every file it was read from."""
        return [*self.flow, *(document.file for document in self.documents)]


def find_suites(paths: AbstractSequence[Path]) -> list[Suite]:
    """Return the tests of the flow that `paths` hold, or those that `paths` are.

    Files that hold a flow are one flow, as for every command; its tests are in those files, in the
    test files among `paths`, or, when there are none, in those beside the flow's files. Where
    `paths` are test files only, each is about the flow that it names or is named after. Raises
    FlowErrors with everything that is wrong with test files, FlowFileError when there are none.
    """
    problems = Problems()
    flows: list[Path] = []
    found: list[Cases] = []
    only_tests = False
    for path in dict.fromkeys(paths):
        if not _may_hold_tests(path):
            flows.append(path)  # which is read, and judged, when it is loaded
            continue
        documents = read_documents(path, problems)
        tests = [node for node in documents if is_test_document(node)]
        if len(tests) < len(documents):
            flows.append(path)
        elif tests:
            only_tests = True
        found += _cases(path, tests, problems)
    problems.raise_if_any()
    if not only_tests:
        for path in [beside for flow in flows for beside in tests_beside(flow)]:
            documents = read_documents(path, problems)
            _refuse_others(documents, problems)
            found += _cases(path, [d for d in documents if is_test_document(d)], problems)
    problems.raise_if_any()
    if not found:
        raise _no_tests(flows)
    return _grouped(found, tuple(flows), problems)


def tests_beside(flow: Path) -> list[Path]:
    """Return the test files that are named after a flow file."""
    stem = _stem(flow)
    return [path for ending in ENDINGS if (path := flow.with_name(stem + ending)).is_file()]


def place_at(node: Node, path: Steps) -> tuple[Place, int]:
    """Return the place and width of what a tree has at `path`, or of the last part it has of it.

    Of a value that is more than a line, that is its key.
    """
    place, width = node.place, node.width
    for step in path:
        entry: Entry | None = None
        if isinstance(node, Mapping):
            entry = node.entries.get(str(step))
            if entry is None:
                break
            node = entry.value
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            break
        at = node if entry is None or isinstance(node, Scalar) else entry.key
        place, width = at.place, at.width
    return place, width


def _may_hold_tests(path: Path) -> bool:
    """Whether a file can have a test document; reading YAML takes longer than looking for the key."""
    try:
        return _TESTS.search(path.read_bytes()) is not None
    except OSError:
        return False


def _cases(path: Path, nodes: AbstractSequence[Node], problems: Problems) -> Iterator[Cases]:
    for node in nodes:
        assert isinstance(node, Mapping)  # noqa: S101 - a test document is one
        check_expressions(CasesFile, node, problems)
        try:
            model = CasesFile.model_validate(plain(node))
        except ValidationError as error:
            report(error, CasesFile, node, problems)
            continue
        _once(model, node, problems)
        yield Cases(path, node, model)


def _once(model: CasesFile, node: Mapping, problems: Problems) -> None:
    """Report cases that have the same name: a report could not tell them apart."""
    seen: dict[str, Place] = {}
    for number, case in enumerate(model.tests):
        place, width = place_at(node, ("tests", number, "name"))
        first = seen.setdefault(case.name, place)
        if first is not place:
            problems.add(
                place,
                f"there is another case of this name, on line {first.line}.",
                code="flow_clash",
                hint="Rename one of them.",
                width=width,
            )


def _refuse_others(documents: AbstractSequence[Node], problems: Problems) -> None:
    for node in documents:
        if not is_test_document(node):
            problems.add(
                node.place,
                "this is no test document.",
                code="tests_invalid",
                hint="A test file holds `tests:` and nothing of a flow.",
                width=node.width,
            )


def _grouped(
    found: AbstractSequence[Cases], flows: tuple[Path, ...], problems: Problems
) -> list[Suite]:
    groups: dict[tuple[tuple[Path, ...], tuple[tuple[str, str], ...]], list[Cases]] = {}
    for cases in found:
        flow = _flow_of(cases) or flows or _named_after(cases.file)
        environment = tuple(sorted(cases.model.environment.items()))
        groups.setdefault((flow, environment), []).append(cases)
    return [
        Suite(flow, dict(environment), tuple(documents), problems)
        for (flow, environment), documents in groups.items()
    ]


def _flow_of(cases: Cases) -> tuple[Path, ...]:
    said = cases.model.flow
    names = [said] if isinstance(said, str) else said or []
    return tuple(cases.file.parent / name for name in names)


def _named_after(file: Path) -> tuple[Path, ...]:
    ending = next((one for one in ENDINGS if file.name.endswith(one)), None)
    stem = file.name.removesuffix(ending) if ending else ""
    for name in (f"{stem}.yaml", f"{stem}.yml") if stem else ():
        if (path := file.with_name(name)).is_file():
            return (path,)
    raise FlowFileError(
        f"{file} does not say which flow it tests.",
        code="tests_without_flow",
        hint="Add `flow: FILE` to it, name it after the flow file (shop.yaml → shop.test.yaml), or"
        " name the flow file before it.",
    )


def _no_tests(flows: AbstractSequence[Path]) -> FlowFileError:
    file = flows[0]
    wanted = file.with_name(_stem(file) + ENDINGS[0])
    return FlowFileError(
        f"there are no tests of {', '.join(map(str, flows))}.",
        code="tests_missing",
        hint=f"Write them to {wanted}; `penstock test --help` shows a first one.",
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix) if path.suffix in {".yaml", ".yml"} else path.name


__all__ = ["ENDINGS", "Cases", "Suite", "find_suites", "place_at", "tests_beside"]
