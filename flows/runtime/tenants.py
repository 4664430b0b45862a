"""Whose an event is: a pipeline's `tenant:`, else the event's own attribute."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.batch import Column
from flows.state.records import DEFAULT_TENANT
from transforms.executions import Executions
from transforms.expressions import Program


def tenants(program: Program | None, executions: Executions, indexes: Sequence[int]) -> Column:
    """Return the tenant of each, as text; where `program` gives no text, the event's attribute."""
    if program is None:
        return [_own(executions, index) for index in indexes]
    values, errors = program.column(executions, indexes)
    return [
        value if isinstance(value, str) and index not in errors else _own(executions, index)
        for index, value in zip(indexes, values, strict=True)
    ]


def _own(executions: Executions, index: int) -> str:
    extensions = executions.events.column("extensions")[index]
    return str(extensions.get("tenant", DEFAULT_TENANT)) if extensions else DEFAULT_TENANT
