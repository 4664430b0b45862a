"""The schemas that a flow file declares, and the registry: whether they fit it, and putting them there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from connectors.errors import FatalError
from flows.plan import FlowPlan, SchemaPlan
from flows.schemas.registry import Candidate, SchemaRegistry
from flows.spec.problems import FlowErrors, Problem
from flows.state.store import open_store
from schema_registry.compatibility import Known
from schema_registry.documents import Reference, compact
from schema_registry.errors import RegistryError


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
    """Return what the registry of the flow's state would refuse at the start; it changes nothing.

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


@contextmanager
def _opened(plan: FlowPlan, *, create: bool) -> Iterator[SchemaRegistry]:
    with closing(open_store(plan.state_url, create=create)) as store:
        yield SchemaRegistry(store.schemas)


def refusals(registry: SchemaRegistry, schemas: Sequence[SchemaPlan]) -> Iterator[Refusal]:
    """Yield the schemas that the registry would refuse, were they registered now."""
    planned: dict[str, list[Known]] = {}
    found: dict[str, Reference] = {}
    for schema in in_order(schemas):
        uses = _uses(schema, found)
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
            number = (before[-1].version if before else _last(registry, schema.subject)) + 1
            before.append(Known(number, schema.document))
            found[schema.key] = Reference(schema.key, schema.subject, number)
        else:
            held = registry.lookup(schema.subject, candidate).version
            found[schema.key] = Reference(schema.key, schema.subject, held.version)


def _last(registry: SchemaRegistry, subject: str) -> int:
    try:
        return registry.versions(subject, deleted=True)[-1].version
    except RegistryError:
        return 0


def register(registry: SchemaRegistry, schemas: Sequence[SchemaPlan]) -> None:
    """Register schemas, those first that others refer to. Raises RegistryError."""
    found: dict[str, Reference] = {}
    for schema in in_order(schemas):
        if schema.compatibility not in {None, registry.level(schema.subject)}:
            registry.set_level(str(schema.compatibility), schema.subject)
        candidate = registry.candidate(compact(schema.document.value), _uses(schema, found))
        held = registry.register(schema.subject, candidate, label=schema.label).version
        found[schema.key] = Reference(schema.key, schema.subject, held.version)


def _uses(schema: SchemaPlan, found: dict[str, Reference]) -> tuple[Reference, ...]:
    return tuple(found[name] for name in sorted(schema.document.referred) if name in found)


def in_order(schemas: Sequence[SchemaPlan]) -> list[SchemaPlan]:
    """Return schemas with those before them that they refer to, versions of one subject in order."""
    by_key = {each.key: each for each in schemas}
    done: dict[str, SchemaPlan] = {}

    def add(schema: SchemaPlan) -> None:
        for name in sorted(schema.document.referred):
            if name not in done:
                add(by_key[name])
        done[schema.key] = schema

    for schema in sorted(schemas, key=lambda each: (each.subject, _natural(each.label or ""))):
        if schema.key not in done:
            add(schema)
    return list(done.values())


def _natural(version: str) -> list[tuple[int, str]]:
    """Return what sorts 1.9 before 1.10."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in parts]
