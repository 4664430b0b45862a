"""Webhooks: requests to the paths of a flow's `source.http` modules.

    path → method → who sends → body → signature → events → kept (fsync) → 202
                                                                 └─ respond: settled → what came of it

Nothing is kept of a request that is refused, and a request that got no answer may be sent again: where the
sender gives its deliveries ids, it is the same event.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.http.encodings import decoded
from connectors.http.requests import (
    Arrived,
    Expression,
    HttpRequest,
    RefusedError,
    RequestReader,
    basic_credentials,
    ids_of,
)
from connectors.http.routes import Found, Routes
from connectors.http.settings import HttpAuth, HttpSourceSettings
from connectors.http.signatures import Verifier, challenge_of, verifier_of
from flows.plan import FlowPlan, SourcePlan
from flows.state.inbox import Incoming, Kept, Outcome
from flows.state.store import open_store
from penstock.api.bodies import read_body
from penstock.api.errors import ApiError
from penstock.api.keeping import Keeper
from transforms.expressions import compile_jq

BODY_WITHIN = 30.0
"""Seconds in which a body must have come."""

_LIVING = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Hook:
    """One `source.http` module, ready to take requests."""

    name: str
    settings: HttpSourceSettings
    pipelines: Sequence[str]
    reader: RequestReader
    verify: Verifier | None


class Hooks:
    """The webhooks of a flow."""

    def __init__(self, plan: FlowPlan, is_draining: Callable[[], bool]) -> None:
        self._is_draining = is_draining
        hooks = [_hook(source) for source in plan.sources if is_hook(source)]
        self._routes = Routes((h.settings.path, h.settings.methods, h) for h in hooks)
        self._keeper = Keeper(lambda: open_store(plan.state_url), plan.name)

    def find(self, path: str) -> Found[Hook] | None:
        """Return what a path leads to; None where it is no webhook's."""
        return self._routes.find(path)

    def close(self) -> None:
        """Write what has been taken."""
        self._keeper.close()

    async def answer(self, request: Request, found: Found[Hook]) -> Response:
        """Keep a request's events and answer it. Raises ApiError, RetryableError."""
        hook = found.methods.get(request.method)
        if hook is None:
            allowed = ", ".join(sorted(found.methods))
            raise ApiError(
                f"{request.method} is not possible here.",
                code="method_not_allowed",
                status=405,
                hint=f"Possible: {allowed}.",
                headers={"allow": allowed},
            )
        self._admit(hook)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.scope["headers"]
        }
        if hook.settings.auth is not None:
            _check_auth(hook.settings.auth, headers.get("authorization", ""))
        body = await read_body(
            request,
            longest=hook.settings.max_body,
            seconds=BODY_WITHIN,
            too_large="Nothing was kept. The source's max_body says how much it takes.",
        )
        now = time.time()
        if hook.verify is not None and (why := hook.verify(headers, body, now)):
            raise ApiError(
                f"{why}.",
                code="signature_refused",
                status=401,
                hint="Secret, scheme and header must be the sender's, and the clocks must agree.",
            )
        try:
            body = decoded(headers.get("content-encoding", ""), body, hook.settings.max_body)
            challenge = challenge_of(hook.settings.signature, body)
            if challenge is not None:
                return _json({"challenge": challenge}, 200)
            events = hook.reader.read(
                HttpRequest(
                    request.method,
                    request.scope["path"],
                    found.parameters,
                    request.scope["query_string"].decode("latin-1"),
                    headers,
                    body,
                    now,
                )
            )
        except RefusedError as error:
            raise ApiError(
                error.message, code=error.code, status=error.status, hint=error.hint
            ) from error
        if not events:
            return _json({"ids": []}, 202)
        return await self._keep(hook, events)

    def _admit(self, hook: Hook) -> None:
        """Raise ApiError where no event can be taken now."""
        if self._is_draining():
            raise ApiError(
                "the flow is being stopped.",
                code="draining",
                status=503,
                hint="Nothing was kept; send it again.",
                headers={"retry-after": "5", "connection": "close"},
            )
        waiting = self._keeper.waiting(hook.name)
        if self._keeper.is_full() or waiting >= hook.settings.max_waiting:
            raise ApiError(
                f"{waiting} events of {hook.name} wait for their pipelines.",
                code="too_many_waiting",
                status=429,
                hint="Nothing was kept; send it again, later.",
                headers={"retry-after": "2"},
            )

    async def _keep(self, hook: Hook, events: Sequence[Arrived]) -> Response:
        coming = [Incoming(each.head, each.raw, each.key, each.digest) for each in events]
        try:
            kept = await self._keeper.keep(hook.name, coming)
        except (RetryableError, FatalError) as error:
            raise ApiError(
                "the event could not be stored.",
                code="inbox_away",
                status=503,
                hint="Send it again. The state store does not answer; the log says why.",
                headers={"retry-after": "5"},
            ) from error
        ids = ids_of(events)
        if hook.settings.respond == "accepted":
            return _json(ids, 202)
        outcomes = await self._outcomes(hook, kept)
        if None in outcomes:
            return _json({**ids, "status": "accepted"}, 202)
        return _told(hook, ids, [each for each in outcomes if each is not None])

    async def _outcomes(
        self, hook: Hook, kept: Sequence[Kept]
    ) -> list[Mapping[str, Outcome] | None]:
        timeout = hook.settings.timeout
        return await asyncio.gather(
            *(
                self._keeper.outcome(hook.name, each.number, hook.pipelines, timeout)
                for each in kept
            )
        )


