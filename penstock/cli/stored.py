"""Opens the state that a command is to look at: a flow file's, or one named by its URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from connectors.errors import FlowFileError, PenstockError
from flows.spec.problems import did_you_mean
from flows.state.contracts import StateStore
from flows.state.store import open_store

if TYPE_CHECKING:
    from flows.plan import FlowPlan

DEFAULT_URL = "sqlite:///penstock.db"


@dataclass(frozen=True, slots=True)
class Stored:
    """An open state store, and which flow of it was asked for; None: all of them."""

    store: StateStore
    place: str
    """Its URL without the password."""
    flow: str | None
    plan: FlowPlan | None = None
    """The flow, where its file was named."""

    def one_flow(self) -> str:
        """Return the one flow that is meant. Raises FlowFileError `state_no_flow`."""
        if self.flow is not None:
            return self.flow
        known = self.store.flows()
        if len(known) == 1:
            return known[0]
        raise FlowFileError(
            f"which flow? {self.place} holds {len(known)}: {', '.join(known[:8])}.",
            code="state_no_flow",
            hint="Name its file, or --flow NAME.",
        )

    def check_pipeline(self, name: str) -> None:
        """Raise FlowFileError `unknown_pipeline` when no flow that was asked for has it."""
        flows = self.store.flows() if self.flow is None else [self.flow]
        known = {name for flow in flows for name in self.store.pipelines(flow)}
        if name not in known:
            raise FlowFileError(
                f"no pipeline {name} has run.",
                code="unknown_pipeline",
                hint=did_you_mean(name, known, none="None has yet."),
            )


@contextmanager
def open_stored(
    files: Sequence[Path] | None, state: str | None, flow: str | None, *, create: bool = False
) -> Iterator[Stored]:
    """Open the state for reading. Nothing is created: a store that isn't there is an error.

    With `create` it is made, and the flow may be one that it does not know.

    Raises FlowFileError for a store or a flow that is not there, FatalError.
    """
    url = state or DEFAULT_URL
    plan = None
    if files:
        from flows.plan import load_flow  # noqa: PLC0415 - loads every connector that is named

        plan = load_flow(files)
        url, flow = state or plan.state_url, flow or plan.name
    store = open_store(url) if create else _open(url, named=bool(files or state))
    try:
        known = store.flows()
        if flow is not None and flow not in known and not create:
            raise FlowFileError(
                f"the flow {flow} has stored nothing in {_shown(url)}.",
                code="state_no_flow",
                hint=did_you_mean(flow, known, none="No flow has: has it run yet?"),
            )
        yield Stored(store, _shown(url), flow, plan)
    finally:
        store.close()


def _open(url: str, *, named: bool) -> StateStore:
    try:
        return open_store(url, create=False)
    except PenstockError as error:
        if error.code != "state_missing":
            raise
        hint = "It is made when the flow runs: `penstock run FLOW.yaml`."
        if not named:
            hint = (
                "Name the flow file whose state you mean, or a store with --state URL; without"
                f" either it is {DEFAULT_URL} in this folder."
            )
        raise FlowFileError(error.message, code="state_missing", hint=hint) from error


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
