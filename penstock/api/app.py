"""The ASGI application: from a request to a route's handler, and from an error to a problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson
import structlog
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from connectors.errors import PenstockError
from connectors.settings import Settings
from penstock.api.access import Access
from penstock.api.bodies import read_body
from penstock.api.calls import Backend, Call, Route
from penstock.api.errors import ApiError, problem_response
from penstock.api.hooks import Hooks
from penstock.api.readers import ReaderThreads, Stores
from penstock.api.registry_wire import BODY_TYPES, error_response, is_registry

PATIENCE = 10.0
"""Seconds that a request waits for the state store."""

LARGEST_BODY = 1 << 20
"""Bytes."""

GUARDING = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}
"""Headers of every answer: a browser guesses no type, and gives it to no page of another site."""

log = structlog.get_logger("penstock.api")


class Api:
    """Serves routes; an ASGI application."""

    def __init__(
        self,
        backend: Backend,
        access: Access,
        threads: ReaderThreads,
        routes: Sequence[Route],
        *,
        patience: float = PATIENCE,
        hooks: Hooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._backend = backend
        self._access = access
        self._threads = threads
        self._patience = patience
        paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            paths.setdefault(route.path, {})[route.method] = route
        self._paths = [(compile_path(path)[0], methods) for path, methods in paths.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except PenstockError as error:
            response = self._problem(request, error)
        except Exception as error:
            log.exception("a request broke", method=request.method, path=request.scope["path"])
            response = self._problem(request, _bug(error))
        response.headers.update(GUARDING)
        await response(scope, receive, send)

    def _problem(self, request: Request, error: PenstockError) -> Response:
        if is_registry(request.scope["path"]):
            return error_response(error, self._backend.plan.redact)
        return problem_response(error, request.scope["path"], self._backend.plan.redact)

    async def _answer(self, request: Request) -> Response:
        # First: senders have no token of the API's, and each source says itself whom it lets in.
        hook = None if self._hooks is None else self._hooks.find(request.scope["path"])
        if self._hooks is not None and hook is not None and not self._is_ours(request):
            self._access.admit_sender(request)
            return await self._hooks.answer(request, hook)
        caller = self._access.admit(request)
        route, names = self._find(request)
        query = None if route.query is None else _read_query(route.query, request.query_params)
        body = None if route.body is None else _read(route.body, await self._body(request), "body")
        call = Call(
            backend=self._backend,
            path=names,
            query=query,
            body=body,
            caller=caller,
            knows=caller is not None or not self._access.guarded,
            ask=self._ask,
            ask_to_the_end=self._ask_to_the_end,
        )
        answer = await route.handle(call)
        if isinstance(answer, Response):
            return answer
        headers = {"cache-control": "no-store"}
        return Response(orjson.dumps(answer), route.status, headers, route.media_type)

    def _is_ours(self, request: Request) -> bool:
        """Whether the API itself has the path: a webhook at /{name} doesn't take /healthz."""
        path = request.scope["path"]
        return is_registry(path) or any(pattern.match(path) for pattern, _ in self._paths)

    def _find(self, request: Request) -> tuple[Route, Mapping[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        path = request.scope["path"]
        quoted = is_registry(path) and "raw_path" in request.scope
        if quoted:  # a subject's name may hold a slash
            path = request.scope["raw_path"].decode("ascii", "replace")
        for pattern, methods in self._paths:
            match = pattern.match(path)
            if match is None:
                continue
            if method not in methods:
                allowed = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))
                raise ApiError(
                    f"{request.method} is not possible here.",
                    code="method_not_allowed",
                    status=405,
                    hint=f"Possible: {allowed}.",
                    headers={"allow": allowed},
                )
            names = match.groupdict()
            return methods[method], {k: unquote(v) for k, v in names.items()} if quoted else names
        raise ApiError(
            f"there is nothing at {request.scope['path']}.",
            code="not_found",
            status=404,
            hint="/api/v1/openapi.json lists what there is.",
        )

    async def _body(self, request: Request) -> Any:
        body = await read_body(
            request,
            longest=LARGEST_BODY,
            seconds=self._patience,
            too_large="Nothing that this API takes is so large.",
        )
        return _parsed(body, request)

    async def _ask(self, work: Callable[[Stores], Any]) -> Any:
        """Return what `work` returns on one of the threads that may wait for the state store.

        Work that still waits for a thread when the caller has waited long enough is not done.
        """
        return await self._waited(asyncio.wrap_future(self._threads.submit(work)))

    async def _ask_to_the_end(self, work: Callable[[Stores], Any]) -> Any:
        future = asyncio.wrap_future(self._threads.submit(work))
        future.add_done_callback(_log_what_nobody_heard)
        return await self._waited(asyncio.shield(future))

    async def _waited(self, future: asyncio.Future[Any]) -> Any:
        try:
            return await asyncio.wait_for(future, self._patience)
        except asyncio.TimeoutError:
            raise ApiError(
                f"the state store did not answer within {self._patience:g} seconds.",
                code="state_timeout",
                status=503,
                hint="Is it overloaded, stopped, or cut off? The flow itself waits for it, too.",
            ) from None


def _log_what_nobody_heard(future: asyncio.Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        log.warning("a request that was accepted failed", error=str(error))


def _bug(error: Exception) -> ApiError:
    return ApiError(
        f"Penstock broke: {type(error).__name__}.",
        code="internal_error",
        status=500,
        hint="This is a defect of Penstock; the stack is in the log of `penstock run`.",
    )


def _parsed(body: bytes, request: Request) -> Any:
    """Return the body's value, {} when there is none."""
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind in BODY_TYPES and is_registry(request.scope["path"])
    ):
        raise ApiError(
            f"a body of type {kind[:80] or 'unknown'} can't be read.",
            code="media_type",
            status=415,
            hint="Send JSON with `Content-Type: application/json`.",
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(
            f"the body is not JSON: {error.msg}.",
            code="json_invalid",
            status=400,
            hint=f"Line {error.lineno}, column {error.colno}.",
        ) from None


def _read_query(model: type[Settings], parameters: QueryParams) -> Settings:
    values: dict[str, Any] = {}
    for name in parameters:
        given = parameters.getlist(name)
        field = model.model_fields.get(name)
        takes_list = field is not None and "list" in str(field.annotation)
        if len(given) > 1 and not takes_list:
            raise _invalid([{"place": f"query.{name}", "message": "is given more than once"}])
        if any("\x00" in each for each in given):  # PostgreSQL has no text with one
            raise _invalid([{"place": f"query.{name}", "message": "holds a NUL character"}])
        values[name] = given if takes_list else given[0]
    return _read(model, values, "query")


def _read(model: type[Settings], value: Any, place: str) -> Settings:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(
            [
                {
                    "place": ".".join(map(str, (place, *details["loc"]))),
                    "message": _words(details["msg"]),
                }
                for details in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _words(message: str) -> str:
    """Say it without the library's own words."""
    known = {"Extra inputs are not permitted": "is not known here", "Field required": "is missing"}
    for prefix in ("Value error, ", "Input should be "):
        if message.startswith(prefix):
            return f"expected {message.removeprefix(prefix)}"
    return known.get(message, message)


def _invalid(errors: list[dict[str, str]]) -> ApiError:
    listed = "; ".join(f"{each['place']}: {each['message']}" for each in errors[:5])
    return ApiError(
        f"this request can't be understood: {listed}.",
        code="request_invalid",
        status=422,
        hint="Nothing was done. /api/v1/openapi.json says what it takes.",
        errors=errors,
    )
