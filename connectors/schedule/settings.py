"""Configuration of `source.schedule`."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from annotated_types import Ge
from pydantic import AfterValidator, model_validator
from typing_extensions import Self

from connectors.schedule.cron import parse_cron
from connectors.settings import Duration, Settings, TemplateValue


def _check_cron(value: str) -> str:
    parse_cron(value)
    return value


def _check_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            "the name of a time zone that this machine knows, such as Europe/Berlin or UTC"
        ) from error
    return value


class ScheduleSettings(Settings):
    """When events are made, and what is in them."""

    cron: Annotated[str, AfterValidator(_check_cron)] | None = None
    """Minute, hour, day of month, month, day of week; or @hourly, @daily and so on."""
    every: Annotated[Duration, Ge(1)] | None = None
    """Interval instead of `cron`, counted from 1970-01-01T00:00Z; 1s at least."""
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"
    """Time zone of `cron`. A time that summer time skips fires when the skipped hour ends, one that comes
    twice fires once; where the cron names every hour, none is made up and both hours have theirs."""
    missed: Literal["run_once", "run_all", "skip"] = "run_once"
    """What to do about times that passed while nothing ran: the last of them once, all of them, or none
    (but for the last one where it is less than a minute late)."""
    jitter: Annotated[Duration, Ge(0)] = 0.0
    """Delay each event by up to so much, the same for the same time."""
    type: str = "schedule.fired"
    """CloudEvents type of the events."""
    data: TemplateValue = None
    """Data of the events, rendered over `scheduled_at` (in UTC) and `local_time` (in `timezone`); default:
    `{"scheduled_at": …}`."""

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError('either cron, such as "0 * * * *", or every, such as 5m')
        if self.every is not None and self.every != int(self.every):
            raise ValueError("whole seconds in every")
        return self