def is_hook(source: SourcePlan) -> bool:
    """Whether a source takes requests: it is one, and triggers something."""
    return isinstance(source.settings, HttpSourceSettings) and bool(source.pipelines)


def _hook(source: SourcePlan) -> Hook:
    settings: HttpSourceSettings = source.settings
    reader = RequestReader(
        source.name,
        settings,
        id=None if settings.id is None else _expression(settings.id),
        key=None if settings.key is None else _expression(settings.key),
    )
    verify = None if settings.signature is None else verifier_of(settings.signature)
    pipelines = [pipeline.name for pipeline in source.pipelines]
    return Hook(source.name, settings, pipelines, reader, verify)


def _expression(text: str) -> Expression:
    program = compile_jq(text)

    def first(request: Mapping[str, Any]) -> Any:
        try:
            return program.first(request)
        except PenstockError as error:
            raise PermanentError(error.message, code=error.code, hint=error.hint) from error

    return first


def _told(
    hook: Hook, ids: Mapping[str, Any], outcomes: Sequence[Mapping[str, Outcome]]
) -> Response:
    """Return the answer that a pipeline has made, or else what came of the events."""
    if len(outcomes) == 1:
        for name in hook.pipelines:
            answer = outcomes[0][name].answer
            if answer is not None:
                return _made(orjson.loads(answer))
    failed = any(
        outcome.outcome == "failed" for of_event in outcomes for outcome in of_event.values()
    )
    return _json({**ids, "status": "failed" if failed else "done"}, 500 if failed else 200)


def _made(answer: Mapping[str, Any]) -> Response:
    """Return the answer of `step.json_response`."""
    status = int(answer["status"])
    headers = {str(name).lower(): str(value) for name, value in answer["headers"].items()}
    kind = headers.pop("content-type", "application/json")
    if status in {204, 304} or status < 200:
        return Response(b"", status, {**_LIVING, **headers})
    return Response(orjson.dumps(answer["body"]), status, {**_LIVING, **headers}, kind)


def _json(value: Any, status: int) -> Response:
    return Response(orjson.dumps(value), status, _LIVING, "application/json")


def _check_auth(auth: HttpAuth, shown: str) -> None:
    if auth.bearer is not None:
        scheme, _, token = shown.partition(" ")
        fits = hmac.compare_digest(token.strip().encode(), auth.bearer.encode())
        if scheme.lower() == "bearer" and fits:
            return
        challenge = 'Bearer realm="penstock"'
    else:
        user, password = basic_credentials(shown) or (b"", b"")
        fits = hmac.compare_digest(user, (auth.username or "").encode())
        fits &= hmac.compare_digest(password, (auth.password or "").encode())
        if fits:
            return
        challenge = 'Basic realm="penstock"'
    raise ApiError(
        "this needs authorization.",
        code="sender_refused",
        status=401,
        hint="The source's auth says which.",
        headers={"www-authenticate": challenge},
    )
