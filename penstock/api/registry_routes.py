"""Confluent's Schema Registry API, over the registry in the flow's state store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flows.schemas.registry import (
    Candidate,
    Registered,
    SchemaRegistry,
    parse_version,
)
from flows.state.schema_store import GLOBAL, Content, Version
from penstock.api.calls import Call, Response, Route
from penstock.api.readers import Stores
from penstock.api.registry_wire import (
    MEDIA_TYPE,
    ConfigBody,
    DefaultQuery,
    DeletedQuery,
    DeleteQuery,
    ForceQuery,
    ListQuery,
    LookupQuery,
    ModeBody,
    NormalizeQuery,
    SchemaBody,
    SchemasQuery,
    SubjectQuery,
    SubjectsQuery,
    VerboseQuery,
)
from schema_registry import errors
from schema_registry.documents import Reference
from schema_registry.errors import RegistryError

Json = dict[str, Any]

Result = TypeVar("Result")


# --- subjects and versions ----------------------------------------------------------------------


async def list_subjects(call: Call) -> list[str]:
    """List the subjects of the schema registry."""
    query: SubjectsQuery = call.query
    found = await _read(
        call,
        lambda registry: registry.subjects(
            query.prefix,
            deleted=query.deleted or query.deleted_only,
            live=not query.deleted_only,
        ),
    )
    return query.part(found)


async def lookup_schema(call: Call) -> Json:
    """Find the version of a subject that holds a schema."""
    query: LookupQuery = call.query
    subject = call.path["subject"]

    def work(registry: SchemaRegistry) -> Json:
        candidate = _candidate(registry, call.body, query)
        return _registered(registry.lookup(subject, candidate, deleted=query.deleted))

    return await _read(call, work)


async def delete_subject(call: Call) -> list[int]:
    """Delete a subject: its versions are no longer offered, but old messages are still read."""
    permanent = call.query.permanent
    subject = call.path["subject"]
    return await _write(
        call, lambda registry: registry.delete_subject(subject, permanent=permanent)
    )


async def list_versions(call: Call) -> list[int]:
    """List a subject's versions."""
    query: ListQuery = call.query
    found = await _read(
        call,
        lambda registry: registry.versions(
            call.path["subject"],
            deleted=query.deleted or query.deleted_only,
            live=not query.deleted_only,
        ),
    )
    return query.part([each.version for each in found])


async def register_schema(call: Call) -> Json:
    """Register a schema as a subject's next version, or find the version that holds it already."""
    body: SchemaBody = call.body

    def work(registry: SchemaRegistry) -> Json:
        registered = registry.register(
            call.path["subject"],
            _candidate(registry, body, call.query),
            version=body.version if body.version > 0 else None,
            schema=body.id if body.id >= 0 else None,
        )
        return _registered(registered)

    return await _write(call, work)


async def get_version(call: Call) -> Json:
    """Show a version of a subject; `latest` is the last one."""
    return _registered(await _read(call, lambda registry: _version(registry, call)))


async def get_version_schema(call: Call) -> Response:
    """Give the schema of a version alone."""
    found = await _read(call, lambda registry: _version(registry, call))
    return Response(found.content.text, media_type=MEDIA_TYPE)


async def list_referrers(call: Call) -> list[int]:
    """List the ids of the schemas that refer to a version."""
    query: ListQuery = call.query
    version = parse_version(call.path["version"])
    found = await _read(
        call,
        lambda registry: registry.referrers(call.path["subject"], version, deleted=query.deleted),
    )
    return query.part(found)


async def delete_version(call: Call) -> int:
    """Delete a version: it is no longer offered, but old messages are still read."""
    version = parse_version(call.path["version"])
    permanent = call.query.permanent
    subject = call.path["subject"]
    return await _write(
        call, lambda registry: registry.delete_version(subject, version, permanent=permanent)
    )


# --- schemas ------------------------------------------------------------------------------------


async def list_schemas(call: Call) -> list[Json]:
    """List the versions of all subjects with their schemas."""
    query: SchemasQuery = call.query

    def work(registry: SchemaRegistry) -> list[Json]:
        found = registry.all_versions(query.prefix, deleted=query.deleted)
        if query.latest_only:
            found = list({each.version.subject: each for each in found}.values())
        return [_registered(each) for each in query.part(found)]

    return await _read(call, work)


async def list_schema_types(_call: Call) -> list[str]:
    """List the kinds of schemas that are kept here: JSON Schema."""
    return ["JSON"]


async def get_schema(call: Call) -> Json:
    """Show a schema by its id, which messages carry."""
    return _content(await _read(call, lambda registry: registry.content(_id(call))))


async def get_schema_text(call: Call) -> Response:
    """Give a schema alone, by its id."""
    found = await _read(call, lambda registry: registry.content(_id(call)))
    return Response(found.text, media_type=MEDIA_TYPE)


