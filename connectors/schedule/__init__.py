"""Events by the clock: `source.schedule`, modelled and validated; not built yet."""

from __future__ import annotations

from connectors.contracts import ConnectorType
from connectors.schedule.settings import ScheduleSource

SOURCE_SCHEDULE = ConnectorType(
    "source.schedule",
    ScheduleSource,
    "Make an event at the times of a cron expression.",
    roles=frozenset({"source"}),
)

__all__ = ["SOURCE_SCHEDULE"]
