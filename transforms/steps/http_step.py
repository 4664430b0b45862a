"""Runs `step.http_call`: a request per event, concurrent across keys, in order within one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from connectors.batch import Column
from connectors.errors import PenstockError
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.steps.http_answers import Answer, Call, details_of, error_of_exception, result_of
from transforms.steps.http_breaker import RefusedError, breakers_of, refusal
from transforms.steps.http_client import HttpClient
from transforms.steps.http_fallback import Cached, Given, Static
from transforms.steps.http_guard import fixed_host
from transforms.steps.http_limits import limits_of
from transforms.steps.http_requests import Request, RequestMaker
from transforms.steps.http_settings import HttpCallSettings
from transforms.steps.idempotent import step_key


class HttpCallStep:
    """The step. Its output is the answer's body; `.status` and `.headers` are beside it."""

    has_output = True

    def __init__(self, settings: HttpCallSettings, environment: StepEnvironment) -> None:
        self._settings = settings
        self._name = environment.name
        self._maker = RequestMaker(settings, step_key(settings, environment))
        auth = settings.auth
        named = (
            [auth.bearer, auth.password, auth.client_secret, *auth.params.values()] if auth else []
        )
        fixed = [text for text in settings.headers.values() if "{{" not in text]
        self._secrets = tuple(text for text in (*named, *fixed) if text and len(text) > 3)
        self._host_is_ours = fixed_host(settings.url) is not None
        self._breakers = breakers_of(settings, environment)
        breaker = settings.circuit_breaker
        fallback = None if self._breakers is None or breaker is None else breaker.fallback
        self._static = Static(fallback) if fallback and fallback.type == "static" else None
        self._cached = Cached(fallback) if fallback and fallback.type == "cached" else None
        self._holds = settings.may_hold
        limits = limits_of(settings, environment.common)
        self._client = HttpClient(
            settings, environment.folder, limits, self._breakers, self._as_error
        )
        self._open = True

    @property
    def status(self) -> str:
        """What the operator should know of its circuits."""
        return "" if self._breakers is None else self._breakers.status

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Call for each event and wait for all answers."""
        requests, errors = self._maker.requests(executions, indexes)
        executions.failures.update(errors)
        outputs: dict[int, object] = {}
        details = self._details(executions)
        refused: list[int] = []

        def done(request: Request, answer: Answer | Exception) -> None:
            index = request.index
            try:
                if isinstance(answer, RefusedError) and self._static is not None:
                    refused.append(index)
                elif isinstance(answer, RefusedError):
                    outputs[index], details[index] = self._instead(request, answer)
                elif isinstance(answer, Exception):
                    executions.failures[index] = self._error(request, answer)
                else:
                    details[index] = details_of(answer)
                    outputs[index] = self._result(request, answer)
                    if self._cached is not None and 200 <= answer.status < 300:
                        given = (outputs[index], details[index])
                        self._cached.remember(request, given, len(answer.body))
            except PenstockError as error:
                executions.failures[index] = error

        self._client.send(_chains(requests, executions.turn_column()), done)
        if refused and self._static is not None:
            refused.sort()
            bodies, errors = self._static.column(executions, refused)
            executions.failures.update(errors)
            outputs.update(zip(refused, bodies, strict=True))
            for index in refused:
                details[index] = self._static.details
        return [outputs.get(index, UNSET) for index in indexes]

    def _result(self, request: Request, answer: Answer) -> object:
        return result_of(
            answer,
            self._call(request),
            error_on_status=self._settings.error_on_status,
            now=datetime.now(timezone.utc),
            response_format=self._settings.response_format,
        )

    def _instead(self, request: Request, refused: RefusedError) -> Given:
        """Return what there is from earlier. Raises what it means that there is nothing."""
        found = None if self._cached is None else self._cached.recall(request)
        if found is None:
            raise refusal(refused, self._call(request), holds=self._holds)
        return found

    def _as_error(self, request: Request, answer: Answer | Exception) -> Answer | PenstockError:
        return self._error(request, answer) if isinstance(answer, Exception) else answer

    def _error(self, request: Request, error: Exception) -> PenstockError:
        return error_of_exception(error, self._call(request), self._settings.timeout)

    def _call(self, request: Request) -> Call:
        tokens = self._client.tokens
        secrets = self._secrets if tokens is None else (*self._secrets, *tokens.seen)
        return Call(request.method, request.url, secrets, self._host_is_ours)

    def _details(self, executions: Executions) -> Column:
        """Return the batch's column of statuses and headers; None where there was no call."""
        column = executions.details.get(self._name)
        if column is None:
            column = executions.details[self._name] = [None] * executions.events.size
        return column

    def close(self) -> None:
        """Close the connections."""
        if self._open:
            self._open = False
            self._client.close()


def _chains(requests: Sequence[Request], keys: Column) -> list[list[Request]]:
    """Return the requests, those of one key in one chain; without a key each is its own."""
    chains: dict[object, list[Request]] = {}
    for request in requests:
        key = keys[request.index]
        # An index is an int and a key a str, so they never meet.
        chains.setdefault(request.index if key is None else key, []).append(request)
    return list(chains.values())
