"""What the commands about schemas read: the registry, files, and one or the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import FlowFileError
from flows.schemas.registry import (
    LATEST,
    Candidate,
    Registered,
    SchemaRegistry,
    parse_version,
)
from penstock.cli.stored import open_stored
from schema_registry.documents import Document, Reference, parse_schema
from schema_registry.errors import RegistryError
from schema_registry.validation import SchemaError


@contextmanager
def open_registry(
    flows: Sequence[Path] | None, state: str | None, *, create: bool = False
) -> Iterator[SchemaRegistry]:
    """Open the registry of a flow's state, or of the state that is named."""
    if flows:
        # The flow may have stored nothing yet: the registry is not its own.
        from flows.plan import load_flow  # noqa: PLC0415 - loads every connector that is named

        plan = load_flow(flows)
        if plan.schema_registry is not None and state is None:
            raise FlowFileError(
                f"the schemas of {plan.name} are kept at {plan.schema_registry.url}.",
                code="schema_registry_elsewhere",
                hint="These commands look into the registry of a state store: name one with --state."
                " `penstock validate --connect` compares the flow's schemas with that registry.",
            )
        state = state or plan.state_url
    with open_stored(None, state, None, create=create) as stored:
        yield SchemaRegistry(stored.store.schemas)


def find_version(registry: SchemaRegistry, text: str) -> Registered:
    """Return the version that NAME or NAME@VERSION means. Raises RegistryError."""
    name, at, version = text.rpartition("@")
    if not at:
        return registry.get(text, LATEST)
    try:
        return registry.labelled(name, version)
    except RegistryError as error:
        if error.number != 40402:
            raise
    try:
        return registry.get(name, parse_version(version))
    except RegistryError as error:
        known = [each.label or str(each.version) for each in registry.versions(name)]
        raise RegistryError(
            f"{name} has no version {version}.",
            number=error.number,
            code="schema_version_unknown",
            hint=f"It has {', '.join(known[-20:])}.",
        ) from None


def read_candidate(registry: SchemaRegistry, file: Path, references: Sequence[str]) -> Candidate:
    """Return the schema of a file. Raises FlowFileError."""
    found = []
    for text in references:
        name, equals, target = text.partition("=")
        if not equals or not name or "@" not in target:
            raise FlowFileError(
                f"--reference {text[:200]} can't be read.",
                code="usage",
                hint="Write NAME=SUBJECT@VERSION, such as address.json=address@1.",
            )
        version = find_version(registry, target).version
        found.append(Reference(name, version.subject, version.version))
    return registry.candidate(read_text(file), found)


def read_two(
    older: str, newer: str, flows: Sequence[Path] | None, state: str | None
) -> tuple[Document, Document]:
    """Return two schemas, each of a file or of the registry."""
    if all(_is_file(each) for each in (older, newer)):
        return _document(older), _document(newer)
    with open_registry(flows, state) as registry:
        first, second = (
            _document(each)
            if _is_file(each)
            else registry.document_of(find_version(registry, each).content)
            for each in (older, newer)
        )
        return first, second


def _is_file(text: str) -> bool:
    return text == "-" or Path(text).is_file() or text.endswith(".json")


def _document(text: str) -> Document:
    try:
        return Document(parse_schema(read_text(Path(text))))
    except SchemaError as error:
        raise FlowFileError(f"{text}: {error.message}", code=error.code, hint=error.hint) from None


def read_text(file: Path) -> str:
    """Return the text of a file, or of standard input. Raises FlowFileError."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FlowFileError(
            f"{file} can't be read: {error.strerror}.",
            code="file_unreadable",
            hint="Name a file with JSON in it, or - for standard input.",
        ) from None
    except UnicodeDecodeError:
        raise FlowFileError(
            f"{file} is not text in UTF-8.",
            code="file_unreadable",
            hint="Name a file with JSON in it, or - for standard input.",
        ) from None
