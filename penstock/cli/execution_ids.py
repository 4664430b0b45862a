"""The argument that says which execution a command means."""

from __future__ import annotations

from connectors.errors import FlowFileError
from penstock.cli.options import Id

__all__ = ["Id", "check_id"]


def check_id(given: str, command: str) -> None:
    """Raise FlowFileError `execution_unknown` for a flow file in an id's place."""
    if given.endswith((".yaml", ".yml")):
        raise FlowFileError(
            f"{given} is a flow file, not the id of an execution.",
            code="execution_unknown",
            hint=f"The id comes first: penstock executions {command} ID {given}",
        )
