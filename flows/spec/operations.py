"""Models of a flow file's `alerts:`, `scale:` and `isolation:`, key by key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.settings import Duration, Rate, Secret, Settings, Size
from flows.spec.pipelines import Name

_BANDWIDTH = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)bps")
_BITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def parse_bandwidth(value: Any) -> float:
    """Return bits per second for `100Mbps`. Raises ValueError with what is expected."""
    match = _BANDWIDTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a bandwidth such as 100Mbps")
    return float(match[1]) * _BITS[match[2]]


Bandwidth = Annotated[
    float,
    BeforeValidator(parse_bandwidth),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[kMG]?bps$", "examples": ["100Mbps"]}
    ),
]
"""Bits per second. Written `100Mbps`."""


class AlertCondition(Settings):
    """When an alert is raised."""

    metric: Literal[
        "error_rate",
        "success_rate",
        "dlq_depth",
        "duration_p50",
        "duration_p95",
        "duration_p99",
        "throughput",
        "lag_events",
        "lag_seconds",
        "parked",
    ]
    """What is measured: rates in percent, durations in milliseconds, throughput per second."""
    operator: Literal[">", ">=", "<", "<=", "==", "!="] = ">"
    """How it is compared."""
    threshold: float
    """What it is compared with."""
    window: Duration = 300.0
    """Time over which it is measured."""


class SlackChannel(Settings):
    """A message in Slack."""

    type: Literal["slack"]
    """The kind of channel."""
    webhook: Annotated[HttpUrl, "secret"]
    """Incoming webhook's URL."""


class EmailChannel(Settings):
    """A mail."""

    type: Literal["email"]
    """The kind of channel."""
    recipients: Annotated[list[Annotated[str, MinLen(3)]], MinLen(1)]
    """Addresses."""


class PagerDutyChannel(Settings):
    """An incident in PagerDuty."""

    type: Literal["pagerduty"]
    """The kind of channel."""
    service_key: Annotated[Secret, MinLen(1)]
    """Integration key of the service."""


class WebhookChannel(Settings):
    """A POST of the alert as JSON."""

    type: Literal["webhook"]
    """The kind of channel."""
    url: Annotated[HttpUrl, "secret"]
    """Where it is sent."""


Channel = Annotated[
    SlackChannel | EmailChannel | PagerDutyChannel | WebhookChannel, Field(discriminator="type")
]


class Alert(Settings):
    """Tells somebody when a measure passes its threshold."""

    name: Name
    """The alert's name, unique in the flow."""
    pipeline: str | None = None
    """Pipeline that is watched; default: all of them together."""
    step: str | None = None
    """Step of the pipeline that is watched; default: the pipeline as a whole."""
    condition: AlertCondition
    """When it is raised."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad it is."""
    channels: list[Channel] = Field(default=[])
    """Who is told, and how."""

    @model_validator(mode="after")
    def _step_of_a_pipeline(self) -> Self:
        if self.step is not None and self.pipeline is None:
            raise ValueError("a pipeline beside step")
        return self


class WorkerPool(Settings):
    """How many workers there are."""

    min_workers: Annotated[int, Ge(0)] = 1
    """Fewest workers."""
    max_workers: Annotated[int, Ge(1)] = 1
    """Most workers."""
    queue_size: Annotated[int, Ge(1)] = 4096
    """Events that may wait for a worker."""
    idle_timeout: Duration = 30.0
    """A worker above `min_workers` stops when it had nothing to do for so long."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError("a min_workers that is not above max_workers")
        return self


class TenantQuota(Settings):
    """What one tenant may use."""

    max_concurrent: Annotated[int, Ge(1)] | None = None
    """Executions under way at the same time."""
    rate_limit: Rate | None = None
    """Events per second."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Whose events go first when not all can."""


class Backpressure(Settings):
    """When sources are held back."""

    queue_threshold: Annotated[int, Ge(1)] | None = None
    """With more events waiting than this, new ones are refused (HTTP 429)."""
    soft_threshold: Annotated[int, Ge(1)] | None = None
    """With more events waiting than this, only sources of high priority are read."""


class Scale(Settings):
    """Workers, quotas of tenants and backpressure."""

    worker_pool: WorkerPool | None = None
    """How many workers there are."""
    tenant_quotas: dict[str, TenantQuota] = Field(default={})
    """Tenant, or tenants' plan → quota; `default` is for all others."""
    backpressure: Backpressure | None = None
    """When sources are held back."""


class ConnectionPool(Settings):
    """Database connections of one tenant."""

    max_connections: Annotated[int, Ge(1)]
    """Most connections at the same time."""


class TenantIsolation(Settings):
    """What one tenant has for itself."""

    worker_pool: WorkerPool | None = None
    """Workers of its own."""
    db_pool: ConnectionPool | None = None
    """Database connections of its own."""
    transform_memory: Size | None = None
    """Memory that its transforms may use."""
    egress_rate: Bandwidth | None = None
    """Network bandwidth that it may use."""


class Isolation(Settings):
    """Keeps tenants from using up each other's share."""

    tenants: dict[str, TenantIsolation] = Field(default={})
    """Tenant → what it has for itself; `default` is for all others."""
