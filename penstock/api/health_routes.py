"""Routes for probes and scrapers: /healthz, /readyz, /metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
from starlette.responses import Response

from connectors.errors import PenstockError
from flows.state.archive_queries import ArchiveTotals
from flows.state.copy_store import CopyCounts
from penstock.api.calls import Call, Route
from penstock.api.documents import HealthDocument, ReadyDocument
from penstock.api.metrics import MEDIA_TYPE, exposition
from penstock.api.readers import Stores

Json = dict[str, Any]


async def get_health(_call: Call) -> Json:
    """Tell that the process lives. Needs no token."""
    return {"status": "ok"}


async def get_readiness(call: Call) -> Response:
    """Tell whether every worker runs and the state store answers: 200, else 503.

    A worker that stands by, since another run of the flow has its part, is ready to take over. Needs
    no token; without one, where tokens are set, it does not say what is wrong.
    """
    live = call.backend.live
    checks = [(f"{worker.source}/{worker.index}", live.trouble(worker)) for worker in live.workers]
    trouble = ""
    try:
        await call.ask(lambda stores: stores.reader.ping())
    except PenstockError as error:
        trouble = call.backend.plan.redact(error.message)
    checks.append(("state", trouble))
    ready = bool(live.workers) and not any(wrong for _, wrong in checks)
    shown = {
        "ready": ready,
        "checks": [
            {"name": name, "ok": not wrong, "detail": wrong if wrong and call.knows else None}
            for name, wrong in checks
        ],
    }
    return Response(
        orjson.dumps(shown),
        200 if ready else 503,
        {"cache-control": "no-store"},
        "application/json",
    )


async def get_metrics(call: Call) -> Response:
    """Give the metrics in Prometheus's text format; docs/reference/metrics.md lists them."""
    backend = call.backend
    flow = backend.plan.name
    depths: dict[str, int] | None = None
    copies: dict[str, CopyCounts] = {}
    archives: list[ArchiveTotals] = []

    def read(
        stores: Stores,
    ) -> tuple[dict[str, int], dict[str, CopyCounts], list[ArchiveTotals]]:
        store = stores.reader.store
        found = store.letters.depths(flow)
        copying = [each.name for each in backend.plan.pipelines if each.dead_letter.sink]
        return (
            {plan.name: found.get(plan.name, 0) for plan in backend.plan.pipelines},
            dict.fromkeys(copying, CopyCounts()) | store.copies.counts(flow),
            store.archive.totals(flow),
        )

    with suppress(PenstockError):
        depths, copies, archives = await call.ask(read)
    return Response(exposition(backend, depths, copies, archives), media_type=MEDIA_TYPE)


ROUTES = (
    Route("GET", "/healthz", get_health, HealthDocument),
    Route("GET", "/readyz", get_readiness, ReadyDocument, statuses=(503,)),
    Route("GET", "/metrics", get_metrics, media_type=MEDIA_TYPE),
)
