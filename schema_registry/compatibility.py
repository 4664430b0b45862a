"""Compatibility of a schema with the versions before it, by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schema_registry.comparing import compare
from schema_registry.documents import Document
from schema_registry.rules import Difference, Level

Direction = Literal["BACKWARD", "FORWARD"]


@dataclass(frozen=True, slots=True)
class Known:
    """A version that a new one is compared with."""

    version: int
    document: Document


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """Why a schema is not compatible with a version."""

    version: int
    direction: Direction
    """BACKWARD: with the new schema, data of the version can't be read; FORWARD: the reverse."""
    difference: Difference

    @property
    def rule(self) -> str:
        """Return the rule's name, such as TYPE_CHANGED."""
        return self.difference.rule

    @property
    def pointer(self) -> str:
        """Return where it is in the schema, as a JSON pointer."""
        return self.difference.pointer

    def __str__(self) -> str:
        place = self.pointer or "/"
        if self.direction == "BACKWARD":
            return f"{self.rule} at {place}: compared with version {self.version}, " + (
                self.difference.words
            )
        return (
            f"{self.rule} at {place}: for readers with version {self.version},"
            f" {self.difference.words}"
        )


def incompatibilities(
    level: Level, schema: Document, earlier: Sequence[Known]
) -> list[Incompatibility]:
    """Return why a schema can't follow `earlier` (oldest first); [] when it can.

    Levels that are not transitive look at the last version alone. Raises SchemaError.
    """
    if level == "NONE":
        return []
    compared = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
    found: list[Incompatibility] = []
    for known in reversed(compared):
        if not level.startswith("FORWARD"):
            changes = compare(known.document, schema)
            found += [
                Incompatibility(known.version, "BACKWARD", each)
                for each in changes
                if not each.compatible
            ]
        if not level.startswith("BACKWARD"):
            changes = compare(schema, known.document)
            found += [
                Incompatibility(known.version, "FORWARD", each)
                for each in changes
                if not each.compatible
            ]
    return found
