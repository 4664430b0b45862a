"""Confluent's way of speaking: where its API is, its media types, bodies, queries and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import orjson
from annotated_types import Ge
from pydantic import AliasChoices, ConfigDict, Field
from starlette.responses import Response

from connectors.errors import PenstockError
from connectors.settings import Settings
from penstock.api.errors import RETRY_AFTER, ApiError, status_of
from schema_registry.errors import RegistryError

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"

BODY_TYPES = frozenset(
    {MEDIA_TYPE, "application/vnd.schemaregistry+json", "application/octet-stream"}
)
"""What clients call the JSON they send, beside `application/json`."""

_ROOMS = frozenset({"subjects", "schemas", "compatibility", "config", "mode", "contexts"})

BACKEND_ERROR = 50001
"""Confluent's number for a store that does not answer."""


def is_registry(path: str) -> bool:
    """Tell whether a path is one of Confluent's API."""
    return path.split("/", 2)[1:2] != [] and path.split("/", 2)[1] in _ROOMS


def error_response(error: PenstockError, redact: Callable[[str], str]) -> Response:
    """Return an error as Confluent's clients read it: `error_code` and `message`."""
    status = status_of(error)
    number = status
    if isinstance(error, RegistryError):
        number = error.number
        status = number if number < 1000 else number // 100
    elif status >= 500:
        number = BACKEND_ERROR
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER)
    if isinstance(error, ApiError):
        headers |= error.headers
    answer = {"error_code": number, "message": redact(str(error))}
    return Response(orjson.dumps(answer), status, headers, MEDIA_TYPE)


class RegistryModel(Settings):
    """What Confluent's clients send. They may send more than is known here, as to Confluent."""

    model_config = ConfigDict(extra="ignore")


class NormalizeQuery(RegistryModel):
    """How a schema is compared."""

    normalize: bool = False
    """Keep the schema with its keys sorted. Two schemas that differ in that alone are one anyway."""


class LookupQuery(NormalizeQuery):
    """Which schemas are looked at."""

    deleted: bool = False
    """Deleted ones, too."""


class DeletedQuery(RegistryModel):
    """Which versions are looked at."""

    deleted: bool = False
    """Deleted ones, too."""


class ListQuery(DeletedQuery):
    """A part of a list."""

    deleted_only: bool = Field(
        default=False, validation_alias=AliasChoices("deletedOnly", "deleted_only")
    )
    """Deleted ones alone."""
    offset: Annotated[int, Ge(0)] = 0
    """How many are passed over."""
    limit: int = -1
    """How many at most; below 0: all."""

    def part(self, found: list[Any]) -> list[Any]:
        """Return the part of a list that was asked for."""
        return found[self.offset :] if self.limit < 0 else found[self.offset :][: self.limit]


class SubjectsQuery(ListQuery):
    """Which subjects."""

    subject_prefix: str = Field(default="", validation_alias="subjectPrefix")
    """Those whose names start so."""

    @property
    def prefix(self) -> str:
        """Return how names must start; Confluent's `:*:` is any name."""
        return self.subject_prefix.removeprefix(":*:")


class SchemasQuery(SubjectsQuery):
    """Which schemas."""

    latest_only: bool = Field(default=False, validation_alias="latestOnly")
    """The last version of each subject alone."""


class SubjectQuery(DeletedQuery):
    """Whose versions."""

    subject: str | None = None
    """This subject's alone."""


class DeleteQuery(RegistryModel):
    """How it is deleted."""

    permanent: bool = False
    """For good; it must have been deleted before."""


class VerboseQuery(NormalizeQuery):
    """What is answered."""

    verbose: bool = False
    """List each incompatibility with its rule and JSON pointer."""


class DefaultQuery(RegistryModel):
    """What is answered where a subject says nothing."""

    default_to_global: bool = Field(default=False, validation_alias="defaultToGlobal")
    """What holds for all, and not an error."""


class ForceQuery(RegistryModel):
    """Whether it is done in any case."""

    force: bool = False
    """Set the mode IMPORT also where schemas are registered."""


class ReferenceBody(RegistryModel):
    """A schema that another refers to."""

    name: str
    """How the `$ref` says it."""
    subject: str
    """Its subject."""
    version: int
    """Its version; -1: the last."""


class SchemaBody(RegistryModel):
    """A schema that is offered."""

    schema_: str = Field(alias="schema")
    """The schema, as text."""
    schema_type: str = Field(default="AVRO", alias="schemaType")
    """`JSON`: nothing else is kept here."""
    references: list[ReferenceBody] | None = None
    """What it refers to."""
    id: int = -1
    """Its id; in mode IMPORT alone."""
    version: int = 0
    """Its version; in mode IMPORT alone."""
    metadata: Any = None
    """Not kept here: refused when it says something."""
    rule_set: Any = Field(default=None, alias="ruleSet")
    """Not kept here: refused when it says something."""


class ConfigBody(RegistryModel):
    """How versions must be compatible."""

    compatibility: str | None = Field(
        default=None, validation_alias=AliasChoices("compatibility", "compatibilityLevel")
    )
    """BACKWARD, FORWARD, FULL, each also with `_TRANSITIVE`, or NONE."""
    compatibility_group: Any = Field(default=None, alias="compatibilityGroup")
    """Not kept here: refused when it says something."""
    default_metadata: Any = Field(default=None, alias="defaultMetadata")
    """Not kept here: refused when it says something."""
    override_metadata: Any = Field(default=None, alias="overrideMetadata")
    """Not kept here: refused when it says something."""
    default_rule_set: Any = Field(default=None, alias="defaultRuleSet")
    """Not kept here: refused when it says something."""
    override_rule_set: Any = Field(default=None, alias="overrideRuleSet")
    """Not kept here: refused when it says something."""


class ModeBody(RegistryModel):
    """What may be done."""

    mode: str
    """READWRITE, READONLY or IMPORT."""
