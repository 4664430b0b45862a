"""Runs `step.http_call`: a request per event, concurrent across keys, in order within one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from connectors.batch import Column
from connectors.errors import PenstockError
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.steps.http_answers import Answer, Call, details_of, error_of_exception, result_of
from transforms.steps.http_client import HttpClient
from transforms.steps.http_guard import fixed_host
from transforms.steps.http_limits import limits_of
from transforms.steps.http_requests import Request, RequestMaker
from transforms.steps.http_settings import HttpCallSettings


class HttpCallStep:
    """The step. Its output is the answer's body; `.status` and `.headers` are beside it."""

    has_output = True

    def __init__(self, settings: HttpCallSettings, environment: StepEnvironment) -> None:
        self._settings = settings
        self._name = environment.name
        self._maker = RequestMaker(settings)
        auth = settings.auth
        named = (
            [auth.bearer, auth.password, auth.client_secret, *auth.params.values()] if auth else []
        )
        fixed = [text for text in settings.headers.values() if "{{" not in text]
        self._secrets = tuple(text for text in (*named, *fixed) if text and len(text) > 3)
        self._host_is_ours = fixed_host(settings.url) is not None
        limits = limits_of(settings, environment.common)
        self._client = HttpClient(settings, environment.folder, limits)
        self._open = True

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Call for each event and wait for all answers."""
        requests, errors = self._maker.requests(executions, indexes)
        executions.failures.update(errors)
        outputs: dict[int, object] = {}
        details = self._details(executions)
        settings = self._settings

        def done(request: Request, answer: Answer | Exception) -> None:
            index = request.index
            tokens = self._client.tokens
            secrets = self._secrets if tokens is None else (*self._secrets, *tokens.seen)
            call = Call(request.method, request.url, secrets, self._host_is_ours)
            if isinstance(answer, Exception):
                executions.failures[index] = error_of_exception(answer, call, settings.timeout)
                return
            details[index] = details_of(answer)
            try:
                outputs[index] = result_of(
                    answer,
                    call,
                    error_on_status=settings.error_on_status,
                    now=datetime.now(timezone.utc),
                    response_format=settings.response_format,
                )
            except PenstockError as error:
                executions.failures[index] = error

        self._client.send(_chains(requests, executions.turn_column()), done)
        return [outputs.get(index, UNSET) for index in indexes]

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
