"""`step.request_parse` and `step.json_response`: for pipelines that answer HTTP requests.

The first takes a request apart that a `source.http` with `format: request` has made an event of; the
second says what is answered. It sends nothing itself: its output is the answer, which the server gives to
whoever waits once the execution is settled (`flows/runtime/answering.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import orjson
from annotated_types import Ge, Le
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Path, Settings, Template, TemplateValue
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.expressions import View, compile_template, compile_value
from transforms.steps.inputs import input_path


class RequestParseSettings(Settings):
    """Configuration of `step.request_parse`."""

    path_params: list[str] = Field(default=[])
    """Parameters of the path to take over, such as `id` in `/orders/{id}`."""
    query_params: list[str] = Field(default=[])
    """Parameters of the query to take over."""
    parse_headers: list[str] = Field(default=[])
    """Headers to take over."""
    parse_body: bool = False
    """Whether the body is taken over."""
    format: Literal["auto", "json", "form", "text"] = "auto"
    """What the body holds; `auto` goes by its content type."""
    merge_body: bool = False
    """Whether the body's fields stand beside the parameters, and not under `body`."""


class JsonResponseSettings(Settings):
    """Configuration of `step.json_response`."""

    status: Annotated[int, Ge(200), Le(599)] = 200
    """The answer's status."""
    status_from: Path | None = None
    """Where in the context the status is; wins over `status`."""
    headers: dict[str, Template] = Field(default={})
    """The answer's headers."""
    body: TemplateValue = None
    """The answer's body."""
    body_from: Path | None = None
    """Where in the context the body is."""

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.body_from is not None:
            raise ValueError("body or body_from, not both")
        return self


class RequestParseStep:
    """Outputs `path_params`, `query`, `headers` and `body`, each if it is asked for."""

    has_output = True

    def __init__(self, settings: RequestParseSettings, env: StepEnvironment) -> None:
        self._settings = settings
        self._name = env.name

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one object per event; its parts are `.steps.<name>.path_params` and so on, too."""
        data = executions.events.column("data")
        details = executions.details.setdefault(self._name, [None] * executions.events.size)
        outputs: Column = []
        for index in indexes:
            try:
                details[index] = found = self._parse(data[index])
                outputs.append(found)
            except PenstockError as error:
                executions.failures[index] = error
                outputs.append(None)
        return outputs

    def _parse(self, request: Any) -> dict[str, Any]:
        settings = self._settings
        if not isinstance(request, dict) or not {"method", "path_params", "body"} <= request.keys():
            raise PermanentError(
                "the event's data is not a whole request.",
                code="not_a_request",
                hint="Give its source.http `format: request`.",
            )
        found: dict[str, Any] = {}
        if settings.path_params:
            found["path_params"] = _named(settings.path_params, request["path_params"])
        if settings.query_params:
            found["query"] = _named(settings.query_params, request["query"])
        if settings.parse_headers:
            headers = request["headers"]
            found["headers"] = {name: headers.get(name.lower()) for name in settings.parse_headers}
        if settings.parse_body or settings.merge_body:
            body = self._body(request["body"])
            if settings.merge_body and isinstance(body, dict):
                # What the route says wins over what the sender put into the body.
                found = {**body, **found}
            else:
                found["body"] = body
        return found

    def _body(self, body: Any) -> Any:
        wanted = self._settings.format
        if wanted == "auto" or (wanted == "json" and not isinstance(body, str)):
            return body
        if wanted == "text":
            return body if isinstance(body, str) else orjson.dumps(body).decode()
        if wanted == "form":
            if isinstance(body, dict):
                return body
            pairs = parse_qs(str(body or ""), keep_blank_values=True)
            return {name: many[0] if len(many) == 1 else many for name, many in pairs.items()}
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise PermanentError(
                f"the request's body is not JSON: {error.msg} at character {error.pos}.",
                code="request_body_invalid",
                hint="format says how the body is read.",
            ) from None

    def close(self) -> None:
        """Nothing is held."""


def _named(names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name in names}


class JsonResponseStep:
    """Outputs the answer: `status`, `headers`, `body`."""

    has_output = True

    def __init__(self, settings: JsonResponseSettings, env: StepEnvironment) -> None:
        self._status = settings.status
        self._status_from = _reader(settings.status_from, env)
        self._body_from = _reader(settings.body_from, env)
        self._body = compile_value(settings.body)
        self._headers = {k.lower(): compile_template(v) for k, v in settings.headers.items()}

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one answer per event."""
        outputs: Column = []
        for index in indexes:
            try:
                outputs.append(self._answer(executions, index))
            except PenstockError as error:
                executions.failures[index] = error
                outputs.append(None)
        return outputs

    def _answer(self, executions: Executions, index: int) -> dict[str, Any]:
        view = View(executions, index)
        body = (
            self._body.render(view)
            if self._body_from is None
            else self._body_from(executions, index)
        )
        status: Any = self._status
        if self._status_from is not None:
            status = self._status_from(executions, index)
            if isinstance(status, str) and status.isdigit():
                status = int(status)
            if type(status) is not int or not 200 <= status <= 599:
                raise PermanentError(
                    f"the answer's status is {str(status)[:40]!r}.",
                    code="answer_status",
                    hint="status_from must lead to a number from 200 to 599.",
                )
        headers = {}
        for name, template in self._headers.items():
            text = template.render(view, required=True)
            if not text.isascii() or any(ord(each) < 0x20 for each in text):
                raise PermanentError(
                    f"the answer's header {name} is not one line of ASCII.",
                    code="answer_header",
                    hint="HTTP headers hold nothing else.",
                )
            headers[name] = text
        return {"status": status, "headers": headers, "body": body}

    def close(self) -> None:
        """Nothing is held."""


def _reader(text: str | None, env: StepEnvironment) -> Any:
    """Return what reads a path for one event. Raises PermanentError where there is nothing."""
    if text is None:
        return None
    path = input_path(text, env)

    def read(executions: Executions, index: int) -> Any:
        if path is None:
            return executions.events.column("data")[index]
        values, errors = path.column(executions, [index])
        if errors:
            raise next(iter(errors.values()))
        value = values[0]
        return None if value is UNSET else value

    return read


REQUEST_PARSE = StepType(
    "step.request_parse",
    RequestParseSettings,
    "Take parameters and body from an HTTP request.",
    make=RequestParseStep,
)
JSON_RESPONSE = StepType(
    "step.json_response",
    JsonResponseSettings,
    "Answer an HTTP request with JSON.",
    make=JsonResponseStep,
)
