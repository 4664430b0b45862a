"""What a route is, and what its handler gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import Response

from connectors.settings import Settings
from flows.plan import FlowPlan
from penstock.api.live import Live
from penstock.api.readers import Stores


@dataclass(frozen=True, slots=True)
class Backend:
    """What is served."""

    plan: FlowPlan
    live: Live
    started_at: float
    """Wall clock, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was admitted, its parts parsed."""

    backend: Backend
    path: Mapping[str, str]
    """The names in the path."""
    query: Any
    """An instance of the route's `query`."""
    body: Any
    """An instance of the route's `body`."""
    caller: str | None
    """The name of the token that was shown; None where none is needed, or none was shown."""
    knows: bool
    """Whether the caller may be told more than whether all is well."""
    ask: Callable[[Callable[[Stores], Any]], Any]
    """Await it to have something asked of the state store, on a thread: 503 when it takes too long."""
    ask_to_the_end: Callable[[Callable[[Stores], Any]], Any]
    """The same, for what is done to its end also when that takes longer than the caller waits."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `handle` returns what is sent as JSON, or a Response."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handle: Callable[[Call], Any]
    """A coroutine function; its docstring is the operation's summary and description."""
    answer: type[Settings] | None = None
    """What it sends as JSON; None where it sends something else."""
    query: type[Settings] | None = None
    body: type[Settings] | None = None
    media_type: str = "application/json"
    status: int = 200
    """When all went well."""
    statuses: tuple[int, ...] = field(default=())
    """Other statuses that are answered in the same form, such as 503 of /readyz."""

    @property
    def name(self) -> str:
        """Return the operation's name: `list_dead_letters`."""
        return self.handle.__name__


__all__ = ["Backend", "Call", "Response", "Route"]
