"""What the commands about schemas print."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from flows.runtime import exits
from flows.schemas.registry import Candidate, Registered, SchemaRegistry
from penstock.cli.output import count, print_json, print_table, printable
from penstock.cli.schema_registry import find_version
from schema_registry.comparing import compare
from schema_registry.compatibility import Incompatibility
from schema_registry.documents import Document
from schema_registry.errors import IncompatibleError
from schema_registry.inferring import infer
from schema_registry.rules import DEFAULT_LEVEL, Difference

Json = dict[str, Any]


def print_subjects(registry: SchemaRegistry, *, deleted: bool, json: bool) -> None:
    """Print a line for each subject."""
    by_subject: dict[str, list[Registered]] = {}
    for each in registry.all_versions(deleted=deleted):
        by_subject.setdefault(each.version.subject, []).append(each)
    found = [_subject(registry, name, versions) for name, versions in by_subject.items()]
    if json:
        print_json(found)
        return
    if not found:
        print("No schema is registered.")
        return
    print_table(
        ["SUBJECT", ">VERSIONS", "LATEST", ">ID", "COMPATIBILITY", ""],
        [
            (
                each["subject"],
                each["versions"],
                each["label"] or each["latest"],
                each["id"],
                each["compatibility"],
                "deleted" if each["deleted"] else "",
            )
            for each in found
        ],
    )


def _subject(registry: SchemaRegistry, name: str, versions: Sequence[Registered]) -> Json:
    latest = versions[-1]
    return {
        "subject": name,
        "versions": len(versions),
        "latest": latest.version.version,
        "label": latest.version.label,
        "id": latest.content.id,
        "compatibility": _level(registry, name),
        "deleted": all(each.version.deleted for each in versions),
    }


def _level(registry: SchemaRegistry, subject: str) -> str:
    return registry.level(subject) or registry.level() or DEFAULT_LEVEL


def print_versions(registry: SchemaRegistry, subject: str, *, deleted: bool, json: bool) -> None:
    """Print a line for each version of a subject."""
    found = [
        registry.get(subject, each.version, deleted=deleted)
        for each in registry.versions(subject, deleted=deleted)
    ]
    if json:
        print_json(list(map(document, found)))
        return
    print_table(
        [">VERSION", "CALLED", ">ID", "REFERS TO", ""],
        [
            (
                each.version.version,
                each.version.label or "",
                each.content.id,
                ", ".join(f"{one.subject}@{one.version}" for one in each.content.references),
                "deleted" if each.version.deleted else "",
            )
            for each in found
        ],
    )


def document(found: Registered) -> Json:
    """Return a version as JSON."""
    version, content = found.version, found.content
    return {
        "subject": version.subject,
        "version": version.version,
        "label": version.label,
        "id": content.id,
        "guid": content.guid,
        "deleted": version.deleted,
        "references": [
            {"name": each.name, "subject": each.subject, "version": each.version}
            for each in content.references
        ],
        # As text: a reader of this document may not keep every digit of its numbers.
        "schema": content.text,
    }


def print_schema(text: str) -> None:
    """Print a schema, indented."""
    print(json_module.dumps(json_module.loads(text), indent=2, ensure_ascii=False))


def print_draft(values: Iterable[Any]) -> None:
    """Print a draft on stdout, and on stderr from how many values it is."""
    draft, number = infer(values)
    print(json_module.dumps(draft, indent=2, ensure_ascii=False))
    print(f"Drafted from {count(number, 'value')}.", file=sys.stderr)


def registered(
    registry: SchemaRegistry, subject: str, candidate: Candidate, *, label: str | None, json: bool
) -> int:
    """Register, and print what became of it; return the exit code."""
    before = {each.version for each in registry.all_versions(subject)}
    try:
        found = registry.register(subject, candidate, label=label)
    except IncompatibleError as error:
        _print_incompatible(subject, error.level, error.found, json=json)
        return exits.FOUND_FAILURES
    if json:
        print_json(document(found))
        return exits.DONE
    version = found.version
    new = not any(each.version == version.version for each in before if each.subject == subject)
    called = f" ({version.label})" if version.label else ""
    done = "registered" if new else "was registered already"
    print(f"{subject} version {version.version}{called} {done}, with id {found.content.id}.")
    return exits.DONE


def checked(registry: SchemaRegistry, subject: str, candidate: Candidate, *, json: bool) -> int:
    """Check, and print why a schema is not compatible; return the exit code."""
    version = None
    name = subject
    if "@" in subject:
        target = find_version(registry, subject).version
        name, version = target.subject, target.version
    else:
        registry.versions(subject)  # raises where there is nothing to check it against
    found = registry.check(name, candidate, version)
    level = _level(registry, name)
    if found:
        _print_incompatible(name, level, found, json=json)
        return exits.FOUND_FAILURES
    if json:
        print_json(_verdict(name, level, found))
    else:
        print(f"{subject}: {level} compatible.")
    return exits.DONE


def _verdict(subject: str, level: str, found: Sequence[Incompatibility]) -> Json:
    return {
        "subject": subject,
        "compatibility": level,
        "compatible": not found,
        "incompatibilities": [
            {
                "rule": each.rule,
                "pointer": each.pointer,
                "version": each.version,
                "direction": each.direction,
                "message": each.difference.words,
            }
            for each in found
        ],
    }


def _print_incompatible(
    subject: str, level: str, found: Sequence[Incompatibility], *, json: bool
) -> None:
    if json:
        print_json(_verdict(subject, level, found))
        return
    print(f"{printable(subject)}: not {level} compatible.\n")
    print_table(
        ["RULE", "AT", "READING", "WHAT"],
        [
            (
                each.rule,
                each.pointer or "/",
                f"version {each.version}'s data"
                if each.direction == "BACKWARD"
                else f"with version {each.version}",
                each.difference.words,
            )
            for each in found
        ],
    )


def print_changes(older: Document, newer: Document, *, json: bool) -> None:
    """Print the changes from one schema to another, and whether either reads the other's data."""
    changes = compare(older, newer)
    backward = _all_compatible(changes)
    forward = _all_compatible(compare(newer, older))
    if json:
        print_json(
            {
                "backward_compatible": backward,
                "forward_compatible": forward,
                "changes": [
                    {
                        "rule": each.rule,
                        "pointer": each.pointer,
                        "compatible": each.compatible,
                        "message": each.words,
                    }
                    for each in changes
                ],
            }
        )
        return
    if changes:
        print_table(
            ["RULE", "AT", "", "WHAT"],
            [
                (each.rule, each.pointer or "/", "" if each.compatible else "breaks", each.words)
                for each in changes
            ],
        )
        print()
    print(f"With the newer one, the older one's data {_can(backward)} be read.")
    print(f"With the older one, the newer one's data {_can(forward)} be read.")


def _all_compatible(changes: Sequence[Difference]) -> bool:
    return all(each.compatible for each in changes)


def _can(compatible: bool) -> str:
    return "can" if compatible else "can't"
