"""Errors of the registry, each with Confluent's number beside our code."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.errors import FlowFileError
from schema_registry.compatibility import Incompatibility

_SHOWN = 20
"""Incompatibilities that one error's text lists."""


class RegistryError(FlowFileError):
    """The registry does not do it. `number` is what its REST API answers as `error_code`."""

    def __init__(self, message: str, *, number: int, code: str, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.number = number


class IncompatibleError(RegistryError):
    """A schema can't follow the versions before it: `found` says why, all of it."""

    def __init__(self, subject: str, level: str, found: Sequence[Incompatibility]) -> None:
        listed = "; ".join(map(str, found[:_SHOWN]))
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        super().__init__(
            f"the schema is not {level} compatible with the versions of {subject}: {listed}{more}.",
            number=409,
            code="schema_incompatible",
            hint="Make the change in a way that old data fits, register it under another subject,"
            " or set the subject's compatibility.",
        )
        self.subject = subject
        self.level = level
        self.found = list(found)


def no_subject(subject: str) -> RegistryError:
    """Return the error for a subject that is not there."""
    return RegistryError(
        f"Subject '{subject}' not found.",
        number=40401,
        code="schema_subject_unknown",
        hint="`penstock schema list` shows those that are there.",
    )


def no_version(version: int | str) -> RegistryError:
    """Return the error for a version that is not there."""
    return RegistryError(
        f"Version {version} not found.",
        number=40402,
        code="schema_version_unknown",
        hint="`penstock schema list SUBJECT` shows those that are there.",
    )


def no_schema(schema: int | str = "") -> RegistryError:
    """Return the error for a schema that is not there."""
    return RegistryError(
        f"Schema {schema} not found." if schema else "Schema not found.",
        number=40403,
        code="schema_unknown",
        hint="It was never registered here, or no version holds it any more.",
    )


def subject_is_deleted(subject: str) -> RegistryError:
    """Return the error for a subject that is to be deleted a second time."""
    return RegistryError(
        f"Subject '{subject}' was soft deleted.",
        number=40404,
        code="schema_deleted",
        hint="Set permanent=true to delete it permanently.",
    )


def subject_not_deleted(subject: str) -> RegistryError:
    """Return the error for a subject that is deleted permanently before it is deleted."""
    return RegistryError(
        f"Subject '{subject}' was not deleted first before being permanently deleted.",
        number=40405,
        code="schema_not_deleted",
        hint="Delete it without permanent=true first.",
    )


def version_is_deleted(subject: str, version: int) -> RegistryError:
    """Return the error for a version that is to be deleted a second time."""
    return RegistryError(
        f"Subject '{subject}' Version {version} was soft deleted.",
        number=40406,
        code="schema_deleted",
        hint="Set permanent=true to delete it permanently.",
    )


def version_not_deleted(subject: str, version: int) -> RegistryError:
    """Return the error for a version that is deleted permanently before it is deleted."""
    return RegistryError(
        f"Subject '{subject}' Version {version} was not deleted first before being permanently"
        " deleted.",
        number=40407,
        code="schema_not_deleted",
        hint="Delete it without permanent=true first.",
    )


def no_level(subject: str) -> RegistryError:
    """Return the error for a subject that has no compatibility of its own."""
    return RegistryError(
        f"Subject '{subject}' does not have subject-level compatibility configured.",
        number=40408,
        code="schema_level_unset",
        hint="Ask with defaultToGlobal=true for what holds.",
    )


def no_mode(subject: str) -> RegistryError:
    """Return the error for a subject that has no mode of its own."""
    return RegistryError(
        f"Subject '{subject}' does not have subject-level mode configured.",
        number=40409,
        code="schema_mode_unset",
        hint="Ask with defaultToGlobal=true for what holds.",
    )


def invalid_schema(message: str, hint: str = "") -> RegistryError:
    """Return the error for what is no JSON Schema."""
    return RegistryError(
        f"Invalid schema: {message}",
        number=42201,
        code="schema_not_valid",
        hint=hint or "JSON Schema, drafts 4 to 2020-12.",
    )


def invalid_version(version: str) -> RegistryError:
    """Return the error for what is no version."""
    return RegistryError(
        f"The specified version '{version[:80]}' is not a valid version id.",
        number=42202,
        code="schema_version_invalid",
        hint='Versions are numbers from 1, or "latest".',
    )


def invalid_subject(subject: str) -> RegistryError:
    """Return the error for what can't be a subject's name."""
    return RegistryError(
        f"The specified subject {subject[:80]!r} is not a valid subject.",
        number=42208,
        code="schema_subject_invalid",
        hint="A name has 1 to 512 characters that can be printed.",
    )


def not_permitted(message: str) -> RegistryError:
    """Return the error for what the subject's mode does not allow."""
    return RegistryError(
        message,
        number=42205,
        code="schema_not_permitted",
        hint="READWRITE registers and deletes, READONLY neither; IMPORT takes ids and versions as"
        " they are given, and no others.",
    )


def is_referenced(subject: str, version: int, by: Sequence[int]) -> RegistryError:
    """Return the error for a version that can't be deleted: others refer to it."""
    return RegistryError(
        f"Subject '{subject}' Version {version} is referenced by the schemas"
        f" {', '.join(map(str, by[:_SHOWN]))}.",
        number=42206,
        code="schema_referenced",
        hint="Delete those first.",
    )
