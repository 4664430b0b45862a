"""Events by the clock: `source.schedule`.

settings    what a flow file may write
cron        cron expressions (pure)
times       when a schedule fires next, in a time zone (pure)
source      what a schedule is                             → reader
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.schedule.settings import ScheduleSettings

if TYPE_CHECKING:
    from connectors.schedule.source import ScheduleSource


def _source(name: str, settings: ScheduleSettings) -> ScheduleSource:
    from connectors.schedule.source import ScheduleSource  # noqa: PLC0415 - a flow is read without it

    return ScheduleSource(name, settings)


SOURCE_SCHEDULE = ConnectorType(
    "source.schedule",
    ScheduleSettings,
    "Make an event at the times of a cron expression.",
    source=_source,
)

__all__ = ["SOURCE_SCHEDULE"]