async def get_schema_by_guid(call: Call) -> Json:
    """Show a schema by its guid, which is made from its content."""
    return _content(await _read(call, lambda registry: registry.content_by_guid(call.path["guid"])))


async def list_schema_subjects(call: Call) -> list[str]:
    """List the subjects that have a version with this schema."""
    found = await _read(call, lambda registry: _versions_of(registry, call))
    return sorted({each.subject for each in found})


async def list_schema_versions(call: Call) -> list[Json]:
    """List the versions that hold this schema."""
    found = await _read(call, lambda registry: _versions_of(registry, call))
    return [{"subject": each.subject, "version": each.version} for each in found]


async def list_contexts(_call: Call) -> list[str]:
    """List the registry's contexts: there is one."""
    return ["."]


# --- compatibility ------------------------------------------------------------------------------


async def check_version(call: Call) -> Json:
    """Tell whether a schema is compatible with one version of a subject."""
    version = parse_version(call.path["version"])
    return await _checked(call, version)


async def check_versions(call: Call) -> Json:
    """Tell whether a schema could be a subject's next version."""
    return await _checked(call, None)


async def _checked(call: Call, version: int | None) -> Json:
    query: VerboseQuery = call.query

    def work(registry: SchemaRegistry) -> list[str]:
        try:
            candidate = _candidate(registry, call.body, query)
        except RegistryError as error:
            if not query.verbose:
                raise
            return [error.message]
        return list(map(str, registry.check(call.path["subject"], candidate, version)))

    messages = await _read(call, work)
    answer: Json = {"is_compatible": not messages}
    return answer | {"messages": messages} if query.verbose else answer


# --- levels and modes ---------------------------------------------------------------------------


async def get_level(call: Call) -> Json:
    """Show how versions must be compatible where their subject says nothing."""
    return {"compatibilityLevel": await _read(call, lambda registry: registry.level())}


async def set_level(call: Call) -> Json:
    """Set how versions must be compatible where their subject says nothing."""
    level = _wanted_level(call.body)
    return {"compatibility": await _write(call, lambda registry: registry.set_level(level))}


async def reset_level(call: Call) -> Json:
    """Set how versions must be compatible back to BACKWARD; shows what it was."""
    return {"compatibilityLevel": await _write(call, lambda registry: registry.forget_level())}


async def get_subject_level(call: Call) -> Json:
    """Show how a subject's versions must be compatible."""
    found = await _own_or_global(call, SchemaRegistry.level, errors.no_level)
    return {"compatibilityLevel": found}


async def set_subject_level(call: Call) -> Json:
    """Set how a subject's versions must be compatible."""
    subject, level = call.path["subject"], _wanted_level(call.body)
    found = await _write(call, lambda registry: registry.set_level(level, subject))
    return {"compatibility": found}


async def reset_subject_level(call: Call) -> Json:
    """Let a subject follow what holds for all; shows what it was."""
    subject = call.path["subject"]
    return {
        "compatibilityLevel": await _write(call, lambda registry: registry.forget_level(subject))
    }


async def get_mode(call: Call) -> Json:
    """Show what may be done where a subject says nothing."""
    return {"mode": await _read(call, lambda registry: registry.mode())}


async def set_mode(call: Call) -> Json:
    """Set what may be done where a subject says nothing."""
    mode, force = call.body.mode, call.query.force
    return {"mode": await _write(call, lambda registry: registry.set_mode(mode, force=force))}


async def get_subject_mode(call: Call) -> Json:
    """Show what may be done with a subject."""
    return {"mode": await _own_or_global(call, SchemaRegistry.mode, errors.no_mode)}


async def set_subject_mode(call: Call) -> Json:
    """Set what may be done with a subject."""
    subject, mode, force = call.path["subject"], call.body.mode, call.query.force
    found = await _write(call, lambda registry: registry.set_mode(mode, subject, force=force))
    return {"mode": found}


async def reset_subject_mode(call: Call) -> Json:
    """Let a subject follow the mode that holds for all; shows what it was."""
    subject = call.path["subject"]
    return {"mode": await _write(call, lambda registry: registry.forget_mode(subject))}


# --- what they share ----------------------------------------------------------------------------


async def _own_or_global(
    call: Call,
    look: Callable[[SchemaRegistry, str], str | None],
    unset: Callable[[str], errors.RegistryError],
) -> str:
    """Return what a subject has of its own; with `defaultToGlobal`, else what holds for all."""
    subject, query = call.path["subject"], call.query

    def work(registry: SchemaRegistry) -> str:
        own = look(registry, subject)
        if own is None and query.default_to_global:
            own = look(registry, GLOBAL)
        if own is None:
            raise unset(subject)
        return own

    return await _read(call, work)


async def _read(call: Call, work: Callable[[SchemaRegistry], Result]) -> Result:
    def read(stores: Stores) -> Result:
        return work(SchemaRegistry(stores.reader.store.schemas))

    found: Result = await call.ask(read)
    return found


