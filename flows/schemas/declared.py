"""The schemas that a flow file declares, and the registry: whether they fit it, and putting them there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from connectors.errors import FatalError
from flows.plan import FlowPlan, SchemaPlan
from flows.schemas.registry import Candidate, SchemaRegistry
from flows.spec.problems import FlowErrors, Problem
from flows.state.store import open_store
from schema_registry.compatibility import Known
from schema_registry.documents import Reference, compact
from schema_registry.errors import RegistryError, invalid_schema
from schema_registry.rules import Level


@dataclass(frozen=True, slots=True)
class Refusal:
    """A schema that the registry does not take, and why."""

    schema: SchemaPlan
    error: RegistryError

    def problem(self) -> Problem:
        """Return it as what is wrong with the flow file."""
        place, error = self.schema.place, self.error
        return Problem(
            place.file,
            place.line,
            place.column,
            f"schema {self.schema.key}: {error.message}",
            error.hint,
            error.code,
        )


def check_declared(plan: FlowPlan) -> list[Problem]:
    """Return what the registry would refuse at the start; it changes nothing.

    A state that is not there yet refuses nothing. Raises PenstockError when it can't be read.
    """
    if not plan.declared_schemas:
        return []
    try:
        with _opened(plan, create=False) as registry:
            return [each.problem() for each in refusals(registry, plan.declared_schemas)]
    except FatalError as error:
        # A store of an older release has no registry, or none that is read before it is migrated.
        if error.code in {"state_missing", "state_older"}:
            return []
        raise


def register_declared(plan: FlowPlan) -> None:
    """Register the flow's schemas; those that are there stay as they are.

    Raises FlowErrors, naming the line of each that the registry refuses, and registers none then.
    """
    if not plan.declared_schemas:
        return
    with _opened(plan, create=True) as registry:
        refused = list(refusals(registry, plan.declared_schemas))
        if refused:
            raise FlowErrors([each.problem() for each in refused])
        register(registry, plan.declared_schemas)


class Registrar(Protocol):
    """What a flow's schemas ask of the registry: SchemaRegistry, or RemoteRegistry."""

    def verify(
        self,
        name: str,
        candidate: Candidate,
        *,
        label: str | None,
        level: Level | None,
        planned: Sequence[Known],
    ) -> bool:
        """Tell whether a schema would be a new version; raise RegistryError where it is refused."""

    def held(self, name: str, candidate: Candidate) -> int:
        """Return the version that holds a schema."""

    def last(self, name: str) -> int:
        """Return the number of a subject's last version; 0: there is none."""

    def put(self, name: str, candidate: Candidate, label: str | None) -> int:
        """Register a schema; return its version."""

    def level(self, name: str) -> Level | None:
        """Return the compatibility that a subject has of its own."""

    def set_level(self, level: str, name: str) -> object:
        """Set the compatibility of a subject."""


@contextmanager
def _opened(plan: FlowPlan, *, create: bool) -> Iterator[Registrar]:
    if plan.schema_registry is not None:
        from flows.schemas.remote import RemoteRegistry  # noqa: PLC0415 - httpx, for few flows

        with closing(RemoteRegistry(plan.schema_registry)) as remote:
            yield remote
        return
    with closing(open_store(plan.state_url, create=create)) as store:
        yield SchemaRegistry(store.schemas)


def refusals(registry: Registrar, schemas: Sequence[SchemaPlan]) -> Iterator[Refusal]:
    """Yield the schemas that the registry would refuse, were they registered now."""
    planned: dict[str, list[Known]] = {}
    found: dict[str, Reference] = {}
    for schema in in_order(schemas):
        try:
            uses = _uses(schema, found)
        except RegistryError as error:
            yield Refusal(schema, error)
            continue
        before = planned.setdefault(schema.subject, [])
        # What refers to a schema that is not registered yet is not registered either, and its
        # digest is of no other's.
        candidate = Candidate(compact(schema.document.value), schema.document, uses)
        try:
            new = registry.verify(
                schema.subject,
                candidate,
                label=schema.label,
                level=schema.compatibility,
                planned=before,
            )
        except RegistryError as error:
            yield Refusal(schema, error)
            continue
        if new:
            number = (before[-1].version if before else registry.last(schema.subject)) + 1
            before.append(Known(number, schema.document))
            found[schema.key] = Reference(schema.key, schema.subject, number)
        else:
            held = registry.held(schema.subject, candidate)
            found[schema.key] = Reference(schema.key, schema.subject, held)


def register(registry: Registrar, schemas: Sequence[SchemaPlan]) -> None:
    """Register schemas, those first that others refer to. Raises RegistryError."""
    found: dict[str, Reference] = {}
    for schema in in_order(schemas):
        if schema.compatibility not in {None, registry.level(schema.subject)}:
            registry.set_level(str(schema.compatibility), schema.subject)
        uses = _uses(schema, found)
        candidate = Candidate(compact(schema.document.value), schema.document, uses)
        number = registry.put(schema.subject, candidate, schema.label)
        found[schema.key] = Reference(schema.key, schema.subject, number)


def _uses(schema: SchemaPlan, found: dict[str, Reference]) -> tuple[Reference, ...]:
    names = sorted(schema.document.referred)
    for name in names:
        if name not in found:  # refused, or its subject's versions must come before and after these
            raise invalid_schema(
                f"{name}, which it refers to, can't be registered before it.",
                "Mend that one first.",
            )
    return tuple(found[name] for name in names)


def in_order(schemas: Sequence[SchemaPlan]) -> list[SchemaPlan]:
    """Return schemas with those before them that they refer to, versions of one subject in order."""
    by_key = {each.key: each for each in schemas}
    versions: dict[str, list[SchemaPlan]] = {}
    for schema in sorted(schemas, key=lambda each: (each.subject, _natural(each.label or ""))):
        versions.setdefault(schema.subject, []).append(schema)
    done: dict[str, SchemaPlan] = {}
    begun: set[str] = set()

    def add(schema: SchemaPlan) -> None:
        if schema.key in begun:
            return
        begun.add(schema.key)
        for name in sorted(schema.document.referred):
            add(by_key[name])
        for earlier in versions[schema.subject]:
            if earlier is schema:
                break
            add(earlier)
        done[schema.key] = schema

    for each in versions.values():
        for schema in each:
            add(schema)
    return list(done.values())


def _natural(version: str) -> list[tuple[int, str]]:
    """Return what sorts 1.9 before 1.10."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in parts]
