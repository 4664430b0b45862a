"""Routes that start an execution by hand, and of signals: what is asked of one that waits or runs."""

from __future__ import annotations

from typing import Any

from dlq.replay import find_replay, replay_document
from dlq.trigger import Wish, trigger
from flows.history.asking import ask_one
from flows.history.documents import signal_document
from flows.state.jsontext import json_text
from flows.state.signals import Action, Signal
from penstock.api.calls import Call, Route
from penstock.api.documents import StartedDocument
from penstock.api.execution_documents import SignalDocument
from penstock.api.queries import SignalBody, SkipBody, TriggerBody
from penstock.api.readers import Stores

Json = dict[str, Any]


async def start_execution(call: Call) -> Json:
    """Run an event through a pipeline, effects and all: what is answered is its execution, and what runs it.

    /api/v1/executions/{execution}/timeline shows it once it has run; /api/v1/dlq/replays/{id}/entries says what
    came of it, also before. With an `idempotency_key` that was used before, for the pipeline, nothing is
    started: what was started then is answered, and `repeated` is true.
    """
    plan, body = call.backend.plan, call.body
    wish = Wish(
        body.pipeline,
        json_text(body.data),
        body.type,
        body.key,
        body.subject,
        body.id,
        body.idempotency_key,
    )

    def ask(stores: Stores) -> Json:
        with stores.writer() as store:
            started = trigger(store, plan, wish, by=f"{call.caller or 'somebody'} (API)")
            shown = replay_document(find_replay(store, started.replay))
        return shown | {"execution_id": started.execution, "repeated": started.again}

    found: Json = await call.ask_to_the_end(ask)
    return found


async def pause_execution(call: Call) -> Json:
    """Hold an execution until it is resumed: one that waits at once, one that runs at its next step.

    What comes later of its key waits behind it.
    """
    return await _ask(call, "pause")


async def resume_execution(call: Call) -> Json:
    """Let a paused execution go on."""
    return await _ask(call, "resume")


async def retry_execution(call: Call) -> Json:
    """Try the step now that an execution waits for; one behind another of its key, in its turn."""
    return await _ask(call, "retry")


async def skip_execution(call: Call) -> Json:
    """Send an execution past its next step, or past all that are left: what it has done stands."""
    return await _ask(call, "skip_execution" if call.body.execution else "skip")


async def cancel_execution(call: Call) -> Json:
    """End an execution: what its saga has done is compensated, what waits behind it goes on."""
    return await _ask(call, "cancel")


async def _ask(call: Call, action: Action) -> Json:
    flow, body = call.backend.plan.name, call.body

    def ask(stores: Stores) -> Signal:
        with stores.writer() as store:
            number = ask_one(
                store,
                flow,
                call.path["execution"],
                action,
                by=f"{call.caller or 'somebody'} (API)",
                reason=body.reason,
            )
            return store.signals.get([number])[0]

    return signal_document(await call.ask_to_the_end(ask))


_ONE = "/api/v1/executions/{execution}"

ROUTES = (
    Route(
        "POST",
        "/api/v1/executions",
        start_execution,
        StartedDocument,
        body=TriggerBody,
        status=202,
    ),
    Route("POST", f"{_ONE}/pause", pause_execution, SignalDocument, body=SignalBody, status=202),
    Route("POST", f"{_ONE}/resume", resume_execution, SignalDocument, body=SignalBody, status=202),
    Route("POST", f"{_ONE}/retry", retry_execution, SignalDocument, body=SignalBody, status=202),
    Route("POST", f"{_ONE}/skip", skip_execution, SignalDocument, body=SkipBody, status=202),
    Route("POST", f"{_ONE}/cancel", cancel_execution, SignalDocument, body=SignalBody, status=202),
)