async def _write(call: Call, work: Callable[[SchemaRegistry], Result]) -> Result:
    def write(stores: Stores) -> Result:
        with stores.writer() as store:
            return work(SchemaRegistry(store.schemas))

    done: Result = await call.ask_to_the_end(write)
    return done


def _candidate(registry: SchemaRegistry, body: SchemaBody, query: NormalizeQuery) -> Candidate:
    if body.schema_type != "JSON":
        raise errors.invalid_schema(
            f"schemas of type {body.schema_type[:40]} are not kept here.",
            'JSON Schemas are: send "schemaType": "JSON".',
        )
    if body.metadata or body.rule_set:
        raise errors.invalid_schema("metadata and rules are not kept here.", "Leave them out.")
    references = [
        Reference(each.name, each.subject, each.version) for each in body.references or ()
    ]
    return registry.candidate(body.schema_, references, normalize=query.normalize)


def _wanted_level(body: ConfigBody) -> str:
    others = body.model_dump(exclude={"compatibility"}, exclude_none=True)
    if others:
        raise RegistryError(
            f"{', '.join(others)}: this is not kept here.",
            number=422,
            code="schema_config_unknown",
            hint="Send `compatibility` alone.",
        )
    return body.compatibility or ""


def _version(registry: SchemaRegistry, call: Call) -> Registered:
    version = parse_version(call.path["version"])
    return registry.get(call.path["subject"], version, deleted=call.query.deleted)


def _versions_of(registry: SchemaRegistry, call: Call) -> list[Version]:
    query: SubjectQuery = call.query
    found = registry.versions_of(_id(call), deleted=query.deleted)
    return [each for each in found if query.subject in {None, each.subject}]


def _id(call: Call) -> int:
    text = call.path["schema_id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise errors.no_schema(text[:80])
    return int(text)


def _content(content: Content) -> Json:
    answer: Json = {"schemaType": "JSON", "schema": content.text, "guid": content.guid}
    if content.references:
        answer["references"] = [
            {"name": each.name, "subject": each.subject, "version": each.version}
            for each in content.references
        ]
    return answer


def _registered(found: Registered) -> Json:
    version = found.version
    return {
        "subject": version.subject,
        "version": version.version,
        "id": found.content.id,
        **_content(found.content),
    }


def _route(
    method: Any, path: str, handle: Callable[[Call], Any], query: Any = None, body: Any = None
) -> Route:
    return Route(method, path, handle, query=query, body=body, media_type=MEDIA_TYPE)


_SUBJECT = "/subjects/{subject}"
_VERSION = f"{_SUBJECT}/versions/{{version}}"
_SCHEMA = "/schemas/ids/{schema_id}"

ROUTES = (
    _route("GET", "/subjects", list_subjects, SubjectsQuery),
    _route("POST", _SUBJECT, lookup_schema, LookupQuery, SchemaBody),
    _route("DELETE", _SUBJECT, delete_subject, DeleteQuery),
    _route("GET", f"{_SUBJECT}/versions", list_versions, ListQuery),
    _route("POST", f"{_SUBJECT}/versions", register_schema, NormalizeQuery, SchemaBody),
    _route("GET", _VERSION, get_version, DeletedQuery),
    _route("DELETE", _VERSION, delete_version, DeleteQuery),
    _route("GET", f"{_VERSION}/schema", get_version_schema, DeletedQuery),
    _route("GET", f"{_VERSION}/referencedby", list_referrers, ListQuery),
    _route("GET", "/schemas", list_schemas, SchemasQuery),
    _route("GET", "/schemas/types", list_schema_types),
    _route("GET", _SCHEMA, get_schema),
    _route("GET", f"{_SCHEMA}/schema", get_schema_text),
    _route("GET", f"{_SCHEMA}/subjects", list_schema_subjects, SubjectQuery),
    _route("GET", f"{_SCHEMA}/versions", list_schema_versions, SubjectQuery),
    _route("GET", "/schemas/guids/{guid}", get_schema_by_guid),
    _route("GET", "/contexts", list_contexts),
    _route("POST", f"/compatibility{_SUBJECT}/versions", check_versions, VerboseQuery, SchemaBody),
    _route("POST", f"/compatibility{_VERSION}", check_version, VerboseQuery, SchemaBody),
    _route("GET", "/config", get_level),
    _route("PUT", "/config", set_level, body=ConfigBody),
    _route("DELETE", "/config", reset_level),
    _route("GET", "/config/{subject}", get_subject_level, DefaultQuery),
    _route("PUT", "/config/{subject}", set_subject_level, body=ConfigBody),
    _route("DELETE", "/config/{subject}", reset_subject_level),
    _route("GET", "/mode", get_mode),
    _route("PUT", "/mode", set_mode, ForceQuery, ModeBody),
    _route("GET", "/mode/{subject}", get_subject_mode, DefaultQuery),
    _route("PUT", "/mode/{subject}", set_subject_mode, ForceQuery, ModeBody),
    _route("DELETE", "/mode/{subject}", reset_subject_mode),
)
