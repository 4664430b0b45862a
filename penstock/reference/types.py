"""Every `type:` that flow files can name in this installation."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.contracts import ConnectorType
from connectors.errors import FlowFileError
from connectors.registry import connector_type, connector_types
from connectors.settings import Settings
from flows.spec.problems import did_you_mean
from transforms.contracts import StepType
from transforms.registry import step_type, step_types


@dataclass(frozen=True, slots=True)
class KnownType:
    """A connector or step."""

    name: str
    role: str
    """source, sink, `source and sink`, step"""
    built: bool
    """`run` takes it."""
    summary: str
    settings: type[Settings]
    by_time: bool = False
    """Its past can be read by time, without an archive."""
    preview: str = ""
    """Why it is a preview; "": it is none."""

    @property
    def ready(self) -> str:
        """Whether `run` takes it: yes, preview, not yet."""
        if not self.built:
            return "not yet"
        return "preview" if self.preview else "yes"


def all_types() -> list[KnownType]:
    """Return sources, sinks and steps, in this order and by name; those that can be imported."""
    order = ("source", "source and sink", "sink", "step")
    broken = {name for name, _ in broken_types()}
    every = [name for name in [*connector_types(), *step_types()] if name not in broken]
    return sorted(
        (find_type(name) for name in every), key=lambda one: (order.index(one.role), one.name)
    )


def broken_types() -> list[tuple[str, FlowFileError]]:
    """Return the types whose packages are installed and can't be imported, and why."""
    found: list[tuple[str, FlowFileError]] = []
    for names, get in ((connector_types(), connector_type), (step_types(), step_type)):
        for name in names:
            try:
                get(name)
            except FlowFileError as error:
                found.append((name, error))
    return found


def find_type(name: str) -> KnownType:
    """Return the connector or step of that type, `http_call` for `step.http_call` included.

    Raises FlowFileError `unknown_type`.
    """
    every = [*connector_types(), *step_types()]
    if name not in every:
        short = [one for one in every if name in _short_names(one)]
        if len(short) > 1:
            raise FlowFileError(
                f"{name} is more than one type: {', '.join(short)}.",
                code="unknown_type",
                hint="Write one of them in full.",
            )
        name = short[0] if short else name
    connector = connector_type(name)
    if connector is not None:
        return _connector(connector)
    step = step_type(name)
    if step is not None:
        return _step(step)
    raise FlowFileError(
        f"there is no type {name}.",
        code="unknown_type",
        hint=f"{did_you_mean(name, every)} `penstock connectors list` shows all.",
    )


def _short_names(name: str) -> tuple[str, str]:
    """Return what somebody may call a type: without its role, and without what a system's name ends in."""
    role, _, own = name.partition(".")
    return own, own.removesuffix("_cdc") if role == "source" else own


def _connector(found: ConnectorType) -> KnownType:
    roles = set(found.roles)
    if found.source is not None:
        roles.add("source")
    if found.sink is not None:
        roles.add("sink")
    role = " and ".join(sorted(roles, reverse=True))
    built = found.source is not None or found.sink is not None
    return KnownType(
        found.name,
        role,
        built,
        found.summary,
        found.settings,
        by_time=found.by_time,
        preview=found.preview,
    )


def _step(found: StepType) -> KnownType:
    return KnownType(found.name, "step", found.make is not None, found.summary, found.settings)
