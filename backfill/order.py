"""What a job's process is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Order:
    """What a job's process is told."""

    job: int
    state: str
    """The state store's URL; "": as PENSTOCK_STATE_URL says."""
    files: list[str]
    """The flow's."""
    with_files: list[str]
    """Of the flow whose pipeline runs, where that is another."""

    def encode(self) -> str:
        """Return it as a command-line argument."""
        return orjson.dumps(asdict(self)).decode()
