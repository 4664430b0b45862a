"""Every route, in one table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from penstock.api import (
    backfill_routes,
    discard_routes,
    dlq_routes,
    execution_routes,
    flow_routes,
    health_routes,
    live_routes,
    registry_routes,
    replay_routes,
    signal_routes,
)
from penstock.api.calls import Call, Route
from penstock.api.openapi import openapi_document


async def get_openapi(_call: Call) -> dict[str, Any]:
    """Give this description of the API, as OpenAPI 3.1."""
    return described()


ROUTES = (
    *flow_routes.ROUTES,
    # Before those of one dead letter, whose path would fit `replay-all` too.
    *replay_routes.ROUTES,
    *dlq_routes.ROUTES,
    *discard_routes.ROUTES,
    # Before those of one execution, whose path would fit `live` too.
    *live_routes.ROUTES,
    *execution_routes.ROUTES,
    *signal_routes.ROUTES,
    *backfill_routes.ROUTES,
    *health_routes.ROUTES,
    *registry_routes.ROUTES,
    Route("GET", "/api/v1/openapi.json", get_openapi),
)


@lru_cache(maxsize=1)
def described() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return openapi_document(ROUTES)
